"""What nginx and Apache have answered lately, by their access logs in the usual format."""

import re
import time
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from sdactivate.doctor import front_log_files
from sdactivate.doctor.finding import Case
from sdactivate.doctor.host_state import InstalledFront, tail

NOT_FOUND = 404

_HOUR = 3600  # seconds
_ACCESS = re.compile(
    r'\[(?P<when>[^\]]+)\] "(?:GET|HEAD) (?P<path>/[^\s?"]*)[^"]*" (?P<status>\d{3}) '
)


class Answered(NamedTuple):
    """A request that a front has answered lately, by its access log."""

    when: float
    path: str
    status: int


def answered(case: Case, installed: InstalledFront, since: float = 0.0) -> list[Answered]:
    """Return what nginx or Apache has answered to GET and HEAD in the last hour, and after `since`.

    From its access logs in the usual format. since: seconds of the epoch.
    """
    once = case.running.machine.once
    texts = case.running.machine.configuration(installed).files.values()
    files = partial(front_log_files.access_logs, installed.front, installed.packaging, texts)
    found = once(("answered", installed.packaging.unit), lambda: read_access_logs(files()))
    # A log has whole seconds
    return [it for it in found if it.when >= int(since)] if since else found


def read_access_logs(files: Iterable[str]) -> list[Answered]:
    """Return what a front has answered in the last hour."""
    found = []
    for file in files:
        for hit in filter(None, map(_ACCESS.search, tail(file))):
            try:
                when = datetime.strptime(hit["when"], "%d/%b/%Y:%H:%M:%S %z").timestamp()
            except ValueError:
                continue
            if when > time.time() - _HOUR:
                found.append(Answered(when, hit["path"], int(hit["status"])))
    return found
