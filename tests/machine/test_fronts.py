"""Every front, in every protocol it speaks, before the Django site on its socket unit.

The distribution's own packages, units and users, with what `sdactivate gen` prints and no more.
A case (front and protocol) goes through several configurations: the application at the root,
mounted with PHP beside it, behind TLS with a login, and with a balancer in front of the front;
`front_client.py` asks from inside. What differs from "ok" is a row of `fronts.DEVIATIONS`, with
the reason.
"""

import json
import posixpath
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from sdactivate import fronts, trust
from tests.machine import front_client, front_results, php
from tests.machine.front_results import Version
from tests.machine.fronts import (
    CASES,
    CHECKS,
    CLIENT,
    HTTPS_CLIENT,
    PROGRAM,
    SETUP,
    deviation,
    is_right,
)
from tests.machine.machine import CommandFailed, Machine

HTPASSWD = "alice:$2y$04$0ke5X79Muv7S/GPKs4.I9Ok22Yg1YkSlBSKpqVglIOsPPlLQt4qmS\n"  # secret
PHP = """<?php
$spoofed = array_filter($_SERVER, fn($value) => $value === "evil-spoof");
echo "PHP: ", $_SERVER["QUERY_STRING"], " spoofed=", count($spoofed);
"""
CERTIFICATE = """
cd /etc/ssl
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=s.test \\
    -addext subjectAltName=DNS:s.test,DNS:www.s.test -keyout front-test.pem.key -out front-test.pem
chmod 644 front-test.pem.key
"""
APPLICATION = (
    *("--app", "mysite.wsgi:application", "--chdir", "/srv/mysite"),
    # What the service has to believe over HTTP is told by these; the others have variables for it.
    *("--mount", "/app", "--auth-file", "/etc/front.htpasswd"),
    *("--max-body", "10M", "--stream", "/through"),
    *("--trust-headers", "X-Forwarded-Host,X-Forwarded-Port"),
)

# What the front is asked for in each of the three configurations.
ROOT = ("--server-name", "a.test", "--max-body", "10M", "--stream", "/through")
ROOT_FILES = ("--static", "/static=/srv/mysite/staticfiles", "--media", "/media=/srv/media")
MOUNT = ("--server-name", "b.test", "--mount", "/app")
MOUNT_FILES = (
    "--static",
    "/app/static=/srv/mysite/staticfiles",
    "--media",
    "/app/media=/srv/media",
)
# Not /run/php/php-fpm.sock: PHP-FPM's unit on sid (ProtectSystem=full) can't make that link.
PHP_BESIDE = ("--php", f"/run/php/php{php.VERSION}-fpm.sock")
CANONICAL = ("--server-name", "s.test", "--server-name", "www.s.test")
TLS = (*CANONICAL, "--tls", "/etc/ssl/front-test.pem,/etc/ssl/front-test.pem.key")
HOP = ("--server-name", "c.test", "--mount", "/app")
BEHIND = ("--behind", "127.0.0.2", "--behind", "127.0.0.3")
NAMED = ("--trust-headers", "X-Forwarded-Host", "--trust-headers", "X-Forwarded-Port")
LOGIN = ("--auth-file", "/etc/front.htpasswd")

# Every `sdactivate gen` of a case in one process: to start one takes longer than to generate.
GENERATOR = """
import contextlib, io, json, sys
from sdactivate.cli import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""

COLD = "/etc/systemd/system/mysite.service.d/cold.conf"
# Django computes its static URL once, from the mount of the first request: a process a mount.
STOP = "systemctl stop mysite.service"

Outcomes = dict[str, str]

_cold: dict[str, Outcomes] = {}


@pytest.fixture(scope="module")
def furnished(machine: Machine) -> Machine:
    """A machine with the site's service, PHP-FPM, and files for the fronts to serve."""
    if machine.run("sh", "-c", "which openssl && ls /usr/sbin/php-fpm*", check=False).returncode:
        pytest.skip("the machine has no PHP-FPM, or no openssl")
    furnish(machine)
    return machine


