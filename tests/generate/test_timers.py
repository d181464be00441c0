import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.generate import schedule, timers
from sdactivate.generate.output import Output, Target
from sdactivate.site import Site
from tests.effort import examples
from tests.generate.strategies import HOSTILE
from tests.generate.test_units import needs_systemd, verify

SITE = Site("mysite", app="mysite.wsgi:application", chdir="/srv/mysite", python="/usr/bin/python3")
TARGET = Target(252)


def text(output: Output) -> str:
    (file,) = output.files
    return file.text


def test_the_service_has_the_sites_user_directories_and_sandbox() -> None:
    (file,) = timers.service(SITE, TARGET, command=(("dumpdata", "-o", "/x y"),)).files
    assert file.name == "mysite-dumpdata.service"
    assert {
        "Type=oneshot",
        'ExecStart=/usr/bin/python3 manage.py dumpdata -o "/x y"',
        "User=mysite",
        "DynamicUser=yes",
        "StateDirectory=mysite",
        "ProtectSystem=strict",
    } <= set(file.text.splitlines())


def test_the_timer_takes_events_and_spans() -> None:
    daily = text(timers.timer(SITE, TARGET, command=(("clearsessions",),)))
    assert {"OnCalendar=daily", "Persistent=yes"} <= set(daily.splitlines())
    often = text(timers.timer(SITE, TARGET, command=(("clearsessions",),), every="15min"))
    assert {"OnBootSec=15min", "OnUnitActiveSec=15min"} <= set(often.splitlines())
    assert "OnCalendar" not in often


def test_a_command_by_hand_has_no_timer() -> None:
    command = (("clearsessions",),)
    output = timers.service(SITE, TARGET, command=command, by_hand=(("migrate",),))
    cleared, migrated = output.files
    assert "mysite-clearsessions.timer starts it" in cleared.text
    assert migrated.name == "mysite-migrate.service"
    assert ".timer" not in migrated.text
    (timer,) = timers.timer(SITE, TARGET, command=command).files
    assert timer.name == "mysite-clearsessions.timer"


def test_a_timer_of_one_machine() -> None:
    command = (("clearsessions",),)
    assert "ConditionHost" not in text(timers.timer(SITE, TARGET, command=command))
    output = timers.timer(SITE, TARGET, command=command, once_on="web1.example")
    assert "ConditionHost=web1.example" in text(output).splitlines()
    # By hand it runs anywhere
    (service,) = timers.service(SITE, TARGET, command=command, once_on="web1.example").files
    assert "ConditionHost" not in service.text


@pytest.mark.parametrize("value", ["", "web*", "-a", "a..b", "a b", "a\nb", "é", "a" * 65])
def test_no_host_name(value: str) -> None:
    with pytest.raises(UsageError, match="is not a host name"):
        schedule.host(value)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UsageError, match="needs --command"):
        timers.timer(SITE, TARGET)
    with pytest.raises(UsageError, match="needs --by-hand or --command"):
        timers.service(SITE, TARGET)
    with pytest.raises(UsageError, match="would both be called mysite-migrate"):
        timers.service(SITE, TARGET, command=(("migrate",),), by_hand=(("migrate",),))
    with pytest.raises(UsageError, match="needs --chdir"):
        timers.service(Site("mysite"), TARGET, command=(("migrate",),))
    with pytest.raises(UsageError, match="would both be called mysite-migrate"):
        timers.timer(SITE, TARGET, command=(("migrate",), ("migrate", "x")))


@pytest.mark.parametrize(
    "value", ["", "'", "/bin/sh", "a 'b\nc'", "'a\nb'", "a '\x00'", "a;b", "é"]
)
def test_what_is_no_command(value: str) -> None:
    with pytest.raises(UsageError):
        schedule.command(value)


@pytest.mark.parametrize(
    "value", ["daily", "Mon 04:00", "*:0/15", "Mon..Fri *-*-* 10:00:00", "15min"]
)
def test_when(value: str) -> None:
    assert schedule.every(value) == value


@pytest.mark.parametrize("value", ["", "0", "0min", "%h", "daily\n", " daily", "a\\", "often;"])
def test_what_is_no_time(value: str) -> None:
    with pytest.raises(UsageError):
        schedule.every(value)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd judges the calendar")
def test_systemd_is_asked_what_an_event_is() -> None:
    with pytest.raises(UsageError, match=r"see systemd.time"):
        schedule.every("each tuesday")


@needs_systemd
@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(arguments=st.lists(HOSTILE, max_size=3), every=st.sampled_from(["daily", "15min", "*:0/5"]))
def test_systemd_accepts_them(arguments: list[str], every: str, tmp_path: Path) -> None:
    import shlex

    try:
        command = schedule.command(shlex.join(["migrate", *arguments]))
    except UsageError:
        return
    assert command == ("migrate", *arguments)
    output = [
        *timers.service(SITE, TARGET, command=(command,)).files,
        *timers.timer(SITE, TARGET, command=(command,), every=every).files,
    ]
    assert verify(tmp_path, *((file.name, file.text) for file in output)) == ""
