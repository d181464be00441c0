"""Paths of the machine itself: no line that the doctor writes gives a site access to them.

Devices are recognized only by name, so that the result is also right for another machine.
"""

import posixpath
from fnmatch import fnmatchcase

_SYSTEM = (
    *("/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/opt", "/run/systemd", "/root"),
    *("/efi", "/proc", "/sys", "/dev"),
)
"""Directories with all their contents."""
_SHARED = (
    *("/", "/var", "/var/lib", "/var/log", "/var/cache", "/srv", "/run", "/mnt", "/media", "/home"),
)
"""Directories without their contents, which may belong to a site."""

_DISKS = (
    *("sd[a-z]*", "hd[a-z]*", "vd[a-z]*", "xvd*", "nvme*", "mmcblk*", "dasd*", "pmem*", "sr[0-9]*"),
    *("loop*", "dm-*", "md[0-9]*", "md/*", "mapper/*", "nbd*", "rbd*", "drbd*", "zd[0-9]*", "ram*"),
    *("zram*", "bcache*", "mtd*", "ubi*", "disk/*", "block/*", "raw/*", "root", "btrfs-control"),
)
_CONTROLLERS = (
    *("sg[0-9]*", "bsg/*", "ng[0-9]*", "megaraid*", "mpt*ctl", "twa*", "aac*", "cciss*"),
    *("ipmi*", "mei*", "watchdog*"),
)
_OF_THE_KERNEL = (
    *("mem", "kmem", "port", "nvram", "cpu/*", "snapshot", "cuse", "userfaultfd"),
    # Simulated input devices, and virtual machines
    *("uinput", "uhid", "kvm", "vhost-*", "vfio/*"),
)


def is_the_system(directory: str) -> bool:
    """Return whether a directory belongs to the system, or is shared with other programs.

    directory: absolute, without links.
    """
    directory = _plain(directory)
    in_system = any(directory == top or directory.startswith(f"{top}/") for top in _SYSTEM)
    return in_system or directory in _SHARED


def commands_the_machine(device: str) -> bool:
    """Return whether a device reads disks or memory, or controls hardware or the kernel.

    device: its absolute path. Returns False for paths outside /dev.
    """
    name = _plain(device).removeprefix("/dev/")
    return any(fnmatchcase(name, it) for it in (*_DISKS, *_CONTROLLERS, *_OF_THE_KERNEL))


def _plain(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")  # normpath keeps two leading slashes