def furnish(machine: Machine) -> None:
    """Put into the machine what every case needs."""
    machine.write("/srv/client.py", CLIENT.read_text())
    machine.write("/srv/https_client.py", HTTPS_CLIENT.read_text())
    machine.write("/srv/media/users.txt", "a user's file\n")
    machine.write("/srv/media/evil.php", '<?php echo "exec"."uted";')
    machine.write("/var/www/html/test.php", PHP)
    machine.write("/etc/front.htpasswd", HTPASSWD)
    machine.run("sh", "-c", CERTIFICATE)
    machine.run("sh", "-c", "systemctl start $(basename /lib/systemd/system/php*-fpm.service)")


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A front and a protocol."""
    front, protocol = request.param
    return front, protocol


@pytest.fixture(scope="module")
def outcomes(furnished: Machine, case: tuple[str, str]) -> Iterator[Outcomes]:
    """What became of each check, for one front and protocol: all is done here, once."""
    name, protocol = case
    if furnished.run("which", PROGRAM[name], check=False).returncode:
        pytest.skip(f"the machine has no {fronts.FRONTS[name].title}")
    front = Running(furnished, fronts.FRONTS[name], protocol)
    try:
        found = front.all()
        front_results.keep(furnished, "fronts", case, found)
        yield found
    finally:
        front.stop()


class Running:
    """One front in the machine."""

    application: tuple[str, ...] = APPLICATION
    server: tuple[str, ...] = ()
    program = GENERATOR

    def __init__(self, machine: Machine, front: fronts.Front, protocol: str) -> None:
        self.machine = machine
        self.generator = machine.popen(
            *(machine.python, "-c", self.program), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.front = front
        self.protocol = protocol
        self.packaging = front.packaging["debian"]
        self.socket = self.packaging.default_socket("mysite")
        self.stop_each("mysite.socket", "mysite.service")
        self.shell(f"rm -f {self.socket}")
        unit = self.gen("socket", "--front", front.name)
        machine.write("/etc/systemd/system/mysite.socket", unit)
        said = ("--protocol", protocol, *self.server, *self.application)
        unit = self.gen("service", "--front", front.name, *said)
        machine.write("/etc/systemd/system/mysite.service", unit)
        self.shell("systemctl daemon-reload; systemctl reset-failed; systemctl start mysite.socket")
        mark = f"/etc/front-{front.name}"
        self.shell(f"test -e {mark} || {{ {SETUP[front.name].install or ':'}; }} && touch {mark}")

    def shell(self, script: str) -> str:
        """Run a script inside and return what it prints."""
        return self.machine.run("sh", "-c", script).stdout

    def gen(self, kind: str, *options: str) -> str:
        """Return what `sdactivate gen` prints. Raises CommandFailed."""
        argv = ["gen", "mysite", "--kind", kind, *options]
        asked, answered = self.generator.stdin, self.generator.stdout
        assert asked
        assert answered
        print(json.dumps(argv), file=asked, flush=True)
        code, text, said = json.loads(answered.readline())
        if code:
            raise CommandFailed(code, argv, text, said)
        return str(text)

    def configure(self, *options: str) -> None:
        """Generate the front's configuration, have it checked, and let the front run with it."""
        setup = SETUP[self.front.name]
        text = self.gen(self.front.name, "--protocol", self.protocol, *self.server, *options)
        path = setup.path or self.packaging.config.replace("NAME", "mysite")
        self.machine.write(path, text)
        self.shell(f"set -e; {setup.enable}\n{setup.check}")
        self.shell(f"systemctl reset-failed; systemctl restart {self.packaging.unit}")

    def ask(self, shape: str) -> Outcomes:
        """Return the outcomes of the client's checks for one configuration."""
        client = ("/usr/bin/python3", "/srv/client.py", shape, *trust.FORGEABLE)
        outcomes: Outcomes = json.loads(self.machine.run(*client, timeout=300).stdout)
        return outcomes

    def all(self) -> Outcomes:
        """Go through all configurations and failures; return what became of each check."""
        static = self.front.static
        self.configure(*ROOT, *(ROOT_FILES if static else ()))
        found = self.cold() | self.ask("root") | self.failures()
        self.shell(STOP)
        self.configure(*MOUNT, *((*MOUNT_FILES, *PHP_BESIDE) if static else ()))
        found |= self.ask("mount") | self.behind()
        self.shell(STOP)
        is_refused = (self.front.name, self.protocol) == ("lighttpd", "http")
        unix = () if is_refused or "unix" in self.front.not_behind else ("--behind", "unix")
        self.configure(*TLS, *(() if is_refused else (*LOGIN, *BEHIND, *unix)))
        found |= self.ask("tls")
        refused = dict.fromkeys(front_client.tls_unix([]), "refused")
        return found | (self.ask("tls-unix") if unix else refused)

    def behind(self) -> Outcomes:
        """Put a balancer in front of the front, in each form; "refused" where `gen` says it can't.

        Right after "mount": the process that runs knows that mount.
        """
        self.shell(f"install -d {posixpath.dirname(front_client.FRONT_SOCKET)}")
        unix = () if "unix" in self.front.not_behind else ("--behind", "unix")
        found: Outcomes = {}
        for shapes, options in (
            (("behind", "behind-unix") if unix else ("behind",), (*BEHIND, *unix)),
            (() if unix else ("behind-unix",), ("--behind", "unix")),
            (("behind-named",), (*BEHIND, *NAMED)),
            (("behind-proxy",), ("--behind", "proxy:127.0.0.2")),
        ):
            try:
                if shapes:
                    self.configure(*HOP, *options)
            except CommandFailed as error:
                if error.returncode != 2:
                    raise
                checks = [check for shape in shapes for check in front_client.SHAPES[shape]([])]
                found |= dict.fromkeys(checks, "refused")
            else:
                for shape in shapes:
                    found |= self.ask(shape)
        return found

    def cold(self) -> Outcomes:
        """Let the first request wait for a start that takes five seconds more than it does.

        Once a front: how long it waits does not depend on what it speaks.
        """
        if self.front.name in _cold:
            return _cold[self.front.name]
        self.machine.write(COLD, "[Service]\nExecStartPre=/bin/sleep 5\n")
        self.shell("systemctl daemon-reload")
        found = self.ask("cold")
        self.shell(f"rm {COLD}; systemctl daemon-reload")
        _cold[self.front.name] = found
        return found

    def failures(self) -> Outcomes:
        """Take the socket away, close it, and let nobody listen: what is answered and logged."""
        failures, path = self.front.failures, self.socket
        nobody = f"import socket as s; s.socket(s.AF_UNIX).bind('{path}')"
        broken = {
            "missing": (f"mv {path} {path}.away", failures.missing),
            "forbidden": (f"cp -a {path}.away {path} && chmod 600 {path}", failures.forbidden),
            "refused": (
                f'rm {path}; /usr/bin/python3 -c "{nobody}"; chmod 666 {path}',
                failures.refused,
            ),
        }
        found = {}
        for what, (script, line) in broken.items():
            self.shell(script)
            # Afresh: lighttpd does not try again for a while.
            self.shell(f"systemctl reset-failed; systemctl restart {self.packaging.unit}")
            before = len(self.log())
            status = self.ask("status")["status"]
            found[f"socket {what}"] = "ok" if status == str(failures.status) else status
            line = line.replace("SOCKET", path)
            self.machine.wait(
                partial(self.logged, line, before),
                f"{line!r} in the log of {self.front.title}",
                timeout=20,
            )
        self.shell(f"rm {path}; mv {path}.away {path}")
        return found

    def log(self) -> str:
        """The front's error log, as the table says that it is found."""
        if self.packaging.log:
            return self.machine.read(self.packaging.log)
        return self.machine.journal(self.packaging.unit)

    def logged(self, line: str, since: int) -> bool:
        """Whether the line is in the log, after its first `since` characters."""
        return line in self.log()[since:]

    def stop(self) -> None:
        """Let the next one have the ports."""
        self.generator.communicate(timeout=30)
        self.stop_each(self.packaging.unit, "mysite.socket", "mysite.service")

    def stop_each(self, *units: str) -> None:
        """Stop the units one by one: where one is unknown, newer systemd stops none of them."""
        self.shell(f"for unit in {' '.join(units)}; do systemctl stop $unit; done; :")


@pytest.fixture(scope="module")
def version(furnished: Machine, case: tuple[str, str]) -> Version:
    """The version of the front."""
    return front_results.version(front_results.installed(furnished, case[0]))


@pytest.mark.parametrize("check", CHECKS)
def test_it_works(outcomes: Outcomes, case: tuple[str, str], version: Version, check: str) -> None:
    expected = deviation(*case, check, version)
    assert is_right(outcomes[check], expected), (outcomes[check], expected)
