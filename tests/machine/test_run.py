"""sdactivate run: a command with the site's user, sandbox, environment, terminal and pipes."""

import fcntl
import os
import signal
import struct
import subprocess
import termios
import time

import pytest

from sdactivate import sandbox
from tests.machine.machine import Machine
from tests.machine.terminal import GUARD, Terminal

INSTALL = (
    *("sdactivate", "install", "mysite", "--group", "www-data"),
    *("--app", "mysite.wsgi:application", "--chdir", "/srv/mysite"),
    *("--env", "GREETING=hello $HOME 100%", "--credential", "secret_key=/etc/mysite.key"),
)
RUN = ("sdactivate", "run", "mysite")
PYTHON = (*RUN, "--", "python", "-c")


@pytest.fixture(scope="module")
def site(machine: Machine) -> Machine:
    machine.write("/etc/mysite.key", "x" * 50, mode=0o600)
    machine.run(*INSTALL)
    machine.run("systemctl", "stop", "mysite.service")
    return machine


# What surrounds a process, besides the sandbox: systemd.exec(5), systemd.resource-control(5).
SURROUNDINGS = {
    *(row.name for row in sandbox.TABLE),
    *("User", "Group", "SupplementaryGroups", "DynamicUser", "Environment", "WorkingDirectory"),
    *("StateDirectory", "StateDirectoryMode", "CacheDirectory", "CacheDirectoryMode"),
    *("ReadWritePaths", "NoExecPaths", "MemoryMax", "TasksMax", "LimitNOFILE", "LogExtraFields"),
    *("Nice", "Slice", "LoadCredential"),
}
DROP_IN = """\
[Service]
Environment=FROM_DROP_IN=100%% UNIT=%n "SPACED=a b"
LogExtraFields=SITE=%p
LimitNOFILE=2048
ReadWritePaths=-%L/mysite
Nice=3
"""


def properties(machine: Machine, unit: str) -> dict[str, list[str]]:
    lines = machine.run("systemctl", "show", unit).stdout.splitlines()
    parted = (line.partition("=") for line in lines)
    # Sets of systemd's have no order.
    return {name: sorted(value.split()) for name, _, value in parted if name in SURROUNDINGS}


def test_it_has_every_property_of_the_service(site: Machine) -> None:
    site.write("/etc/systemd/system/mysite.service.d/more.conf", DROP_IN)
    site.run("systemctl", "daemon-reload")
    listing = ("systemctl", "list-units", "--plain", "--no-legend", "mysite-run-*")
    with site.popen(*RUN, "--", "sleep", "600", stdin=subprocess.DEVNULL) as process:
        try:
            site.wait(lambda: "running" in site.run(*listing).stdout, "the command")
            unit = site.run(*listing).stdout.split()[0]
            own, other = properties(site, "mysite.service"), properties(site, unit)
        finally:
            process.terminate()
            site.run("rm", "-r", "/etc/systemd/system/mysite.service.d")
            site.run("systemctl", "daemon-reload")
    assert other == own
    assert "FROM_DROP_IN=100%" in own["Environment"]


def test_a_django_site_from_migrate_to_an_admin(site: Machine) -> None:
    """One database, whether the service runs or not; createsuperuser asks in a terminal."""
    done = site.run(*RUN, "--", "python", "manage.py", "migrate")
    assert "Applying auth.0001_initial... OK" in done.stdout
    site.run("systemctl", "start", "mysite.service")
    terminal = Terminal(site, *RUN, "--", "python", "manage.py", "createsuperuser")
    # Neither a title nor a background of systemd's: ESC ] starts both (xterm, ctlseqs)
    assert "\x1b]" not in terminal.expect(r"(?s).*Username .*: ")
    terminal.send("carol\n")
    terminal.expect("Email address: ")
    terminal.send("carol@mysite.test\n")
    terminal.expect("Password: ")
    terminal.send("correct horse battery\n")
    terminal.expect("Password .*: ")
    terminal.send("correct horse battery\n")
    terminal.expect("Superuser created successfully")
    assert terminal.end() == 0
    asked = "from django.contrib.auth.models import User; print(User.objects.get().username)"
    command = (*RUN, "--", "python", "manage.py", "shell", "-c", asked)
    assert site.run(*command).stdout.endswith("carol\n")
    user = "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name, os.getcwd())"
    assert site.run(*PYTHON, user).stdout == "mysite /srv/mysite\n"
    site.run("systemctl", "stop", "mysite.service")
    assert site.run(*PYTHON, user).stdout == "mysite /srv/mysite\n"
    assert site.run(*command).stdout.endswith("carol\n")


