#!/bin/sh
# openrc.sh DIRECTORY: be the first process of a machine that OpenRC runs, in namespaces of its own:
#
#   unshare --mount --pid --fork --kill-child --propagation unchanged sh openrc.sh DIRECTORY
#
# DIRECTORY, below /run, is seen from both sides. The file "mysite" in it is its one init script.
# Commands come on standard input, one on a line; the answer to each is its exit status on a line.
set -e
# Seen from where / is a mount point, as it is in no chroot.
nsenter --mount=/proc/self/ns/mnt mount --make-rprivate /
mount -t proc proc /proc
mount --rbind "$1" /mnt
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$1"
mount --move /mnt "$1"
mount -t tmpfs -o mode=755 tmpfs /etc/init.d
mount -t tmpfs -o mode=755 tmpfs /var/log
# as OpenRC's own init.sh has them
for state in starting started stopping inactive wasinactive failed hotplugged daemons options \
	exclusive scheduled init.d tmp; do
	mkdir -p "/run/openrc/$state"
done
echo default >/run/openrc/softlevel
set +e
while read -r line; do
	sh -c "$line" </dev/null >&2
	echo $?
done
