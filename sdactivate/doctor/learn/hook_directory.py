"""Make the directory with hook.py that a watched Python has in PYTHONPATH, and remove old ones."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sdactivate.doctor.learn import hook
from sdactivate.doctor.learn.watch import HOOK

_OLD = 24 * 3600  # seconds; no command is watched for so long


@contextmanager
def made(prefix: str = HOOK) -> Iterator[str]:
    """Make the directory, which everyone can read, and remove it at the end.

    Old directories are removed first: a process that was killed has left its own behind.
    """
    remove_left(prefix)
    parent, _, name = prefix.rpartition("/")
    with tempfile.TemporaryDirectory(dir=parent or "/", prefix=name) as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - nothing but the hook is in it
        file = Path(directory, "sitecustomize.py")
        file.write_bytes(Path(hook.__file__).read_bytes())
        os.chmod(file, 0o644)
        yield directory


def remove_left(prefix: str = HOOK) -> None:
    """Remove our own directories that are older than a day. Others may be in use."""
    parent, _, name = prefix.rpartition("/")
    for path in Path(parent or "/").glob(f"{name}*"):
        with suppress(OSError):  # another process removes it, too
            about = path.lstat()
            is_ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()
            if is_ours and about.st_mtime < time.time() - _OLD:
                shutil.rmtree(path)
