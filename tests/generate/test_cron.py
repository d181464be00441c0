"""What cron makes of --every is what systemd makes of it."""

import re
import shutil
import subprocess
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.generate.cron import schedule

LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def matches(cron: str, when: datetime) -> bool:
    """Whether a job of the schedule `cron` runs at `when`: crontab(5)."""
    # A week has its Sunday as 7 here, and as 0 or 7 in cron
    fields = [values(*pair) for pair in zip(cron.split(), LIMITS, strict=True)]
    fields[4] |= {7} if 0 in fields[4] else set()
    now = (when.minute, when.hour, when.day, when.month, when.isoweekday())
    return all(part in field for part, field in zip(now, fields, strict=True))


def values(field: str, limits: tuple[int, int]) -> set[int]:
    low, high = limits
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        start, end = (low, high) if span == "*" else (int(first), int(last or first))
        found |= set(range(start, end + 1, int(step or 1)))
    return found


@pytest.mark.parametrize(
    ("every", "cron"),
    [
        ("daily", "0 0 * * *"),
        ("weekly", "0 0 * * 1"),
        ("quarterly", "0 0 1 1,4,7,10 *"),
        ("Mon 04:00", "0 4 * * 1"),
        ("mon..fri *-*-* 04:30", "30 4 * * 1-5"),
        ("Sat..Sun 12:00", "0 12 * * 6-7"),
        ("Sunday", "0 0 * * 0"),
        ("*:0/15", "*/15 * * * *"),
        ("*:5/20", "5-59/20 * * * *"),
        ("*-*-01 03:00:00", "0 3 1 * *"),
        ("*-1,7-1", "0 0 1 1,7 *"),
        ("08..18:00", "0 8-18 * * *"),
        ("15min", "*/15 * * * *"),
        ("1min", "* * * * *"),
        ("1h", "0 * * * *"),
        ("2h", "0 */2 * * *"),
        ("1d", "0 0 * * *"),
        ("168h", "0 0 * * 1"),
    ],
)
def test_what_both_know(every: str, cron: str) -> None:
    assert schedule(every).cron == cron


def test_a_time_zone() -> None:
    assert schedule("04:00 Europe/Berlin") == ("0 4 * * *", "Europe/Berlin")
    assert schedule("daily UTC") == ("0 0 * * *", "Etc/UTC")
    assert schedule("daily").zone == ""


@pytest.mark.parametrize(
    "every",
    [
        *("7min", "90s", "25min", "5h", "30d", "90min", "2d"),
        *("Mon *-*-01 04:00", "2027-01-01", "*:*:30", "*-*~01", "04:61", "*:0/0", "Fri..Mon"),
        *("Foo 04:00", "now", "25:00", "*-13-01", "minutely minutely minutely x"),
    ],
)
def test_what_cron_does_not_know_is_refused(every: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(repr(every))}: cron can't express it"):
        schedule(every)


NUMBERS = {
    "weekday": st.sampled_from(["", "Mon ", "Mon..Fri ", "Sat,Sun ", "Tue,Thu..Sat ", "sunday "]),
    "date": st.sampled_from(["", "*-*-* ", "*-*-1 ", "*-*-5..20/5 ", "*-2,8-* ", "*-1/3-15 "]),
    "time": st.sampled_from(["04:00", "*:0/15", "8..18/2:30", "0/6:5,35", "*:59", "23:0/20:00"]),
}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@settings(max_examples=25)
@given(st.fixed_dictionaries(NUMBERS))
def test_it_runs_when_systemd_would_run_it(parts: dict[str, str]) -> None:
    every = f"{parts['weekday']}{parts['date']}{parts['time']}"
    try:
        cron = schedule(every).cron
    except UsageError:
        assert parts["weekday"]
        assert re.search(r"-[0-9]", parts["date"])
        return
    base = datetime(2027, 3, 1)
    said = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=8", f"--base-time={base}", "--", every],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    ).stdout
    ran = re.findall(r"(?:elapse|#\d+): \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d):00 UTC", said)
    assert len(ran) == 8, said
    found: list[str] = []
    day = base
    while len(found) < 8:
        minutes = [day + timedelta(minutes=n) for n in range(24 * 60)]
        if any(matches(f"* * {cron.split(maxsplit=2)[2]}", at) for at in minutes[:1]):
            found += [f"{at:%Y-%m-%d %H:%M}" for at in minutes if at > base and matches(cron, at)]
        day += timedelta(days=1)
    assert found[:8] == ran
