#!/bin/sh
# unchrooted.sh COMMAND…: run it with mounts of its own, and out of a chroot, if this is one.
#
# Who changes roots himself, as buildah does, can't in a chroot: its / is no mount point. So / is
# mounted on itself, and what only a path through ".." sees of that becomes the root; nsenter,
# alone, sees the one that there was. (tests/machine/machine.sh does the same.)
set -e
own="nsenter --mount=/proc/self/ns/mnt --wd=/"
case ${unchrooted:-} in
"")
	unchrooted=1 exec unshare --mount --propagation unchanged sh "$0" "$@"
	;;
1)
	$own mount --make-rprivate /
	if ! mountpoint -q /; then
		mount --rbind / /
		unchrooted=2 exec chroot /.. sh "$0" "$@"
	fi
	;;
2)
	$own pivot_root . mnt
	umount -l /mnt
	;;
esac
unset unchrooted
exec "$@"
