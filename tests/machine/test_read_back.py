"""What systemd itself reads in the units is what was asked for, whatever that was.

Hypothesis writes files of sites with the oddest values that are accepted, for every option. The
systemd generator makes units of them, and systemd is asked, by D-Bus, what it has understood:
sockets, services, commands, timers, templates. systemd-sysusers and systemd-tmpfiles get theirs
from `gen --from` and make accounts and directories below another root.

Many sites at once, since it is the reload that takes time.
"""

import codecs
import json
import random
import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from sdactivate import settings as runtime
from sdactivate.errors import UsageError
from sdactivate.generate import options, units
from sdactivate.generate.build import ALL, Claims, chosen, make
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.output import Target
from sdactivate.generate.schedule import is_span
from sdactivate.generate.sites_toml import Tables
from sdactivate.site import Site
from sdactivate.values import parse_listen
from tests.generate.strategies import MEANT, tables, toml
from tests.machine.machine import Machine

INSTANCE = "one"
NAMES = ("s", "S.i-te_", "0", "a\\x20", "\\x2d\\xc3\\xa4.b")


class Asked(NamedTuple):
    """A site of the file: what it asks for, and what of that is for its commands."""

    site: Site
    given: dict[str, Any]
    template: bool

    @property
    def unit(self) -> str:
        return f"{self.site.name}@{INSTANCE}" if self.template else self.site.name

    @property
    def own(self) -> str:
        """What the directories and the user are called after."""
        return f"{self.site.name}-{INSTANCE}" if self.template else self.site.name

    def said(self, text: str) -> str:
        """The text with the instance in it."""
        return text.replace("{instance}", INSTANCE) if self.template else text


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Asked]]:
    """A file of sites, and what it asks for."""
    path = tmp_path_factory.mktemp("sites") / "one.toml"
    parts: list[str] = []
    asked: list[Asked] = []
    print("seed", seed := random.randrange(1 << 32))  # shown if a test fails
    dice, claims = random.Random(seed), Claims()
    for table in tables(400, dice):
        name = f"{dice.choice(NAMES)}{len(asked)}"
        lines = "".join(f"{key} = {toml(value)}\n" for key, value in table.items())
        part = f"[sites.{toml(name)}]\n{lines}"
        path.write_text(part)
        try:
            kinds, values = Tables(path).entry(name)
            site = options.site(name, values)
            files = make(site, chosen(kinds or (ALL,), values), values, Target(252)).files
            claims.add(site, files)
        except UsageError:
            continue  # what does not go together: a template with one address, say
        if "template" in kinds and not site.listen:
            address = parse_listen(f"/run/{name}-{INSTANCE}.sock")
            site = Site(**{**vars_of(site), "listen": (address,)})
        asked.append(Asked(site, values, "template" in kinds))
        parts.append(part)
    return "\n".join(parts), asked


def vars_of(site: Site) -> dict[str, Any]:
    return {name: getattr(site, name) for name in site.__dataclass_fields__}


@pytest.fixture(scope="module")
def loaded(machine: Machine, file: tuple[str, list[Asked]]) -> list[Asked]:
    """The sites, as the generator gave them to systemd."""
    text, asked = file
    machine.run("sdactivate", "generator", "--install")
    machine.write("/etc/sdactivate/many.toml", text)
    machine.run("systemctl", "daemon-reload")
    return asked


def properties(machine: Machine, unit: str, interface: str, *names: str) -> dict[str, Any]:
    """Return what systemd has understood of the unit, exactly: by D-Bus, not `systemctl show`."""
    path = "".join(
        char if char.isalpha() or (char.isdigit() and index) else f"_{ord(char):02x}"
        for index, char in enumerate(unit)
    )
    said = machine.run(
        *("busctl", "--json=short", "get-property", "org.freedesktop.systemd1"),
        *(f"/org/freedesktop/systemd1/unit/{path}", f"org.freedesktop.systemd1.{interface}"),
        *names,
    ).stdout.splitlines()
    return {name: json.loads(line)["data"] for name, line in zip(names, said, strict=True)}


def load(machine: Machine, asked: list[Asked], suffix: str) -> None:
    """Instances are loaded when somebody asks for them."""
    if units := [f"{one.unit}{suffix}" for one in asked if one.template]:
        machine.run("systemctl", "show", "--property=LoadState", "--", *units)


def test_sockets(machine: Machine, loaded: list[Asked]) -> None:
    for one in loaded:
        site = one.site
        for stem, addresses in site.socket_units.items():
            unit = f"{stem}@{INSTANCE}" if one.template else stem
            names = ("Listen", "SocketUser", "SocketGroup", "SocketMode", "FileDescriptorName")
            read = properties(machine, f"{unit}.socket", "Socket", *names)
            # Addresses are shown with C escapes.
            read["Listen"] = [
                [kind, codecs.escape_decode(shown.encode())[0].decode()]
                for kind, shown in read["Listen"]
            ]
            assert read == {
                "Listen": [["Stream", one.said(str(address))] for address in addresses],
                "SocketUser": site.user,
                "SocketGroup": site.group,
                "SocketMode": site.mode,
                "FileDescriptorName": addresses[0].name or site.name,
            }