@pytest.mark.parametrize(
    ("code", "script"),
    [
        *((3, "exit 3"), (203, "exit 203"), (143, "kill -TERM $$"), (130, "kill -INT $$")),
        (137, "kill -KILL $$"),
    ],
)
def test_the_exit_code_is_the_command_s(code: int, script: str, site: Machine) -> None:
    """systemd-run alone has 0 for an end by TERM or INT, and 255 for KILL."""
    # A shell of its own: what runs the command is not to be killed, but its child.
    done = site.run(*RUN, "--", "sh", "-c", script, check=False)
    assert (done.returncode, done.stdout, done.stderr.replace("Killed\n", "")) in (
        (code, "", ""),
        (code, "", "Terminated\n"),
    )


def test_what_is_not_there_is_127_and_what_cannot_be_made_has_its_reason(site: Machine) -> None:
    done = site.run(*RUN, "--", "no-such-program", check=False)
    assert done.returncode == 127
    assert "no-such-program: not found" in done.stderr
    site.run("mv", "/etc/mysite.key", "/etc/mysite.key.away")
    try:
        failed = site.run(*RUN, "--", "true", check=False)
    finally:
        site.run("mv", "/etc/mysite.key.away", "/etc/mysite.key")
    assert failed.returncode == 243
    assert "sdactivate run: " in failed.stderr
    assert "Failed at step CREDENTIALS" in failed.stderr
    assert site.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""


def test_words_and_streams_pass_as_they_are(site: Machine) -> None:
    words = ["$HOME", "${PATH}", "%n", "a b", "--", 'q"', "\\n", "", "$$"]
    told = site.run(*PYTHON, "import sys; print(sys.argv[1:])", *words)
    assert told.stdout == f"{words}\n"
    environ = "import os; print(os.environ['GREETING'], 'SUDO_USER' in os.environ)"
    assert site.run(*PYTHON, environ, env={"SUDO_USER": "x"}).stdout == "hello $HOME 100% False\n"
    secret = "import os; print(len(open(os.environ['CREDENTIALS_DIRECTORY']+'/secret_key').read()))"
    assert site.run(*PYTHON, secret).stdout == "50\n"
    piped = site.run(*RUN, "--", "python", "-", input="import sys; sys.stderr.write('42')")
    assert (piped.stdout, piped.stderr) == ("", "42")
    closed = site.run(
        "sh", "-c", 'exec "$@" <&- >&-', "sh", *RUN, "--", "sh", "-c", "cat; echo x >&2"
    )
    assert (closed.stdout, closed.stderr) == ("", "x\n")
    # A program that is installed beside the interpreter is the site's, too.
    assert site.run(*RUN, "--", "django-admin", "--version").stdout[:1].isdigit()


