"""The whole of it: what a launched command finds, and what it can't do any more."""

import fcntl
import grp
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sdactivate
from tests.launch.conftest import LAUNCH, PATIENCE, Launch, needs_root, wait_until
from tests.processes import open_files

LOOK = """\
import json, os, resource, signal, socket, stat, sys
def attempt(do):
    try:
        do()
    except OSError as error:
        return error.strerror
    return "done"
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
descriptors = {}
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        descriptors[fd] = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        pass
print(json.dumps({
    "pid": os.getpid(), "ppid": os.getppid(), "argv": sys.argv[1:], "cwd": os.getcwd(),
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": sorted(os.getgroups()),
    "status": status, "descriptors": descriptors, "environ": dict(os.environ),
    "umask": os.umask(0), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "root": attempt(lambda: os.setresuid(0, 0, 0)),
    "group": attempt(lambda: os.setgroups([0])),
    "chmod": [attempt(lambda: os.chmod(p, 0o777)) for p in sys.argv[1:]],
    "unlink": [attempt(lambda: os.unlink(p)) for p in sys.argv[1:]],
}))
"""
PYTHON = ("/usr/bin/python3", "-I", "-c", LOOK)


def seen(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) != 0


@needs_root
def test_the_socket_is_as_asked_and_the_command_can_change_nothing(
    launch: Launch, directory: Path
) -> None:
    path = directory / "site.sock"
    found = seen(
        launch(
            *("--listen", str(path), "--group", "www-data", "--mode", "0620"),
            *("--run-as", "games", "--", *PYTHON, str(path)),
        )
    )
    games = pwd.getpwnam("games")
    assert found["uids"] == [games.pw_uid] * 3
    assert found["gids"] == [games.pw_gid] * 3
    assert found["groups"] == sorted(os.getgrouplist("games", games.pw_gid))
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {name: int(found["status"][name], 16) for name in sets} == dict.fromkeys(sets, 0)
    assert found["status"]["NoNewPrivs"] == "1"
    assert found["root"] == found["group"] == "Operation not permitted"
    assert found["chmod"] == ["Operation not permitted"]
    assert found["unlink"] == ["Permission denied"]
    status = path.stat()
    group = grp.getgrnam("www-data").gr_gid
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, group, 0o620)
    assert os.listdir(directory) == ["site.sock"]  # the lock is gone


@needs_root
def test_only_the_sockets_and_what_was_kept_survive(launch: Launch, directory: Path) -> None:
    low, high = os.pipe()
    extra = os.dup2(os.open("/etc/passwd", os.O_RDONLY), 200)
    try:
        found = seen(
            launch(
                *(
                    "--listen",
                    f"web={directory}/a",
                    "--listen",
                    "admin=127.0.0.1:81",
                ),
                *("--run-as", "games", "--keep-fd", str(high), "--limit", "nofile=100:150"),
                *("--", *PYTHON),
                pass_fds=(low, high, extra),
            )
        )
    finally:
        for fd in (low, high, extra):
            os.close(fd)
    expected = {"0": False, "1": False, "2": False, "3": True, "4": True, str(high): False}
    assert found["descriptors"] == expected
    assert found["nofile"] == [100, 150]
    environ = found["environ"]
    assert environ["LISTEN_PID"] == str(found["pid"])
    assert environ["LISTEN_FDS"] == "2"
    assert environ["LISTEN_FDNAMES"] == "web:admin"


@needs_root
def test_closed_standard_descriptors_are_not_taken_by_a_socket(directory: Path) -> None:
    command = [*LAUNCH, "--listen", f"{directory}/s", "--run-as", "games", "--", *PYTHON]
    shell = 'exec "$@" <&- 2>&-'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", *command],
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        text=True,
    )
    found = seen(done)
    assert found["descriptors"] == {"0": False, "1": False, "2": False, "3": True}


@needs_root
def test_a_file_of_the_interpreters_own_is_no_standard_descriptor(directory: Path) -> None:
    """As libffi 3.5 keeps its library open, on whatever number is free."""
    arguments = ["launch", "--listen", f"{directory}/s", "--run-as", "games", "--", *PYTHON]
    program = (
        "import os, sys; os.close(0); os.open('/etc/passwd', os.O_RDONLY)\n"
        "from sdactivate.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        timeout=PATIENCE,
        text=True,
    )
    assert seen(done)["descriptors"] == {"0": False, "1": False, "2": False, "3": True}