SURROUNDINGS = (
    *("Environment", "EnvironmentFiles", "WorkingDirectory", "ReadWritePaths", "User"),
    *("LoadCredential", "LoadCredentialEncrypted", "DeviceAllow", "StateDirectory"),
    *("MemoryMax", "CPUQuotaPerSecUSec", "TasksMax"),
)


def size(text: str) -> int:
    return int(text.rstrip("KMGT")) << 10 * ("KMGT".find(text[-1]) + 1)


def check_surroundings(
    machine: Machine, one: Asked, unit: str, settings: Mapping[str, str]
) -> list[str]:
    """Compare what services share, with `settings`; return the command that the service runs."""
    site, said = one.site, one.said
    read = properties(machine, unit, "Service", "ExecStart", *SURROUNDINGS)
    ((_, command, *_),) = read.pop("ExecStart")
    environment = dict(entry.split("=", 1) for entry in read.pop("Environment"))
    where = {"PYTHONNOUSERSITE": "1"} | ({"PWD": said(site.chdir)} if site.chdir else {})
    cache = f"/var/cache/{one.own}"
    where |= {"XDG_CACHE_HOME": cache, "MPLCONFIGDIR": f"{cache}/matplotlib"}
    where |= {} if site.run_as else {"HOME": cache}
    assert environment == where | {name: said(value) for name, value in site.env} | {
        f"SDACTIVATE_{name.upper()}": text for name, text in settings.items()
    }
    # ProtectClock= and encrypted credentials add devices of theirs (two for the latter by systemd
    # 257, one by 252); the order means nothing.
    implied = (["char-rtc", "r"], ["/dev/tpmrm0", "rw"], ["char-tpm", "rw"])
    devices = [entry for entry in read.pop("DeviceAllow") if entry not in implied]
    assert sorted(devices) == sorted([said(path), "rw"] for path in site.device)
    for name in ("LoadCredential", "LoadCredentialEncrypted"):
        read[name].sort()
    memory = read.pop("MemoryMax")
    most = site.memory_max or units.MEMORY_MAX
    if most.endswith("%"):  # of what memory there is
        assert 0 < memory < (1 << 64) - 1
    else:
        assert memory == size(most)
    quota = read.pop("CPUQuotaPerSecUSec")
    assert quota == (int(site.cpu_quota[:-1]) * 10000 if site.cpu_quota else (1 << 64) - 1)
    tasks = read.pop("TasksMax")
    assert tasks == int(site.tasks_max or units.tasks_max(site))
    whom = site.service_user
    assert read == {
        "EnvironmentFiles": [[said(path), False] for path in site.env_file],
        "WorkingDirectory": said(site.chdir),
        "ReadWritePaths": [said(path) for path in site.writable],
        "User": f"{whom}-{INSTANCE}" if one.template and not site.run_as else whom,
        "LoadCredential": sorted([name, said(path)] for name, path in site.credential),
        "LoadCredentialEncrypted": sorted(
            [name, said(path)] for name, path in site.encrypted_credential
        ),
        "StateDirectory": [one.own],
    }
    argv: list[str] = command
    return argv


def test_services(machine: Machine, loaded: list[Asked]) -> None:
    load(machine, loaded, ".service")
    version = int(machine.run("systemctl", "--version").stdout.split()[1])
    for one in loaded:
        site, settings = one.site, dict(one.site.settings)
        # From 260 on systemd reads credentials again at a reload
        secrets = () if version >= 260 else (*site.credential, *site.encrypted_credential)
        if at_start := [*site.env_file, *(path for _, path in secrets)]:
            settings.setdefault("read_at_start", one.said(shlex.join(at_start)))
        command = check_surroundings(machine, one, f"{one.unit}.service", settings)
        assert command == [one.site.python, "-m", "sdactivate", "serve", one.site.app]


def test_commands_and_timers(machine: Machine, loaded: list[Asked]) -> None:
    seen = 0
    for one in loaded:
        timed, by_hand = one.given.get("command", ()), one.given.get("by_hand", ())
        for words in () if one.template else (*timed, *by_hand):
            unit = f"{one.site.name}-{words[0]}"
            command = check_surroundings(machine, one, f"{unit}.service", one.site.settings)
            # As it is shown, the environment has not been put in yet: test_arguments_arrive.
            shown = [word.replace("$", "$$") for word in words]
            assert command == [one.site.python, "manage.py", *shown]
            if words in timed:
                check_timer(machine, unit, one.given.get("every", "daily"))
                seen += 1
    assert seen


def test_arguments_arrive(machine: Machine) -> None:
    machine.write("/srv/echo/manage.py", "import json, sys; print(json.dumps(sys.argv[1:]))")
    command = shlex.join(["echo", *MEANT])
    options = ("--chdir", "/srv/echo", "--by-hand", command, "--env", "HOME=/nowhere")
    unit = machine.run("sdactivate", "gen", "echo", "--kind", "timer-service", *options).stdout
    machine.write("/etc/systemd/system/echo-echo.service", unit)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "echo-echo.service")
    said = machine.run("journalctl", "--unit=echo-echo", "--output=cat").stdout.splitlines()
    assert [json.loads(line) for line in said if line.startswith("[")] == [["echo", *MEANT]]


