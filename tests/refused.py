"""A file system that refuses even root: FUSE, mounted by a user in a namespace of their own."""

import ctypes
import os
import sys

OPTIONS = "fd={},rootmode=40000,user_id=0,group_id=0"


def mount(device: str, place: str) -> None:
    """Mount FUSE at `place`, served by nobody: the kernel refuses other users without asking."""
    fuse = os.open(device, os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bad", place.encode(), b"fuse", 0, OPTIONS.format(fuse).encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)


if __name__ == "__main__":
    mount(*sys.argv[1:])
    print("mounted", flush=True)
    sys.stdin.read()