@needs_root
def test_it_execs_and_leaves_no_process(directory: Path) -> None:
    process = subprocess.Popen(
        [*LAUNCH, "--listen", f"{directory}/s", "--run-as", "games", "--", *PYTHON],
        stdout=subprocess.PIPE,
    )
    found = json.loads(process.communicate(timeout=PATIENCE)[0])
    assert (found["pid"], found["ppid"]) == (process.pid, os.getpid())


@needs_root
def test_environment_umask_and_directory(launch: Launch, directory: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "SECRET": "x", "LISTEN_FDS": "9"}
    found = seen(
        launch(
            *("--listen", f"{directory}/s", "--run-as", "games", "--umask", "0077"),
            *("--chdir", "/usr", "--clear-env", "--env", "STATE=/var/lib/x", "--", *PYTHON),
            env=environment,
        )
    )
    environ = found["environ"]
    games = pwd.getpwnam("games")
    assert (found["umask"], found["cwd"], environ["PWD"]) == (0o77, "/usr", "/usr")
    assert (environ["USER"], environ["LOGNAME"]) == ("games", "games")
    assert (environ["HOME"], environ["SHELL"]) == (games.pw_dir, games.pw_shell)
    assert environ["STATE"] == "/var/lib/x"
    assert environ["LISTEN_FDS"] == "1"
    assert "SECRET" not in environ
    assert "LISTEN_FDNAMES" not in environ


@needs_root
def test_numbers_without_an_account_will_do(launch: Launch, directory: Path) -> None:
    for uid, gid in ((61234, 61235), (2**32 - 2, 2**32 - 2)):  # the last ones that there are
        path = directory / str(uid)
        found = seen(launch("--listen", str(path), "--run-as", f"{uid}:{gid}", "--", *PYTHON))
        assert (found["uids"][0], found["gids"][0], found["groups"]) == (uid, gid, [gid])


@needs_root
def test_chroot(launch: Launch, directory: Path) -> None:
    """The command is looked up and runs inside; here that is a statically linked busybox or sh."""
    root = directory / "root"
    shell = Path(os.path.realpath("/bin/sh"))
    listed = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
    libraries = [Path(word) for word in listed.split() if word.startswith("/")]
    for file in (shell, *libraries):
        copy = root / str(file).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    done = launch(
        *("--listen", f"{directory}/s", "--run-as", "games", "--chroot", str(root)),
        *("--", str(shell), "-c", "pwd; echo $LISTEN_FDS; test -e /etc/passwd || echo inside"),
    )
    assert (done.returncode, done.stdout) == (0, "/\n1\ninside\n"), done.stderr


@needs_root
def test_signals_that_python_ignores_are_not_ignored_by_the_command(
    launch: Launch, directory: Path
) -> None:
    found = seen(launch("--listen", f"{directory}/s", "--run-as", "games", "--", *PYTHON))
    assert found["status"]["SigBlk"] == "0" * 16
    # the looking interpreter itself ignores SIGPIPE and SIGXFSZ again, so ask somebody else
    done = launch(
        *("--listen", f"{directory}/s", "--run-as", "games"),
        *("--", "/bin/grep", "SigIgn", "/proc/self/status"),
    )
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


