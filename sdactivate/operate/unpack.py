"""A program that unpacks a tar of a site's code, within limits and in the build's sandbox.

It runs as `python -I -S -c TEXT-OF-THIS-FILE DIRECTORY`, so it must need nothing but the standard
library. It reads the archive, compressed or not, from standard input. So untrusted archives are
never decompressed or parsed with root's rights.
"""

import os
import sys
import tarfile
from typing import BinaryIO

MOST_BYTES = 16 << 30
"""The limit for the total size of a release's files, in bytes."""
MOST_FILES = 1_000_000
"""The limit for files, directories and links of a release."""
DEEPEST = 100
"""The limit for nested directories."""


class Refused(Exception):
    """The archive has a member that is not allowed in a release, or is not a valid archive."""


def unpack(archive: BinaryIO, directory: str) -> str:
    """Unpack `archive` into the empty `directory`; return the commit that git recorded, or "".

    Files get the mode 0644 or 0755 and their time of modification; owners are ignored. Raises
    Refused for a member that is not a plain file, directory or link that stays inside, for one
    below a link, for duplicates, if a limit is exceeded, and if it is not a tar archive; OSError
    for a full disk.
    """
    kinds: dict[tuple[str, ...], bytes] = {(): b"d"}
    total = 0
    commit = ""
    try:
        with tarfile.open(fileobj=archive, mode="r|*") as members:
            for member in members:
                commit = member.pax_headers.get("comment", commit)
                total += max(0, member.size)
                if total > MOST_BYTES or len(kinds) > MOST_FILES:
                    raise Refused(
                        f"the archive has more than {MOST_BYTES >> 30} GiB or {MOST_FILES} files"
                    )
                _unpack_one(members, member, directory, kinds)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise Refused(f"the tar archive is damaged or incomplete: {error}") from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 raise it for damaged data
            raise Refused(f"the tar archive is damaged or incomplete: {error}") from None
        raise
    except Exception as error:
        # lzma and zlib have their own exceptions, and these modules may be missing
        if type(error).__module__ in ("_lzma", "lzma", "zlib", "_zstd", "compression.zstd"):
            raise Refused(f"the tar archive is damaged or incomplete: {error}") from None
        raise
    if len(kinds) == 1:
        raise Refused("the archive is empty")
    return commit


def _unpack_one(
    members: tarfile.TarFile,
    member: tarfile.TarInfo,
    directory: str,
    kinds: "dict[tuple[str, ...], bytes]",
) -> None:
    parts = _parts(member.name)
    kind = b"d" if member.isdir() else b"l" if member.issym() else b"f"
    if parts in kinds:
        if kind == kinds[parts] == b"d":
            return
        raise Refused(f"{member.name!r} is in the archive twice")
    for depth in range(1, len(parts)):
        above = parts[:depth]
        if above not in kinds:
            os.mkdir(os.path.join(directory, *above), 0o755)
            kinds[above] = b"d"
        elif kinds[above] != b"d":
            raise Refused(
                f"{member.name!r} lies below {'/'.join(above)!r}, which is not a directory"
            )
    path = os.path.join(directory, *parts)
    kinds[parts] = kind
    if member.isdir():
        os.mkdir(path, 0o755)
    elif member.issym():
        if not stays_inside(parts, member.linkname):
            raise Refused(f"{member.name!r} is a link to {member.linkname!r}, outside the release")
        os.symlink(member.linkname, path)
    elif member.isreg():
        _write(members, member, path)
    elif member.islnk():
        raise Refused(
            f"{member.name!r} is a hard link to {member.linkname!r}; "
            "pack with `tar --hard-dereference`"
        )
    else:
        raise Refused(f"{member.name!r} is a device, a FIFO or the like; leave it out")


def _parts(name: str) -> "tuple[str, ...]":
    """The components of a member's name. Raises Refused for a name that would lie outside."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts:
        raise Refused(f"{name!r} would lie outside the release; pack relative names without '..'")
    if "\0" in name or len(os.fsencode(name)) > 3000 or len(parts) > DEEPEST:
        raise Refused(f"{name[:80]!r}: this name is too long, or nested too deeply")
    return parts


def stays_inside(parts: "tuple[str, ...]", target: str) -> bool:
    """Return whether a link at `parts` to `target` stays inside, judged by the names alone."""
    if not target or target.startswith("/") or "\0" in target:
        return False
    depth = len(parts) - 1
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return False
    return True


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    source = members.extractfile(member)
    if source is None:
        raise Refused(f"{member.name!r} has no content")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as target:
        while data := source.read(1 << 20):
            target.write(data)
        target.flush()
        os.fchmod(target.fileno(), 0o755 if member.mode & 0o100 else 0o644)
        time = min(max(0, int(member.mtime)), 0xFFFFFFFF)
        os.utime(target.fileno(), (time, time))


if __name__ == "__main__":
    try:
        print(unpack(sys.stdin.buffer, sys.argv[1]))
    except (Refused, OSError) as error:
        sys.exit(str(error))
