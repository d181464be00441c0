"""systemd's own interfaces: unit files, systemctl, sd_listen_fds, sd_notify, control groups."""
