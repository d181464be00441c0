"""Deployments that others wrote: what is broken is named and fixed, of what works nothing is said.

docs/public-cases.md has their sources. Each has a machine of its own. A few of each kind are run
every time, all of them by hand:

    script/test -m by_hand -rP tests/machine/test_public_cases.py
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sdactivate.doctor import symptoms
from tests.machine.machine import EXTRAS, Installation, Machine, asked_for, install
from tests.machine.public_cases import (
    BROKEN,
    EACH_TIME,
    FIFTH,
    FOURTH,
    HELD_OUT,
    OF_OTHER_FRONTS,
    OF_RULES,
    OF_THE_LAST_RESORT,
    SECOND,
    SEVENTH,
    SIXTH,
    THIRD,
    UNITS,
    WORKING,
    Case,
)

LOGGED = {"SDA141", "SDA142", "SDA143", "SDA147", "SDA148", "SDA151", "SDA153", "SDA155"}
"""Rules whose symptoms are looked for here; that of SDA140 is the answer, 502."""
SEEN = """journalctl -b -o cat --no-pager
cat /var/log/nginx/error.log /var/log/apache2/error.log /var/log/lighttpd/error.log
systemctl status --no-pager --full --lines=0 "$0"
"""
ROOT = Path(__file__).resolve().parents[2]


MISSED = {
    "T01": "the doctor does not follow requests from one front to another",
    "T04": "nginx refuses a POST for a file: no line on the machine is about it",
}
"""Cases whose cause the doctor does not find, and why."""


def rows(cases: tuple[Case, ...]) -> list[Any]:
    """The cases as parameters: those that are not run each time are run by hand."""
    return [pytest.param(it, id=it.id, marks=marks(it)) for it in cases]


def marks(case: Case) -> list[Any]:
    """When a case is run, and whether it is known to fail."""
    found: list[Any] = [] if case.id in EACH_TIME else [pytest.mark.by_hand]
    if case.id in MISSED:
        found.append(pytest.mark.xfail(reason=MISSED[case.id], strict=True))
    return found


@pytest.fixture(scope="module")
def installation(fitting_wheel: Path) -> Installation:
    """With all the servers, as test_servers.py has it."""
    return install(fitting_wheel, asked_for(), (*EXTRAS, "servers"))


@contextmanager
def deployed(case: Case, installation: Installation) -> Iterator[Machine]:
    """The case on a machine of its own."""
    with Machine(installation) as machine:
        machine.run("rm", "-f", "/etc/nginx/conf.d/mysite.conf")
        for path, text in case.files.items():
            machine.write(path, text)
        machine.run("sh", "-c", f"systemctl daemon-reload\n{case.setup}")
        yield machine


def ask(machine: Machine, case: Case) -> str:
    """The status that a client gets, as curl has it: 000 where there is no answer."""
    headers = [word for it in case.headers for word in ("-H", it)]
    argv = ("curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", *headers, case.url)
    if case.follows:
        argv = (*argv, "-L")
    if case.body:
        return machine.run(*argv, "--data-binary", "@-", input="x" * case.body, check=False).stdout
    return machine.run(*argv, check=False).stdout


def sockets(case: Case) -> set[str]:
    """The unix sockets that the front asks for."""
    named = re.compile(r"unix:(/[^\s;:|\"']+)")
    fronts = [text for path, text in case.files.items() if not path.startswith(UNITS)]
    return {path for text in fronts for path in named.findall(text)}


def settles(machine: Machine, case: Case, answer: str) -> bool:
    """Whether a client gets that answer, once all has started: within some seconds."""
    deadline = time.monotonic() + 20
    while (found := ask(machine, case)) != answer and time.monotonic() < deadline:
        time.sleep(0.2)
    return found == answer


def doctor(machine: Machine, case: Case) -> list[dict[str, Any]]:
    """What the doctor finds, in its order."""
    asks = ("--url", case.url) if case.by_url else ()
    fields = [word for it in case.headers for word in ("--header", it) if case.by_url]
    argv = (*machine.sdactivate, "doctor", case.name, *asks, *fields, "--format", "json")
    done = machine.run(*argv, check=False)
    assert done.returncode in (0, 1), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def as_told(finding: dict[str, Any]) -> str:
    """The shell commands for a fix that is a command, or lines for a unit."""
    done = finding["fix"]
    if found := re.fullmatch(r"in \[(\w+)\] of (\S+): (.+)", done):
        section, unit, lines = found.groups()
        text = "\\n".join([f"[{section}]", *lines.split(", ")])
        done = f"mkdir -p {UNITS}/{unit}.d; printf '{text}\\n' >{UNITS}/{unit}.d/zz.conf"
    return f"{done}\n{finding['then'] or ''}"


@pytest.mark.parametrize(
    "case", rows((*BROKEN, *HELD_OUT, *SECOND, *THIRD, *FOURTH, *FIFTH, *SIXTH, *SEVENTH))
)
def test_the_first_finding_is_the_cause(case: Case, installation: Installation) -> None:
    with deployed(case, installation) as machine:
        is_found_and_fixed(machine, case)


OWN = [
    *(pytest.param(it, id=it.id) for it in OF_RULES),
    *(pytest.param(it, id=it.id, marks=pytest.mark.by_hand) for it in OF_OTHER_FRONTS),
    *rows(OF_THE_LAST_RESORT),
]


@pytest.mark.parametrize("case", OWN)
def test_a_rule_s_own_setup_is_found_and_its_twin_is_not(
    case: Case, installation: Installation
) -> None:
    with deployed(case, installation) as machine:
        is_found_and_fixed(machine, case)
        assert [(it["rule"], it["because"]) for it in doctor(machine, case)] == []


def is_found_and_fixed(machine: Machine, case: Case) -> None:
    """The first finding is the case's, and with its fix a client gets an answer."""
    assert settles(machine, case, case.answer)
    until = case.until or (f"systemctl is-failed {case.name}" if case.finds == "SDA110" else "")
    if until:
        machine.wait(partial(machine.succeeds, "sh", "-c", until), until)
        ask(machine, case)
    time.sleep(0.5)  # what is said of the failure
    found = doctor(machine, case)
    assert found, "nothing found"
    first = found[0]
    if words := [it.words for it in symptoms.TABLE[case.finds or first["rule"]]]:
        seen = machine.run("sh", "-c", SEEN, case.name, check=False).stdout
        assert first["rule"] not in LOGGED or any(it in seen for it in words), seen[-2000:]
    print(f"{case.id} {first['rule']}: {first['because']}\n    {first['fix']}")
    assert first["rule"] == case.finds or not case.finds
    assert case.says in first["because"]
    assert case.fix in first["fix"]
    machine.run("sh", "-ec", case.done or as_told(first))
    assert settles(machine, case, case.works)