def test_interrupts_and_the_windows_size_reach_the_command(site: Machine) -> None:
    shell = "import code, os; code.interact(f'{os.isatty(0)} ready', local={'os': os})"
    terminal = Terminal(site, *PYTHON, shell)
    before = termios.tcgetattr(terminal.master)
    terminal.expect("True ready")
    # The program's word, not the terminal's echo; and a signal just before a sleep does not end it.
    loop = "import time; [print('as' + 'leep') or time.sleep(0.2) for _ in range(3000)]"
    terminal.send(f"{loop}\n")
    terminal.expect("asleep")
    terminal.send("\x03")
    terminal.expect("KeyboardInterrupt")
    size = struct.pack("HHHH", 33, 77, 0, 0)
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, size)
    deadline = time.monotonic() + GUARD
    while True:  # the signal is on its way
        terminal.send("print('size', *os.get_terminal_size(), 'end')\n")
        if terminal.expect(r"size \d+ \d+ end") == "size 77 33 end":
            break
        assert time.monotonic() < deadline
    # Not ^D: it is no end for readline where it comes while that does not read.
    terminal.send("os._exit(5)\n")
    assert terminal.process.wait(GUARD) == 5
    assert termios.tcgetattr(terminal.master) == before
    os.close(terminal.master)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_a_signal_is_passed_on(number: signal.Signals, site: Machine) -> None:
    program = "import time; print('ready', flush=True)\nwhile True: time.sleep(0.2)"
    with site.popen(
        *PYTHON, program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        pids = site.run("pgrep", "-f", "bin/sdactivate run").stdout.split()
        site.run("kill", f"-{number.value}", *pids)
        process.communicate(timeout=GUARD)
        assert process.returncode in (128 + number, -number)
    assert site.run("pgrep", "-f", "time.sleep.0.2", check=False).stdout == ""


def test_the_network_and_other_paths_only_where_asked_for(site: Machine) -> None:
    connect = (
        "import socket, threading\n"
        "server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()\n"
        "print(socket.create_connection(server.getsockname(), 20).getpeername()[0])"
    )
    refused = site.run(*PYTHON, connect, check=False)
    assert refused.returncode == 1
    assert "not supported by protocol" in refused.stderr
    # The host's own loopback: the site's is private. And listen(2) stays refused.
    with site.popen(site.python, "-m", "http.server", "--bind", "127.0.0.1", "8099"):
        fetch = (
            "import socket; print(socket.create_connection(('127.0.0.1', 8099), 20).fileno() > 0)"
        )
        network = (*RUN, "--network", "--", "python", "-c", fetch)
        site.wait(lambda: site.run(*network, check=False).stdout == "True\n", "a connection")
        site.run("pkill", "-f", "http.server")
    site.run("install", "-d", "-m", "777", "/srv/ex port")
    write = "open('/srv/ex port/x', 'w').write('y')"
    assert site.run(*PYTHON, write, check=False).stderr.endswith("'/srv/ex port/x'\n")
    site.run(*RUN, "--writable", "/srv/ex port", "--", "python", "-c", write)
    assert site.read("/srv/ex port/x") == "y"


def test_templates_and_sites_of_the_generator(site: Machine) -> None:
    template = "sdactivate gen many --kind template --app a:b --chdir /srv/mysite --out {}"
    site.run("sh", "-ec", template.format("/etc/systemd/system"))
    site.run("sdactivate", "generator", "--install")
    site.write(
        "/etc/sdactivate/all.toml", '[sites."toml.site"]\napp = "a:b"\nchdir = "/srv/mysite"\n'
    )
    site.run("systemctl", "daemon-reload")
    own = 'id -un; echo "$STATE_DIRECTORY"'
    for name, user in (("many@one", "many-one"), ("toml.site", "site-")):
        said = site.run("sdactivate", "run", name, "--", "sh", "-c", own).stdout.split()
        assert said[0].startswith(user)
        assert said[1] == f"/var/lib/{name.replace('@', '-')}"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nothing", "--", "true"), 1, "nothing: systemd has no nothing.service (not-found)"),
        (("many@", "--", "true"), 2, "NAME 'many@' is a template; name one of its instances"),
        (("mysite.socket", "--", "true"), 2, "name the site, 'mysite'"),
        (("mysite", "--writable", "x", "--", "true"), 2, "--writable 'x' is not an absolute path"),
        (("mysite", "--writable", "/no", "--", "true"), 2, "owned by the site's user mysite"),
        (("mysite", "--"), 2, "COMMAND"),
        (("mysite", "true", "--flag"), 2, "--flag: there is no such option"),
        (("my*", "--", "true"), 2, "a pattern can match several units"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], code: int, said: str, site: Machine) -> None:
    done = site.run("sdactivate", "run", *words, check=False)
    assert done.returncode == code
    assert said in done.stderr


def test_only_root_runs_commands(site: Machine) -> None:
    done = site.run(*RUN, "--", "true", user="alice", check=False)
    assert (done.returncode, "use sudo" in done.stderr) == (1, True)


def test_nothing_is_left_behind(site: Machine) -> None:
    units = site.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "*-run-*").stdout
    assert units == ""
