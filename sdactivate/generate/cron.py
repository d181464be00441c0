"""Translate --every to a cron schedule: Kubernetes and others don't have calendar events.

systemd.time(7) has seconds, years, last days of months and spans counted from the last run; cron
(crontab(5)) has five fields. What both can express is translated, and the rest refused, so that a
job never runs at other times than on a machine with systemd.

    Mon..Fri *-*-* 04:00  ->  0 4 * * 1-5        daily  ->  0 0 * * *
    *:0/15                ->  */15 * * * *       15min  ->  */15 * * * *

A day of the week together with a day of the month is also refused: systemd requires both to match,
cron either.
"""

import re
from typing import NamedTuple

from sdactivate.errors import UsageError
from sdactivate.generate.schedule import is_span
from sdactivate.settings import seconds

_NAMES = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONG = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_DAY = re.compile(r"[A-Za-z]+(?:(?:\.\.|,)[A-Za-z]+)*")
_DATE = re.compile(r"(?:([^ :-]+)-)?([^ :-]+)-([^ :-]+)")
_TIME = re.compile(r"([^ :-]+):([^ :-]+)(?::([^ :-]+))?")
_ITEM = re.compile(r"(?:\*|(\d+)(?:\.\.(\d+))?)(?:/(\d+))?", re.ASCII)


class Schedule(NamedTuple):
    """When a job runs."""

    cron: str
    """The five fields of the schedule."""
    zone: str = ""
    """The time zone of the schedule; "": that of the program that runs it."""


def schedule(every: str) -> Schedule:
    """Return the cron schedule for `every`, a calendar event or a span of systemd.time(7).

    Raises UsageError, which begins with the value, if cron can't express it.
    """
    if is_span(every):
        return Schedule(_span(every))
    words = _NAMES.get(every.strip().lower(), every).split()
    zone = ""
    if words and ("/" in words[-1] or words[-1] == "UTC") and re.match("[A-Z]", words[-1]):
        zone = "Etc/UTC" if words[-1] == "UTC" else words[-1]
        words = _NAMES.get(words[0].lower(), " ".join(words[:-1])).split()
    weekdays, year, month, day, hour, minute, second = "*", "*", "*", "*", "0", "0", "0"
    for word in words:
        if found := _TIME.fullmatch(word):
            hour, minute, second = found[1], found[2], found[3] or "0"
        elif found := _DATE.fullmatch(word):
            year, month, day = found[1] or "*", found[2], found[3]
        elif _DAY.fullmatch(word):
            weekdays = _weekdays(every, word)
        else:
            raise _no(every)
    if year != "*" or second.strip("0"):
        raise _no(every)
    if weekdays != "*" and day != "*":
        raise _no(every)
    fields = (
        _field(every, minute, 0, 59),
        _field(every, hour, 0, 23),
        _field(every, day, 1, 31),
        _field(every, month, 1, 12),
        weekdays,
    )
    return Schedule(" ".join(fields), zone)


def _no(every: str) -> UsageError:
    return UsageError(
        f"{every!r}: cron can't express it; choose a schedule such as daily, 'Mon 04:00', "
        "'*:0/15', or a span that divides an hour or a day, such as 15min"
    )


def _span(every: str) -> str:
    minutes, rest = divmod(seconds(every), 60)
    number = int(minutes)
    if not rest and number and 60 % number == 0 and number < 60:
        return f"*/{number} * * * *" if number > 1 else "* * * * *"
    hours, rest = divmod(number, 60)
    if rest == 0 and minutes and seconds(every) % 3600 == 0:
        if hours < 24 and 24 % hours == 0:
            return f"0 */{hours} * * *" if hours > 1 else "0 * * * *"
        if hours in (24, 168):
            return "0 0 * * *" if hours == 24 else "0 0 * * 1"
    raise _no(every)


def _weekdays(every: str, text: str) -> str:
    def number(name: str) -> int:
        for names in (_DAYS, _LONG):
            if name.lower() in names:
                return names.index(name.lower())
        raise _no(every)

    found = []
    for item in text.split(","):
        first, _, last = item.partition("..")
        low, high = number(first), number(last or first)
        if last and high == 0:
            high = 7  # in systemd the week ends with Sunday; in cron Sunday is 0 and 7
        if high < low:
            raise _no(every)
        found.append(f"{low}-{high}" if last else str(low))
    return ",".join(found)


def _field(every: str, text: str, low: int, high: int) -> str:
    found = []
    for item in text.split(","):
        read = _ITEM.fullmatch(item)
        if not read:
            raise _no(every)
        first, last, step = read.groups()
        if any(n and not low <= int(n) <= high for n in (first, last)) or (step and not int(step)):
            raise _no(every)
        if first is None:
            found.append("*" if step is None else f"*/{int(step)}")
        elif step:
            until = int(last or high)
            whole = int(first) == low and until == high
            found.append(f"*/{int(step)}" if whole else f"{int(first)}-{until}/{int(step)}")
        else:
            found.append(f"{int(first)}-{int(last)}" if last else str(int(first)))
    return "*" if "*" in found else ",".join(found)
