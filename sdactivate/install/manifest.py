"""The record of what install wrote: /var/lib/sdactivate/NAME.json."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sdactivate.errors import Error
from sdactivate.fronts import FRONTS, file_name
from sdactivate.generate.output import File
from sdactivate.install import atomic_write
from sdactivate.install.front import Place
from sdactivate.install.manager import Manager

PLACING = "+"
"""Before a digest: the front's file may exist, but the front may not have read it yet."""


class Record(NamedTuple):
    """What was installed for a site: the files, each with the digest of its text."""

    path: Path
    files: dict[str, str]
    root: Path = Path("/")
    """The image's root. Its record has paths inside the image, which may be moved or booted."""
    places: tuple[Place, ...] = ()
    """Where the site's front files are; two places while the site moves to another front."""

    @classmethod
    def load(cls, manager: Manager, name: str) -> "Record":
        """Return the record of the site; an empty one if there is none.

        The paths in an image's record are resolved inside the image. Raises Error for a record that
        can't be parsed, or is not a regular file.
        """
        path = manager.state / f"{name}.json"
        if (data := atomic_write.read(path)) is None:
            return cls(path, {}, manager.root)
        try:
            content = json.loads(data)
            files = dict(content["files"])
            if not all(map(os.path.isabs, files)):
                raise ValueError
            found = {_place(manager, one): known for one, known in files.items()}
            places = tuple(
                Place(FRONTS[front], distribution, file_name(name))
                for front, distribution in content.get("fronts", ())
            )
            return cls(path, found, manager.root, places)
        except (ValueError, KeyError, TypeError):
            raise Error(
                f"{path} is damaged or was changed; move it away and install again"
            ) from None

    def save(self) -> None:
        """Write the record atomically and synced, or remove it if it lists no files."""
        if not self.files:
            atomic_write.remove(self.path)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files = {str("/" / Path(one).relative_to(self.root)): it for one, it in self.files.items()}
        content: dict[str, object] = {"files": files}
        if self.places:
            content["fronts"] = [[place.front.name, place.distribution] for place in self.places]
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        atomic_write.replace(self.path, File(self.path.name, text), sync=True)


def _place(manager: Manager, recorded: str) -> str:
    """Return the path of a file in a record; if the file itself is a link, that of the link."""
    folder, name = os.path.split(os.path.normpath(recorded))
    return str(manager.at(folder) / name)


def of_others(manager: Manager, name: str) -> dict[Path, str]:
    """Return the files that were installed for other sites than `name`, each with its site."""
    found: dict[Path, str] = {}
    for path in manager.state.glob("*.json"):
        if path.stem != name:
            with suppress(Error):  # another site's broken record must not stop this one
                found |= dict.fromkeys(map(Path, Record.load(manager, path.stem).files), path.stem)
    return found


def digest(data: bytes) -> str:
    """Return the digest that a record has for a file's content."""
    return hashlib.sha256(data).hexdigest()


def refuse_changed(path: Path, data: bytes | None, known: str | None, keep: str = "") -> None:
    """Raise Error for a file that sdactivate did not write, or that was changed since.

    keep: how the change can be kept; "": in a drop-in.
    """
    if data is None or (known and digest(data) == known.removeprefix(PLACING)):
        return
    if known is None or known.startswith(PLACING):
        atomic_write.refuse_foreign(path)
    else:
        keep = keep or f"put the change into a drop-in (systemctl edit {path.name})"
        raise Error(
            f"{path} was changed since it was installed; {keep}, or give it up with --force"
        )
