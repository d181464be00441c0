"""Write files atomically, and overwrite only files that this kit wrote."""

import glob
import grp
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sdactivate.errors import Error
from sdactivate.generate.output import File
from sdactivate.generate.render import SIGNATURE


def write(directory: Path, files: Iterable[File], force: bool = False) -> list[File]:
    """Write `files` below `directory` and return those that are new or have changed.

    Unchanged files are not touched. Each file gets its name only when it is complete. Before the
    first one does, all existing files have been checked and all new ones written to the same file
    system, so a full disk changes nothing. Nothing is synced: after a power failure, the next run
    writes what is missing again.

    Raises Error for an existing file that sdactivate did not write, unless `force`, and OSError
    if the file system refuses.
    """
    changed = {path: file for file in files if not _is_there(path := directory / file.name, file)}
    if not force:
        for path in changed:
            refuse_foreign(path)
    for folder in {path.parent for path in changed}:
        folder.mkdir(parents=True, exist_ok=True)
    drafts: dict[Path, str] = {}
    try:
        for path, file in changed.items():
            drafts[path] = _draft(path, file)
        for path in changed:
            _rename(drafts[path], path)
            del drafts[path]
    finally:
        for draft in drafts.values():
            with suppress(FileNotFoundError):
                os.unlink(draft)
    return list(changed.values())


def _is_there(path: Path, file: File) -> bool:
    try:
        same = path.lstat().st_mode == stat.S_IFREG | file.mode
        return same and path.read_bytes() == file.text.encode()
    except FileNotFoundError:
        return False


def read(path: Path) -> bytes | None:
    """Return the content of the file at `path`; None if there is none.

    Raises Error if it is not a regular file: a symbolic link leads to a file that is not ours.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Error(f"{path} exists and is not a regular file; move it away")
        return path.read_bytes()
    except FileNotFoundError:
        return None


def refuse_foreign(path: Path) -> None:
    """Raise Error if there is anything at `path` that sdactivate did not write."""
    data = read(path)
    if data is not None and SIGNATURE.encode() not in data[:512]:
        raise Error(
            f"{path} exists and was not written by sdactivate; move it away, or overwrite it with "
            "--force"
        )


_SUFFIX = ".sdactivate-draft"


def remove(path: Path) -> bool:
    """Remove the file or link at `path`, with its drafts; return whether there was one."""
    remove_drafts(path)
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def remove_drafts(path: Path) -> None:
    """Remove the drafts of the file or link at `path` that a killed process left behind."""
    for draft in path.parent.glob(f".{glob.escape(path.name[:64])}.*{_SUFFIX}"):
        draft.unlink(missing_ok=True)


def replace(path: Path, file: File, sync: bool = False) -> None:
    """Replace the file at `path` by `file` atomically: a reader sees the old text or the new.

    With `sync` it is on the disk before it gets the name. Raises OSError.
    """
    draft = _draft(path, file, sync)
    try:
        _rename(draft, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise
    if sync:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _rename(draft: str, path: Path) -> None:
    """Rename `draft` to `path`. Raises OSError, which names `path`: the draft is internal."""
    try:
        os.replace(draft, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _draft(path: Path, file: File, sync: bool = False) -> str:
    """Write `file` beside `path`; return the draft's name. Raises OSError, which names `path`."""
    draft = ""
    try:
        descriptor, draft = tempfile.mkstemp(_SUFFIX, f".{path.name[:64]}.", path.parent)
        with open(descriptor, "wb") as stream:
            stream.write(file.text.encode(errors="surrogateescape"))
            stream.flush()
            if file.group:
                os.fchown(descriptor, -1, grp.getgrnam(file.group).gr_gid)
            os.fchmod(descriptor, file.mode)
            if sync:
                os.fsync(descriptor)
    except BaseException as error:
        if draft:
            os.unlink(draft)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return draft


def link(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target` atomically.

    Raises Error if `path` exists and is not a link, and OSError.
    """
    if path.exists() and not path.is_symlink():
        raise Error(f"{path} exists and is not a symbolic link; move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(path)
    draft = path.with_name(f".{path.name[:64]}.{os.getpid()}{_SUFFIX}")
    draft.symlink_to(target)
    try:
        _rename(str(draft), path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