@needs_root
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--run-as", "nosuchuser"), 2, "no user 'nosuchuser'"),
        (("--run-as", "root"), 2, "that is root"),
        (("--run-as", "0:0"), 2, "that is root"),
        (("--run-as", "games:root"), 2, "root's group"),
        (("--run-as", "4000000000"), 2, "give the group's number, too: UID:GID"),
        (("--run-as", "games:5:6"), 2, "--run-as games:5:6: there is no group '5:6'"),
        (("--run-as", ""), 2, "--run-as has an empty value"),
        (("--run-as", "games", "--chroot", ""), 2, "--chroot has an empty value"),
        (("--run-as", "games", "--group", ""), 2, "--group has an empty value"),
        ((), 2, "--run-as USER is missing"),
        (("--run-as", "games", "--group", "nosuchgroup"), 2, "no group 'nosuchgroup'"),
        (("--run-as", "games", "--user", "nosuchuser"), 2, "no user 'nosuchuser'"),
        (("--run-as", "games", "--mode", "4660"), 2, "4660"),
        (("--run-as", "games", "--umask", "9"), 2, "'9' is not an octal umask"),
        (("--run-as", "games", "--umask", "0o22"), 2, "'0o22' is not an octal umask"),
        (("--run-as", "games", "--limit", "nofiles=3"), 2, "nofile"),
        (("--run-as", "games", "--limit", "nofile=many"), 2, "--limit nofile=many"),
        (("--run-as", "games", "--limit", "nofile=9:3"), 1, "--limit nofile=9:3"),
        (("--run-as", "games", "--env", "=x"), 2, "--env =x"),
        (("--run-as", "games", "--env", ""), 2, "write NAME=VALUE"),
        (("--run-as", "games", "--keep-fd", "3"), 2, "--keep-fd 3"),
        (("--run-as", "games", "--keep-fd", "99"), 2, "not open"),
        (("--run-as", "games", "--backlog", "0"), 2, "--backlog 0"),
        (("--run-as", "games", "--backlog", "9999999999"), 2, "--backlog 9999999999"),
        (("--run-as", "4294967295:1"), 2, "the highest ID is 4294967294"),
        (("--run-as", "9" * 30), 2, "the highest ID is"),
        (("--run-as", "\N{SUPERSCRIPT TWO}:1"), 2, "there is no user"),
        (("--run-as", "games", "--group", "4294967295"), 2, "--group 4294967295"),
        (("--run-as", "games", "--user", "9" * 30), 2, "--user"),
        (("--run-as", "games", "--env", "LISTEN_FDNAMES=x"), 2, "LISTEN_"),
        (("--run-as", "games", "--listen", "SOCKET"), 2, "more than once"),
        (("--run-as", "games", "--listen", "\x1b"), 2, "a listen address is"),
        (("--run-as", "games", "--chroot", "/nowhere"), 1, "/nowhere"),
        (("--run-as", "games", "--chdir", "CLOSED"), 1, "Permission denied"),
    ],
)
def test_mistakes_are_found_and_leave_no_socket(
    launch: Launch, directory: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (directory / "closed").mkdir(mode=0o700)
    path = directory / "s"
    values = {"CLOSED": f"{directory}/closed", "SOCKET": str(path)}
    words_given = [values.get(word, word) for word in arguments]
    done = launch("--listen", str(path), *words_given, "--", "/bin/echo", "started")
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if "--chdir" in arguments:  # that is found when root is gone: the socket stays, and is dead
        assert is_dead(path)
    else:
        assert os.listdir(directory) == ["closed"]


@needs_root
def test_a_command_that_cant_be_executed_is_said(launch: Launch, directory: Path) -> None:
    done = launch("--listen", f"{directory}/s", "--run-as", "games", "--", "/root/nothing")
    assert done.returncode == 1
    assert "/root/nothing can't be executed: Permission denied" in done.stderr
    done = launch("--listen", f"{directory}/s", "--run-as", "games", "--", "no-such-program")
    assert "no-such-program can't be executed" in done.stderr
    assert "looked for in /" in done.stderr
    text = directory / "text"
    text.write_text("echo no")
    text.chmod(0o755)
    done = launch("--listen", f"{directory}/s", "--run-as", "games", "--", str(text))
    assert "neither a program for this machine nor a script that begins with #!" in done.stderr
    assert launch("--listen", f"{directory}/s", "--run-as", "games", "--", "").returncode == 2


@needs_root
def test_warnings(launch: Launch, directory: Path) -> None:
    arguments = (
        *("--listen", f"{directory}/s", "--listen", "@sdactivate-test", "--mode", "0666"),
        *("--user", "games", "--run-as", "games", "--", "/bin/echo", "started"),
    )
    done = launch(*arguments)
    assert done.returncode == 0
    assert "lets every user of this machine connect" in done.stderr
    assert "could then change who may connect" in done.stderr
    assert "@sdactivate-test has no owner or mode" in done.stderr
    with open("/dev/full", "w") as full:  # where they can't be written, it starts all the same
        done = launch(*arguments, capture_output=False, stdout=subprocess.PIPE, stderr=full)
    assert (done.returncode, done.stdout) == (0, "started\n")


@pytest.fixture
def as_games(directory: Path) -> Iterator[dict[str, Any]]:
    """What `launch` takes to be run by somebody who is not root, and owns `directory`."""
    if os.geteuid() != 0:
        yield {}
        return
    games = pwd.getpwnam("games")
    os.chown(directory, games.pw_uid, games.pw_gid)
    # A copy that games can read, by an interpreter that games can run: root's checkout is root's.
    with tempfile.TemporaryDirectory() as readable:
        os.chmod(readable, 0o755)
        shutil.copytree(Path(sdactivate.__file__).parent, f"{readable}/sdactivate")
        yield {
            "command": ("/usr/bin/python3", "-m", "sdactivate", "launch"),
            "env": {**os.environ, "PYTHONPATH": readable},
            "user": games.pw_uid,
            "group": games.pw_gid,
            "extra_groups": [],
            "cwd": "/",
        }


def test_without_root_it_says_what_it_cant_do(
    launch: Launch, directory: Path, as_games: dict[str, Any]
) -> None:
    done = launch(
        *("--listen", f"{directory}/s", "--listen", "127.0.0.1:81", "--group", "www-data"),
        *("--run-as", "nobody", "--user", "root", "--chroot", "/", "--", "/bin/echo", "started"),
        **as_games,
    )
    assert (done.returncode, done.stdout) == (1, "")
    for what in ("--run-as nobody", "--user root", "--group www-data", "--chroot", "127.0.0.1:81"):
        assert what in done.stderr
    assert os.listdir(directory) == []


@needs_root
def test_without_root_its_groups_are_those_it_has(
    launch: Launch, directory: Path, as_games: dict[str, Any]
) -> None:
    """--run-as oneself is nothing that needs root, unless the groups are others."""
    arguments = ("--listen", f"{directory}/s", "--run-as", "games", "--", "/bin/echo", "started")
    done = launch(*arguments, **as_games)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr
    done = launch(*arguments, **{**as_games, "extra_groups": ["www-data"]})
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing was done: --run-as games: its groups differ" in done.stderr


@needs_root
def test_without_root_a_capability_opens_low_ports_and_goes(
    launch: Launch, as_games: dict[str, Any]
) -> None:
    capability = ("--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service")
    command = ("setpriv", "--reuid=games", "--regid=games", "--clear-groups", *capability)
    options = {name: as_games[name] for name in ("env", "cwd")}
    listen = ("--listen", "127.0.0.1:81", "--")
    done = launch(*listen, *PYTHON, command=(*command, *as_games["command"]), **options)
    found = seen(done)
    assert found["descriptors"]["3"]
    sets = ("CapInh", "CapPrm", "CapEff", "CapAmb")
    assert {name: int(found["status"][name], 16) for name in sets} == dict.fromkeys(sets, 0)


@needs_root
def test_without_proc_it_says_so(launch: Launch, directory: Path) -> None:
    hidden = 'nsenter --mount=/proc/self/ns/mnt mount -t tmpfs tmpfs /proc; exec "$@"'
    command = ["unshare", "--mount", "sh", "-ec", hidden, "sh", *LAUNCH]
    done = launch(
        "--listen", f"{directory}/s", "--run-as", "games", "--", "/bin/true", command=command
    )
    assert (done.returncode, os.listdir(directory)) == (1, [])
    assert "/proc is not mounted" in done.stderr


def test_without_root_it_does_what_needs_none(
    launch: Launch, directory: Path, as_games: dict[str, Any]
) -> None:
    path = directory / "s"
    found = seen(launch("--listen", str(path), "--", *PYTHON, **as_games))
    assert found["status"]["NoNewPrivs"] == "1"
    assert int(found["status"]["CapPrm"], 16) == 0
    assert path.stat().st_mode & 0o7777 == 0o660


# An /etc of its own, with a user more; that of the machine stays as it is
WITH_A_USER = """\
# seen from where / is a mount point, as it is in no chroot
nsenter --mount=/proc/self/ns/mnt mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc
useradd --system --no-create-home --groups root,www-data sdactivate-gone
exec "$@"
"""
ITS_OWN_ETC = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", WITH_A_USER, "sh")


@needs_root
def test_the_group_of_root_is_left_out(launch: Launch, directory: Path) -> None:
    found = seen(
        launch(
            *("--listen", f"{directory}/s", "--run-as", "sdactivate-gone", "--", *PYTHON),
            command=[*ITS_OWN_ETC, *LAUNCH],
        )
    )
    assert found["groups"] == sorted({found["gids"][0], grp.getgrnam("www-data").gr_gid})


@needs_root
def test_a_user_removed_half_way_is_fatal(directory: Path) -> None:
    """The launcher has looked the user up and waits for its turn at the path."""
    lock = directory / ".s.lock"
    command = [*ITS_OWN_ETC, *LAUNCH, "--listen", f"{directory}/s", "--run-as", "sdactivate-gone"]
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [*command, "--", "/bin/echo", "no"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: holds(process, lock), "the launcher at the lock")
        inside = ["nsenter", "--mount", "--root", f"--target={process.pid}"]
        subprocess.run([*inside, "userdel", "sdactivate-gone"], check=True, capture_output=True)
    output, talk = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (2, "")
    assert "no user 'sdactivate-gone'" in talk
    assert sorted(os.listdir(directory)) == []


def holds(process: "subprocess.Popen[str]", path: Path) -> bool:
    """Whether it has the file open; in another mount namespace, a chroot is part of the name."""
    assert process.poll() is None, process.communicate()
    return any(name.endswith(str(path)) for name in open_files(process.pid))
