"""Which unit a control group belongs to: one rule, on text and in a real tree of directories."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sdactivate.access import processes
from sdactivate.runtime.peers import units
from sdactivate.systemd import cgroup
from tests.effort import examples

# The text of /proc/PID/cgroup, and the unit.
TABLE = {
    "0::/system.slice/nginx.service\n": "nginx.service",
    "0::/system.slice/system-web.slice/web@1.service\n": "web@1.service",
    "0::/user.slice/user-1.slice/user@1.service/app.slice/x.service\n": "user@1.service",
    "0::/user.slice/user-1.slice/session-3.scope\n": "session-3.scope",
    "0::/system.slice/x.service/sub\n": "x.service",
    "4:memory:/a\n1:name=systemd:/system.slice/x.service\n0::/\n": "x.service",
    "3:cpu:/system.slice/a.service\n1:name=systemd:/system.slice/b.service\n": "b.service",
    "0::/init.scope\n": "init.scope",
    "0::/\n": "",
    "": "",
    r"0::/system.slice/web\x2dapp:1.service" + "\n": r"web\x2dapp:1.service",
    "0::/system.slice/_memory.service\n": "memory.service",
    "0::/system.slice/__own.service\n": "_own.service",
}
# What the gate and the doctor told differently, when each had a rule of its own: the text, the
# unit, what the gate took for one, what the doctor did.
DISAGREED = [
    # A container's own init, in a directory that is not systemd's: the doctor was deceived.
    ("0::/docker/4f2a/system.slice/nginx.service\n", "", "docker", "nginx.service"),
    ("0::/docker/4f2a\n", "", "docker", ""),
    ("0::/nothing/system.slice/nginx.service\n", "", "nothing", "nginx.service"),
    ("1:name=systemd:/x/nginx.service\n0::/\n", "", "x", "nginx.service"),
    ("0::/system.slice/own.slice.d/nginx.service\n", "", "own.slice.d", "nginx.service"),
    ("0::/system.slice/backup.timer/nginx.service\n", "", "backup.timer", "nginx.service"),
    # Outside of the reader's own cgroup namespace: what lies above its root is not known.
    ("0::/../nginx.service\n", "", "..", "nginx.service"),
    ("0::/../../system.slice/nginx.service\n", "", "..", "nginx.service"),
    # The unit has been stopped, and this process is its last.
    (
        "0::/system.slice/nginx.service (deleted)\n",
        *("nginx.service", "nginx.service (deleted)", "nginx.service"),
    ),
    # The gate ended with an exception.
    ("no line\n0::/system.slice/nginx.service\n", "nginx.service", None, "nginx.service"),
]
# What both took for a unit, and systemd doesn't.
NEITHER = [
    "0::/.slice/nginx.service\n",
    "0::/system.slice/ nginx.service\n",
    "0::/system.slice/.service\n",
    "0::/system.slice/evil nginx.service/sub\n",
]


@pytest.mark.parametrize("text", TABLE)
def test_the_unit_is_told_from_the_control_group(text: str) -> None:
    assert cgroup.unit_of(text) == TABLE[text]


@pytest.mark.parametrize(("text", "unit", "gate", "doctor"), DISAGREED)
def test_where_two_rules_disagreed_there_is_one(
    text: str, unit: str, gate: str | None, doctor: str
) -> None:
    assert gate != doctor
    assert cgroup.unit_of(text) == unit


@pytest.mark.parametrize("text", NEITHER)
def test_what_is_not_named_like_a_unit_is_none(text: str) -> None:
    assert cgroup.unit_of(text) == ""


def test_a_line_of_another_hierarchy_is_not_the_unified_one() -> None:
    text = "0::/system.slice/nginx.service\n5::/system.slice/php.service\n"
    assert cgroup.unit_of(text) == "nginx.service"


def test_the_gate_and_the_doctor_ask_the_same_function() -> None:
    assert vars(units)["cgroup"] is cgroup
    assert vars(processes)["unit_of"] is cgroup.unit_of


PARTS = st.sampled_from(
    (
        *("system.slice", "a.slice", "_a.slice", ".slice", "docker", "x.timer", ".service"),
        *("nginx.service", "_nginx.service", "__nginx.service", "a b.service", "user@1.service"),
    )
)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=examples(60))
@given(paths=st.lists(st.lists(PARTS, min_size=1, max_size=4), max_size=5))
@example(paths=[["_nginx.service"], ["docker", "system.slice", "nginx.service"]])
def test_a_unit_is_found_at_exactly_the_places_that_are_called_its_own(
    paths: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The kernel's way of the gate looks for directories, the other one reads paths."""
    top = tmp_path_factory.mktemp("cgroup")
    for parts in paths:
        top.joinpath(*parts).mkdir(parents=True, exist_ok=True)
    for unit in ("nginx.service", "_nginx.service", "user@1.service", "a b.service", "docker"):
        found = {
            place
            for place, _, _ in os.walk(top)
            if cgroup.unit_at(place.removeprefix(str(top))) == unit
            and cgroup.unit_at(str(Path(place).parent).removeprefix(str(top))) != unit
        }
        assert set(cgroup.places(str(top), unit)) == found


@given(st.text())
def test_any_text_has_a_unit_or_none(text: str) -> None:
    assert " " not in cgroup.unit_of(text)


def test_an_unknown_control_group_has_no_unit() -> None:
    with pytest.raises(LookupError):
        cgroup.unit_with(0)


def test_the_processes_of_a_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pids in (("", "1\n"), ("a.slice", ""), ("a.slice/x.service", "7\n8\n")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "cgroup.procs").write_text(pids)
    (tmp_path / "a.slice/x.service/inside").mkdir()
    (tmp_path / "a.slice/x.service/inside/cgroup.procs").write_text("9\n")
    (tmp_path / "cgroup.controllers").touch()
    monkeypatch.setattr(cgroup, "ROOTS", (str(tmp_path),))
    assert cgroup.processes("/a.slice/x.service") == [7, 8, 9]
    assert cgroup.processes("/a.slice/x.service", most=2) == [7, 8]
    for none in ("", "/", "/no/such.slice"):
        assert cgroup.processes(none) == []
