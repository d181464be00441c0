"""What the table of symptoms says is printed: each rule of unit files broken on a real systemd.

All sites are broken at once in one machine, each under a name of its own, and asked for once by the
front's user. What needs more than a unit of its own is looked for in test_doctor.py.
"""

from typing import NamedTuple

import pytest

from sdactivate.doctor.symptoms import TABLE
from tests.machine.machine import Machine

UNITS = "/etc/systemd/system"
SOCKET = "[Socket]\nListenStream=/run/{0}.sock\nSocketGroup=www-data\nSocketMode=0660\n"
SERVICE = """\
[Unit]
Requires={0}.socket
After={0}.socket
[Service]
Type=exec
Restart=no
User=alice
ExecStart=/bin/sleep 600
"""
FORGED = "ExecStart=\nExecStart="


class Made(NamedTuple):
    """What is added to a site that works so that a rule is broken, and what is done with it."""

    socket: str = ""
    service: str = ""
    socket_unit: str = ""
    without: str = ""
    """A line of the socket unit to leave out."""
    then: str = ""
    """A shell command after the first client; SITE is the site's name."""
    has_service: bool = True
    path: str = "/run/SITE.sock"
    """Where the front connects."""


_LONG = "x" * 103
_FALSE = f"{FORGED}/bin/false\n"
_FORKS = "/bin/sh -c '/opt/sdactivate/bin/python -m sdactivate serve a:b; true'"
MADE: dict[str, tuple[Made, ...]] = {
    "SDA001": (Made(without="SocketMode=0660\n"),),
    "SDA002": (Made("SocketMode=0666\n"),),
    "SDA003": (Made("SocketUser=bob\n", without="SocketGroup=www-data\n"),),
    "SDA004": (Made(f"ListenStream=\nListenStream=/run/{_LONG}\n"),),
    "SDA005": (Made("ListenStream=@SITE\n"),),
    "SDA006": (Made("ListenStream=127.0.0.1:8000\n"),),
    "SDA007": (Made("SocketUser=SITE\n", "User=\nDynamicUser=yes\n"),),
    "SDA009": (
        Made("ListenStream=\nListenStream=/run/SITE/s\n", "RuntimeDirectory=SITE\n",
             path="/run/SITE/s", then="systemctl stop SITE.service"),
    ),
    "SDA010": (Made("RemoveOnStop=yes\n", then="systemctl stop SITE.socket SITE.service"),),
    "SDA012": (Made("Accept=yes\n"),),
    "SDA014": (
        Made("TriggerLimitBurst=1\nTriggerLimitIntervalSec=10min\n",
             f"{_FALSE}StartLimitIntervalSec=0\n"),
    ),
    "SDA016": (
        Made("ListenStream=\nListenStream=/run/SITE/s\nDirectoryMode=0750\n",
             path="/run/SITE/s"),
    ),
    "SDA019": (Made(service=f"Type=notify\n{FORGED}{_FORKS}\n"),),
    "SDA022": (Made(service=f"ProtectHome=yes\n{FORGED}/root/venv/bin/python x\n"),),
    "SDA025": (Made(service="Type=notify\nTimeoutStartSec=1\n"),),
    "SDA026": (Made(socket_unit="PartOf=SITE.service\n", then="systemctl stop SITE.service"),),
    "SDA028": (
        Made(service="ExecStartPost=+/bin/chmod 666 /run/SITE.sock\n"),
        Made(service="ExecStartPost=/bin/chmod 666 /run/SITE.sock\n"),
    ),
    "SDA030": (
        Made(service="ExecReload=/bin/kill -HUP $MAINPID\n", then="systemctl reload SITE.service"),
    ),
    "SDA031": (Made(service="EnvironmentFile=/etc/hostname #secrets\n"),),
    "SDA032": (Made(has_service=False),),
    "SDA033": (Made(service="WatchdogSec=1\n"),),
    "SDA034": (Made(service=f"{_FALSE}StartLimitBurst=2\nStartLimitIntervalSec=1h\n"),),
    "SDA035": (
        Made(service=f"TimeoutStopSec=1\n{FORGED}/bin/sh -c 'trap \"\" TERM; sleep 600'\n",
             then="systemctl stop SITE.service"),
    ),
    "SDA037": (Made("SocketGroup=SITE\n", "User=\nDynamicUser=yes\n"),),
    "SDA038": (
        Made(service="Enviroment=A=1\nEnvironment=A=1 b\n[service]\nRestart=always\n"),
    ),
    "SDA039": (Made(service=f"{FORGED}A=1/b /bin/true\n"), Made(service=f"{FORGED}cd /srv\n")),
    "SDA109": (Made("SocketGroup=nowhere\n"),),
    "SDA110": (
        Made(service=f"StartLimitBurst=2\nStartLimitIntervalSec=1h\n{_FALSE}"),
        Made(service="User=nowhere\n"),
        Made(service="ReadWritePaths=/srv/nowhere\n"),
    ),
    "SDA113": (Made(service="WorkingDirectory=/root/closed\n"),),
    "SDA122": (Made(has_service=False),),
    "SDA128": (
        Made(service="EnvironmentFile=/srv/none.env\n"),
        Made(service="LoadCredential=key:/srv/none.key\n"),
    ),
}  # fmt: skip
ERRNO = {"missing": "ENOENT", "forbidden": "EACCES", "refused": "ECONNREFUSED"}
KNOCK = """
import errno, os, socket, sys
for path in sys.argv[1:]:
    print("==", path, flush=True)
    for _ in range(3):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(0.1)
        try:
            s.connect(path); s.send(b'GET / HTTP/1.0\\r\\n\\r\\n'); s.recv(9)
        except TimeoutError:
            break
        except OSError as error:
            print(errno.errorcode[error.errno], flush=True)
    os.system(f"ls -l {path} 2>&1")
"""


