"""A command in a site's surroundings: the transient unit, beside the service and without it."""

from collections.abc import Iterator

from sdactivate import sandbox
from tests.machine.machine import Machine

# What surrounds a process, besides the sandbox: systemd.exec(5), systemd.resource-control(5).
SURROUNDINGS = {
    *(row.name for row in sandbox.TABLE),
    *("User", "Group", "SupplementaryGroups", "DynamicUser", "Environment", "WorkingDirectory"),
    *("StateDirectory", "StateDirectoryMode", "CacheDirectory", "CacheDirectoryMode"),
    *("ReadWritePaths", "NoExecPaths", "MemoryMax", "TasksMax", "LimitNOFILE", "LogExtraFields"),
    *("Nice", "Slice"),
}
DROP_IN = """\
[Service]
Environment=
Environment=FROM_DROP_IN=100%% UNIT=%n "SPACED=a b"
LogExtraFields=SITE=%p
LimitNOFILE=2048
ReadWritePaths=-%L/mysite
Nice=3
"""
COMMAND_LINE = """\
import sys
from sdactivate.operate import transient
unit = transient.service_of(sys.argv[1])
print(*transient.command_line(unit, sys.argv[3:], sys.argv[2]), sep="\\0", end="")
"""


def properties(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    for line in lines:
        name, _, value = line.partition("=")
        yield name, sorted(value.split())  # sets of systemd's have no order


def test_it_has_every_property_of_the_service(site: Machine) -> None:
    site.write("/etc/systemd/system/mysite.service.d/more.conf", DROP_IN)
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", "mysite.service")
    site.write("/run/line.py", COMMAND_LINE)
    line = site.run(site.python, "/run/line.py", "mysite", "beside.service", "sleep", "600").stdout
    own: dict[str, list[str]] = {}
    other: dict[str, list[str]] = {}
    with site.popen(*line.split("\0")):
        try:
            site.wait(lambda: site.show("beside.service", "MainPID") != "0", "the command")
            for unit, found in (("mysite", own), ("beside", other)):
                shown = site.run("systemctl", "show", f"{unit}.service").stdout.splitlines()
                found.update(properties(shown))
        finally:
            site.run("systemctl", "stop", "beside.service")
            site.run("rm", "-r", "/etc/systemd/system/mysite.service.d")
            site.run("systemctl", "daemon-reload")
    assert {name: other.get(name) for name in SURROUNDINGS} == {
        name: own.get(name) for name in SURROUNDINGS
    }
    assert "FROM_DROP_IN=100%" in own["Environment"]
