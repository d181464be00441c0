"""Which of the files that systemd reads at a start only have changed since (`read_at_start`).

systemd reads EnvironmentFile= when it starts a process, and LoadCredential= when it starts a
service (from version 260 also at a reload, if the unit says so). A successor inherits its
predecessor's environment, so a reload brings new code in and leaves these as they were.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


def changed(paths: Iterable[str], since: float) -> dict[str, float]:
    """Return those of `paths` that have changed since then, and when, in seconds of the epoch.

    A file counts by its change time (inode(7), st_ctime), so that one that was moved into its
    place with an older date is noticed. One that can't be looked at from here is left out.
    """
    found = {}
    for path in paths:
        try:
            moment = os.stat(path).st_ctime
        except OSError:
            continue
        if moment > since:
            found[path] = moment
    return found