def name(rule: str, number: int) -> str:
    return f"{rule.lower()}{'abc'[number]}"


def written(site: str, made: Made) -> dict[str, str]:
    """The units of a broken site, by path."""
    socket = SOCKET.format(site).replace(made.without, "") + made.socket
    if made.socket_unit:
        socket = f"[Unit]\n{made.socket_unit}{socket}"
    files = {f"{site}.socket": socket.replace("SITE", site)}
    if made.has_service:
        files[f"{site}.service"] = SERVICE.format(site) + made.service.replace("SITE", site)
    return {f"{UNITS}/{unit}": text for unit, text in files.items()}


@pytest.fixture(scope="module")
def said(machine: Machine) -> dict[str, str]:
    """What is to be seen of each site, by its name: all places in one text."""
    sites = {name(rule, at): it for rule, all_ in MADE.items() for at, it in enumerate(all_)}
    script = "mkdir -p -m 700 /root/closed /root/venv/bin; cp /bin/true /root/venv/bin/python\n"
    script += "chmod 700 /root; mkdir -p /root/units\n"
    for site, made in sites.items():
        for path, text in written(site, made).items():
            script += f"cat >{path} <<'END'\n{text}END\n"
    machine.run("sh", "-ec", f"{script}systemctl daemon-reload")
    # One by one: what systemctl says of each is a symptom, too
    said = {
        site: machine.run("systemctl", "start", f"{site}.socket", check=False).stderr
        for site in sites
    }
    paths = {site: made.path.replace("SITE", site) for site, made in sites.items()}

    def ask() -> None:
        done = machine.run(machine.python, "-c", KNOCK, *paths.values(), user="www-data")
        for site, text in zip(paths, done.stdout.split("== ")[1:], strict=True):
            said[site] += text

    ask()
    machine.wait(lambda: "sda025a.service: start op" in machine.journal(), "the longest time-out")
    for site, made in sites.items():
        if made.then:
            done = machine.run("sh", "-c", made.then.replace("SITE", site), check=False)
            said[site] += done.stderr
    ask()
    machine.run("journalctl", "--sync")
    shown = machine.run("sh", "-c", "ss -xlH; ss -tlnH").stdout
    for site in sites:
        units = ("-u", f"{site}.socket", "-u", f"{site}.service")
        log = machine.run("journalctl", "--no-pager", "-o", "cat", *units).stdout
        said[site] = "\n".join([said[site], log, shown]).replace(site, "mysite")
    return said


@pytest.mark.parametrize("rule", MADE)
def test_the_symptoms_of_a_rule_are_what_is_printed(rule: str, said: dict[str, str]) -> None:
    text = "\n".join(said[name(rule, number)] for number in range(len(MADE[rule])))
    for symptom in TABLE[rule]:
        if symptom.kind:
            assert ERRNO[symptom.kind] in text, symptom
        elif symptom.place not in ("nginx", "client"):
            assert symptom.words in text, symptom


def test_each_symptom_is_looked_for() -> None:
    """Here, or where a whole site is broken; the fronts' own words where the fronts are tested."""
    from tests.machine import test_doctor

    elsewhere = test_doctor.SYMPTOMS
    told = [rule for rule, all_ in TABLE.items() if all_]
    assert [rule for rule in told if rule not in {*MADE, *elsewhere}] == [
        *("SDA115", "SDA146")  # the kernel's, which these machines have no cause for
    ]
