"""systemd's own things, each in one place: its grammar, its answers, its descriptors."""
