"""Which of the files that systemd reads only at a start have changed since (`read_at_start`).

systemd reads EnvironmentFile= when it starts a process, and LoadCredential= when it starts a
service (from version 260 also at a reload, if the unit says so). A successor inherits its
predecessor's environment, so a reload loads new code but not new values from these files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


def changed(paths: Iterable[str], since: float) -> dict[str, float]:
    """Return those of `paths` that have changed since `since`, and when, in seconds of the epoch.

    The change time counts (inode(7), st_ctime), so that an older file that was moved into place is
    noticed. A file that can't be examined from here is left out.
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
