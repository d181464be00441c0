"""The pages say what the command takes: neither more nor less."""

import argparse
import re
from pathlib import Path

from sdactivate.cli import parser
from sdactivate.django.checks import CHECKS
from sdactivate.django.runfcgi import OPTIONS
from sdactivate.generate.kinds import KINDS
from sdactivate.launch.environment import KEPT
from sdactivate.systemd.listen_fds import SOURCES

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_every_option_of_launch_is_in_its_page_and_no_other() -> None:
    page = (DOCS / "launch.md").read_text()
    table = page.partition("## Options")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = set(re.findall("--[a-z-]+", " ".join(rows)))
    (launch,) = [
        action.choices["launch"]
        for action in parser(["launch"])._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    taken = {word for action in launch._actions for word in action.option_strings}
    assert documented == {word for word in taken if word.startswith("--")} - {"--help"}


def test_every_variable_that_root_passes_on_is_in_its_page_and_no_other() -> None:
    page = (DOCS / "launch.md").read_text()
    section = page.partition("## What the command does not get from root")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("  | `")]
    documented = {
        name: why.strip() for names, why in rows for name in re.findall(r"`([A-Z_*]+)`", names)
    }
    assert documented == KEPT


def test_every_supervisor_and_source_is_in_the_page() -> None:
    page = (DOCS / "without-systemd.md").read_text()
    for kind in KINDS.values():
        if "generate.supervisors" in kind.function:
            assert f"--kind {kind.name} " in page
    for variable in (variable for source in SOURCES for variable in source.variables):
        if variable not in ("LISTEN_PIDFDID", "EINHORN_MASTER_PID"):
            assert variable in page


def test_every_word_of_runfcgi_is_in_the_page() -> None:
    page = (DOCS / "from-runfcgi.md").read_text()
    assert [word for word in OPTIONS if f"{word}=" not in page] == []


def test_every_check_of_django_is_in_the_page_and_when_it_runs() -> None:
    page = (DOCS / "django.md").read_text()
    rows = re.findall(r"^\| (sdactivate\.W\d+) \| .* \| ([^|]*) \|$", page, re.MULTILINE)
    assert [(name, runs == "with `--deploy`") for name, runs in rows] == [
        (check.id, check.deploy) for check in CHECKS
    ]