BY_URL = {
    "B17": "redirects to https://localhost/, for ever. The application, asked directly, answers "
    "200, and as the front if it is asked as a request by http",
    "N04": "It answers 400 too if it is asked with Host: papers_container",
    "P02": "nginx has sent nothing of http://localhost/stream in 10 s",
    "P05": "if it is asked without the header field REMOTE_USER",
    "P10": "if it is asked without the header field Upgrade",
    "P19": "redirects to http://localhost/start/login, where the answer is 404",
    "Q13": "but 200 if it is asked for /page, without /gnucash",
    "R02": "html)$ (/etc/nginx/sites-enabled/faces, line 6) passes nothing to the application",
    "R03": "and as the front if it is asked with Host: localhost",
    "R04": "if it is asked with two Host lines",
    "R11": "if it is asked without the header field Authorization",
    "W01": "",
}
"""What the doctor says of a page, for cases that have rules of their own; these are left out."""
OTHERS = "SDA144,SDA149,SDA150,SDA152,SDA155,SDA157,SDA158,SDA159,SDA160,SDA168,SDA169,SDA170"


@pytest.mark.by_hand
@pytest.mark.parametrize("name", BY_URL)
def test_where_a_page_fails(name: str, installation: Installation) -> None:
    all_ = (*BROKEN, *SECOND, *THIRD, *FOURTH, *FIFTH, *WORKING)
    case = next(it for it in all_ if it.id == name)
    with deployed(case, installation) as machine:
        assert settles(machine, case, case.answer)
        fields = [word for it in case.headers for word in ("--header", it)]
        argv = ("doctor", case.name, "--url", case.url, *fields, "--format", "json")
        done = machine.run(*machine.sdactivate, *argv, "--ignore", OTHERS, check=False)
        assert f"GET {case.url}" in done.stderr
        said = [it["because"] for it in json.loads(done.stdout) if it["rule"] == "SDA171"]
        assert bool(said) == bool(BY_URL[name])
        assert BY_URL[name] in "".join(said)


def test_each_service_has_its_own_findings(installation: Installation) -> None:
    """Two without a socket unit, asked about together: neither is told of the other's socket."""
    (case,) = (it for it in BROKEN if it.id == "B05")
    with deployed(case, installation) as machine:
        assert settles(machine, case, case.answer)
        for path, text in case.files.items():
            machine.write(
                path.replace("mirror", "second").replace("enabled/site", "enabled/second"),
                text.replace("mirror", "second").replace("listen 80", "listen 81"),
            )
        machine.run("sh", "-ec", "useradd --system second; systemctl daemon-reload")
        machine.run("systemctl", "start", "second.service")
        machine.run("systemctl", "reload", "nginx.service")
        machine.wait(partial(machine.succeeds, "test", "-S", "/run/second/web.sock"), "its socket")
        argv = (*machine.sdactivate, "doctor", "mirror", "second", "--format", "json")
        found = json.loads(machine.run(*argv, check=False).stdout)
        refused = [it["because"] for it in found if it["rule"] == "SDA102"]
        assert len(refused) == 2
        for name, because in zip(("mirror", "second"), refused, strict=True):
            assert f"can't connect to /run/{name}/web.sock" in because


@pytest.mark.parametrize("case", rows(WORKING))
def test_of_what_works_nothing_is_said(case: Case, installation: Installation) -> None:
    with deployed(case, installation) as machine:
        for path in sockets(case):  # a request before there is one is an error of the front's
            machine.wait(partial(machine.succeeds, "test", "-S", path), path)
        assert settles(machine, case, case.works)
        assert [(it["rule"], it["because"]) for it in doctor(machine, case)] == [
            *([(case.finds, case.says)] if case.finds else [])
        ]


def test_every_case_has_a_source() -> None:
    page = (ROOT / "docs" / "public-cases.md").read_text()
    written = re.findall(r"^\| ([BHNPQRSTW]\d\d) \| https?://\S+ \|", page, re.MULTILINE)
    broken = (*BROKEN, *HELD_OUT, *SECOND, *THIRD, *FOURTH, *FIFTH, *SIXTH, *SEVENTH)
    assert written == [it.id for it in (*broken, *WORKING)]
