"""The report of who can connect, over real sockets and real processes."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate.access import security_modules, who, who_report
from sdactivate.access.accounts import account, asked, fronts, of_interest
from sdactivate.access.processes import running
from sdactivate.errors import Error, UsageError
from sdactivate.fronts import FRONTS

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users, which root only may")


@pytest.fixture
def path() -> Iterator[str]:
    """A socket of group 20002, mode 0660, in a directory that everyone may search."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        os.chmod(directory, 0o755)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path := f"{directory}/s")
            server.listen(64)
            if os.geteuid() == 0:
                os.chown(path, 0, 20002)
            os.chmod(path, 0o660)
            yield path


@as_root
def test_accounts_are_judged_and_proven(path: str) -> None:
    report = who.report(path, [asked("root"), asked("nobody")], proving=True)
    allowed = {person.name: answer.allowed for person, answer in report.people}
    assert allowed == {"root": True, "nobody": False}
    assert not report.differs
    text = who_report.as_text(report)
    assert f"no   nobody    {path}: others have ---, which lacks w; proven: EACCES" in text
    assert "listening, " in text


@as_root
def test_running_processes_are_grouped_by_what_decides(path: str) -> None:
    crowd = [
        subprocess.Popen(["sleep", "600"], user=20001, group=group, extra_groups=[])
        for group in (20002, 20002, 20001)
    ]
    try:
        report = who.report(path, [], list(running()), proving=True)
    finally:
        for process in crowd:
            process.kill()
            process.wait()
    answers = {row.pids: row.answer for row in report.processes if row.identity.uid == 20001}
    assert answers[crowd[0].pid, crowd[1].pid].allowed
    refused = answers[crowd[2].pid,]
    assert refused.allowed is False
    assert refused.because == f"{path}: others have ---, which lacks w"
    assert not report.differs


@as_root
def test_a_process_with_a_file_system_of_its_own_does_not_see_the_socket(path: str) -> None:
    # Private by hand: in a chroot unshare cannot, for / is no mount point there.
    private = "nsenter --mount=/proc/self/ns/mnt mount --make-rprivate /"
    hide = f"{private} && mount -t tmpfs none {os.path.dirname(path)}; echo ready; exec sleep 600"
    argv = ["unshare", "--mount", "--propagation=unchanged", "sh", "-c", hide]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            report = who.report(path, [], list(running()))
        finally:
            process.kill()
    row = next(row for row in report.processes if process.pid in row.pids)
    assert row.answer.allowed is False
    assert "No such file" in row.answer.because
    assert "own view" in row.answer.because