def check_timer(machine: Machine, unit: str, every: str) -> None:
    names = ("Unit", "Persistent", "TimersCalendar", "TimersMonotonic")
    read = properties(machine, f"{unit}.timer", "Timer", *names)
    read["TimersMonotonic"] = sorted([name, at] for name, at, _ in read["TimersMonotonic"])
    read["TimersCalendar"] = [event for _, event, _ in read["TimersCalendar"]]
    span = round(runtime.seconds(every) * 1e6) if is_span(every) else 0
    normal = machine.run("systemd-analyze", "calendar", every).stdout if not span else ""
    assert read == {
        "Unit": f"{unit}.service",
        "Persistent": not span,
        "TimersMonotonic": [["OnBootUSec", span], ["OnUnitActiveUSec", span]] if span else [],
        "TimersCalendar": re.findall("Normalized form: (.*)", normal),
    }


def test_nothing_was_ignored(machine: Machine, loaded: list[Asked]) -> None:
    """systemd has no word to say about any of them, and neither had the generator."""
    said = [line for line in machine.journal().splitlines() if "sdactivate" in line]
    assert [line for line in said if "left out" in line] == []
    ignored = [line for line in machine.journal("init.scope").splitlines() if "ignoring" in line]
    # In a container whose control groups lack a controller
    assert [line for line in ignored if "for control group" not in line] == []


ROOT = "/var/tmp/other"


@pytest.fixture(scope="module")
def prepared(machine: Machine, file: tuple[str, list[Asked]]) -> list[Asked]:
    """The sites, with their accounts and directories made below another root."""
    text, asked = file
    machine.write("/root/many.toml", text)
    out = "/root/out"
    machine.run("sdactivate", "gen", "--from", "/root/many.toml", "--out", out, "--systemd=252")
    there = "shop-app:x:4300:4300::/:/bin/false"  # whether or not a site makes it, too
    copy = f"cp /etc/passwd /etc/group {ROOT}/etc; echo {there} >>{ROOT}/etc/passwd"
    machine.run("sh", "-ec", f"mkdir -p {ROOT}/etc; {copy}")
    machine.run("sh", "-c", f"systemd-sysusers --root={ROOT} {out}/sysusers.d/*.conf")
    machine.run("sh", "-c", f"systemd-tmpfiles --root={ROOT} --create {out}/tmpfiles.d/*.conf")
    return asked


# A template is checked as an instance of it, "i" for systemd 252, "test_instance" for 257, with
# which the names of some users are longer than the 31 characters that utmp has room for.
STAND_IN = re.compile(
    r"Accepting user/group name '(?=.{32})[\w-]+-test_instance', which does not match strict .*"
)


def test_systemd_analyze_has_no_word_to_say(machine: Machine, prepared: list[Asked]) -> None:
    units = " ".join(f"/root/out/*.{suffix}" for suffix in ("socket", "service", "timer"))
    done = machine.run("sh", "-c", f"systemd-analyze verify --man=no {units}", timeout=180)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if not STAND_IN.fullmatch(line)] == []


def has(one: Asked, kind: str) -> bool:
    return not one.template and KINDS[kind] in chosen([ALL], one.given)


def test_accounts(machine: Machine, prepared: list[Asked]) -> None:
    groups = {
        name: members.split(",")
        for name, _, _, members in (
            line.split(":") for line in machine.read(f"{ROOT}/etc/group").splitlines()
        )
    }
    asked = [one for one in prepared if has(one, "sysusers") and not one.site.group.isdigit()]
    assert asked
    for one in asked:
        if one.site.group != "root":
            assert set(one.given["member"]) <= set(groups[one.site.group])


def test_directories(machine: Machine, prepared: list[Asked]) -> None:
    users = {
        uid: name
        for name, _, uid, *_ in (
            line.split(":") for line in machine.read(f"{ROOT}/etc/passwd").splitlines()
        )
    }
    find = ("find", ROOT, "-type", "d", "-printf", "%P\\0%U\\0%m\\0")
    listing = machine.run(*find).stdout.split("\0")
    there = {
        f"/{path}": (users.get(uid, uid), mode)
        for path, uid, mode in zip(listing[::3], listing[1::3], listing[2::3], strict=False)
    }
    seen = 0
    owners: dict[str, set[str]] = {}
    for one in prepared:
        if not has(one, "tmpfiles"):
            continue
        for address in one.site.addresses:
            parent = address.path.rpartition("/")[0]
            if parent not in ("", "/run"):
                assert there[parent] == ("root", "755")
                seen += 1
        if one.site.run_as:
            for path in one.site.writable:
                owners.setdefault(path, set()).add(one.site.run_as.replace("33", "www-data"))
    assert seen
    assert owners
    for path, whose in owners.items():  # of two sites with one directory the first has it
        assert there[path][0] in whose
        assert there[path][1] == "750"
