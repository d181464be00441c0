#!/bin/sh
# machine.sh VERB WORK ROOT PREFIX SITE …: what a machine is made of, in mounts. Called by machine.py.
#
# ROOT (a directory; / is this very system) is read through an overlay, so nothing is written to it:
# what is written lies in memory, under WORK, and is gone with the mount namespace. PREFIX is shown in
# it as /opt/sdactivate, SITE as /srv/mysite.
#
#   install … COMMAND…   run COMMAND in ROOT; what it writes to PREFIX and SITE stays
#   boot … CGROUP        become a machine whose PID 1 is ROOT's own systemd, with its own processes,
#                        mounts, network (loopback only), IPC, host name and cgroups (under CGROUP)
set -eu
verb=$1 work=$2 root=$3 prefix=$4 site=$5

namespaces() {
	set -- sh "$0" "$@"
	if [ "$verb" = boot ]; then
		echo $$ >"$8/cgroup.procs"
		set -- --pid --fork --kill-child --uts --ipc --net --cgroup "$@"
	fi
	inside=1 exec unshare --mount --propagation unchanged "$@"
}

# A process in a chroot can make neither a mount private, nor a user namespace (PrivateUsers=), nor
# pivot_root. So leave it: mount / on itself, step onto that mount, which only a path through ".."
# sees, and make it the root of our mount namespace. nsenter, alone, sees the one that there was.
leave_the_chroot() {
	old="nsenter --mount=/proc/self/ns/mnt --wd=/"
	case $inside in
	1)
		$old mount --make-rprivate /
		mount --rbind / /
		inside=2 exec chroot /.. sh "$0" "$@"
		;;
	2)
		$old pivot_root . mnt
		umount -l /mnt
		;;
	esac
}

overlay() {
	mount -t tmpfs -o mode=755 machine "$work"
	mkdir "$work/up" "$work/work" "$work/root"
	mount -t overlay -o "lowerdir=$root,upperdir=$work/up,workdir=$work/work" machine "$work/root"
	cd "$work/root"
	mkdir -p opt/sdactivate srv/mysite
}

# The way to a package index is the host's: its resolver, its certificates, its pip settings.
install() {
	mount --bind "$prefix" opt/sdactivate
	mount --bind "$site" srv/mysite
	mount --rbind /proc proc
	mount --rbind /sys sys
	mount --rbind /dev dev
	mount -t tmpfs tmpfs tmp
	for file in /etc/resolv.conf /etc/hosts /etc/pip.conf "${PIP_CERT:-}" "${SSL_CERT_FILE:-}"; do
		if [ "$root" != / ] && [ -f "$file" ]; then
			mkdir -p ".${file%/*}"
			cp -L --remove-destination "$file" ".$file"
		fi
	done
	PIP_NO_CACHE_DIR=1 exec chroot . "$@"
}

# What a container gets of the kernel: only harmless devices, no sysctl but the network's (and, below,
# neither modules nor the clock).
kernel() {
	mount -t proc proc proc
	mount --bind proc/sys/net mnt
	mount --bind proc/sys proc/sys
	mount -o remount,bind,ro proc/sys
	mount --move mnt proc/sys/net
	mount -t sysfs -o ro sysfs sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	mount -t tmpfs -o mode=755 dev dev
	mkdir dev/pts dev/shm
	mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts dev/pts
	mount -t tmpfs -o mode=1777 shm dev/shm
	for node in null zero full random urandom tty; do
		touch dev/$node
		mount --bind /dev/$node dev/$node
	done
	ln -s pts/ptmx dev/ptmx
	ln -s /proc/self/fd dev/fd
	ln -s /proc/self/fd/0 dev/stdin
	ln -s /proc/self/fd/1 dev/stdout
	ln -s /proc/self/fd/2 dev/stderr
}

# A machine of its own: nothing that is enabled on ROOT starts, it keeps its own journal, and mysite
# is no user until systemd makes one.
target() {
	sed -i '/^mysite:/d' etc/passwd etc/group etc/shadow etc/gshadow
	rm -rf var/log/journal etc/systemd/system/*.wants
	# Nor is there a site, though the README may have been followed on ROOT.
	rm -rf etc/systemd/system/mysite* etc/sdactivate var/lib/sdactivate var/lib/mysite
	echo machine >etc/hostname
	# Without an identity systemd takes this for the first boot, and enables all that is installed.
	tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
	cat >etc/systemd/system/machine.target <<-END
		[Unit]
		Requires=basic.target dbus.socket
		After=basic.target dbus.socket
		AllowIsolate=yes
	END
}

boot() {
	mount --bind "$prefix" opt/sdactivate
	mount -o remount,bind,ro opt/sdactivate
	rm -rf srv/mysite && mkdir srv/mysite
	cp -a "$site/." srv/mysite
	kernel
	for dir in tmp var/tmp; do
		mount -t tmpfs -o mode=1777 tmpfs $dir
	done
	mount -t tmpfs -o mode=755 tmpfs run
	target
	mkdir run/old
	pivot_root . run/old
	umount -l /run/old
	# systemd leaves this to the container's manager; without it LoadCredential= shows empty directories.
	mount --make-rshared /
	exec env -i container=machine PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		setpriv --bounding-set=-sys_module,-sys_time \
		/lib/systemd/systemd --system --unit=machine.target --show-status=no --log-target=journal
}

[ "${inside:-}" ] || namespaces "$@"
if [ "$inside" = 1 ] && mountpoint -q /; then
	mount --make-rprivate /
else
	leave_the_chroot "$@"
fi
unset inside
overlay
shift 5
$verb "$@"