def test_a_proof_that_contradicts_the_verdict_is_told(path: str) -> None:
    report = who.report(path, [asked("root")])
    person, answer = report.people[0]
    lying = report._replace(people=((person, answer._replace(proof=13)),))
    assert not report.differs
    assert lying.differs
    assert "BUT PROVEN OTHERWISE: EACCES" in who_report.as_text(lying)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({}, ()),
        ({"module/apparmor/parameters/enabled": "Y\n"}, ("AppArmor",)),
        ({"module/apparmor/parameters/enabled": "N\n", "fs/selinux/enforce": "0"}, ()),
        ({"fs/selinux/enforce": "1"}, ("SELinux",)),
        (
            {"module/apparmor/parameters/enabled": "Y\n", "fs/selinux/enforce": "1"},
            ("AppArmor", "SELinux"),
        ),
        ({"fs/selinux/enforce": "\u00e9"}, ()),
    ],
)
def test_a_yes_says_which_security_modules_were_not_asked(
    files: dict[str, str], names: tuple[str, ...], path: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert security_modules.in_force(str(tmp_path)) == names
    yes = who.report(path, [asked("root")])._replace(not_asked=names)
    no = who.report(path, [asked("nobody")])._replace(not_asked=names)
    assert (yes.says_yes, no.says_yes) == (True, False)
    said = f"This kernel also enforces {' and '.join(names)}, which"
    assert (said in who_report.as_text(yes)) == bool(names)
    assert "This kernel" not in who_report.as_text(no)
    assert who_report.as_json(yes)["not_asked"] == list(names)
    port = who.report("[::]:80", [asked("root")])._replace(not_asked=names)
    assert (said in who_report.as_text(port)) == bool(names)


def test_an_abstract_address_is_everyones() -> None:
    report = who.report("@sdactivate-nothing", [asked("root")])
    assert report.way is None
    assert "every process in this network namespace" in who_report.as_text(report)
    assert who_report.as_json(report)["accounts"][0]["allowed"] is None


def test_a_path_that_no_socket_address_can_hold_is_nobodys() -> None:
    report = who.report("/" + "s" * 108, [asked("root")])
    assert report.people[0][1].allowed is False
    assert "too long" in who_report.as_text(report)


def test_somebody_who_is_only_in_a_group_is_no_account() -> None:
    person = asked(":root")
    assert person.identity.gid == 0
    assert not person.identity.override
    assert asked("root:").identity.groups == frozenset()


@pytest.mark.parametrize("text", ["no-such-user", "99999999", "root:no-such-group", ":"])
def test_whom_nobody_knows_is_misuse(text: str) -> None:
    with pytest.raises(UsageError):
        asked(text)


def test_fronts_nobody_and_running_users_are_of_interest() -> None:
    names = {person.name for person in of_interest(list(running()))}
    assert {"root", "nobody"} <= names
    assert {packaging.user for _, packaging in fronts()} <= names


def test_the_front_that_runs_names_the_user_that_fronts_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Debian nginx and Apache both run as www-data."""
    both = [
        (FRONTS[name], FRONTS[name].packaging["debian"]._replace(user="nobody"))
        for name in ("nginx", "apache")
    ]
    monkeypatch.setattr("sdactivate.access.accounts.fronts", lambda: iter(both))
    process = next(iter(running()))
    for unit, said in (("nginx.service", "nginx's user"), ("apache2.service", "Apache's user")):
        told = of_interest([process._replace(unit=unit, identity=account("nobody"))])
        assert (told[0].name, told[0].why) == ("nobody", said)


def test_a_relative_path_is_refused(tmp_path: Path) -> None:
    from sdactivate.access.path_walk import walk

    with pytest.raises(Error, match="absolute"):
        walk("mysite.sock")


def test_a_name_steers_no_terminal_and_forges_no_line(tmp_path: Path) -> None:
    evil = os.fsdecode(b"a\x1b[31m\nyes  nobody\xff")
    path = str(tmp_path / evil)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        text = who_report.as_text(who.report(path, [asked("root")]))
    assert "\x1b" not in text
    assert "\nyes" not in text
    assert "a\\x1b[31m\\nyes  nobody\\xff" in text
    text.encode()


def test_a_port_has_no_owner() -> None:
    text = who_report.as_text(who.report("127.0.0.1:8000", [asked("root"), asked("nobody")]))
    assert text.startswith("127.0.0.1:8000\n")
    assert text.count("every user of this host can connect") == 1


_NOSYMFOLLOW = """
import os, socket
from sdactivate.access.permissions import Identity, judge
from sdactivate.access.connect import prove
from sdactivate.access.path_walk import walk
os.chmod("/mnt", 0o755)
server = socket.socket(socket.AF_UNIX); server.bind("/mnt/s"); server.listen()
os.chmod("/mnt/s", 0o666)
os.symlink("s", "/mnt/l")
stranger = Identity(20001, 20001)
for path in ("/mnt/s", "/mnt/l"):
    verdict = judge(walk(path), stranger)
    print(path, verdict.allowed, verdict.error == prove(path, stranger))
"""


@as_root
def test_a_mount_that_follows_no_links_follows_none() -> None:
    mount = 'mount -t tmpfs -o nosymfollow none /mnt && exec "$0" -c "$1"'
    argv = ["unshare", "--mount", "sh", "-c", mount, sys.executable, _NOSYMFOLLOW]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if "nosymfollow" in done.stderr or "wrong fs type" in done.stderr:
        pytest.skip("mount(8) or this kernel doesn't know nosymfollow (Linux 5.10 does)")
    assert done.stdout == "/mnt/s True True\n/mnt/l False True\n", done.stderr


@as_root
def test_of_a_file_the_question_is_who_can_read_it() -> None:
    """However long its path; of a directory it is who can reach what is in it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        os.chmod(directory, 0o755)
        closed = Path(directory, "closed")
        closed.mkdir()
        for parent, mode in ((Path(directory), 0o604), (Path(directory), 0o600), (closed, 0o644)):
            name = parent / ("x" * 120)
            name.touch()
            name.chmod(mode)
            closed.chmod(0o700)
            report = who.report(str(name), [asked("nobody")], list(running()), proving=True)
            ((_, answer),) = report.people
            text = who_report.as_text(report)
            assert text.startswith(f"{name}: a file, and who can read it\n")
            assert "front" not in text
            assert not report.differs
            because = {
                0o604: f"{name}: others have r--; proven: read",
                0o600: f"{name}: others have ---, which lacks r; proven: EACCES",
                0o644: f"{closed}: others have ---, which lacks x; proven: EACCES",
            }[mode]
            assert because in text
            assert answer.allowed is (mode == 0o604)
        report = who.report(directory, [asked("nobody")], proving=True)
        shown = who_report.as_json(report)["accounts"][0]
        assert (shown["allowed"], shown["proof"]) == (True, "entered")
