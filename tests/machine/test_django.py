"""manage.py check, where the site is a service of systemd's: what the unit says counts."""

import re

from tests.machine.machine import Machine

SETTINGS = """\
from mysite.settings import *
DEBUG = False
INSTALLED_APPS += ["sdactivate.django"]
DATABASES["default"]["CONN_MAX_AGE"] = 700
"""
GENERATE = (
    "sdactivate gen mysite --kind service --app mysite.wsgi:application --chdir /srv/mysite {}"
    " >/etc/systemd/system/mysite.service && systemctl daemon-reload"
)


def findings(machine: Machine, **environ: str) -> list[str]:
    check = "cd /srv/mysite && /opt/sdactivate/bin/python manage.py check --deploy"
    variables = {"DJANGO_SETTINGS_MODULE": "deployed", "STATE_DIRECTORY": "/tmp", **environ}
    done = machine.run("sh", "-c", check, env=variables)
    return [found for found in re.findall(r"sdactivate\.(W\d+)", done.stderr) if found == "W006"]


def test_connections_kept_longer_than_the_unit_lets_the_site_stay(machine: Machine) -> None:
    machine.write("/srv/mysite/deployed.py", SETTINGS)
    assert findings(machine) == []  # no unit
    machine.run("sh", "-c", GENERATE.format(""))
    assert findings(machine) == []
    machine.run("sh", "-c", GENERATE.format("--idle-timeout '9min 60s'"))
    assert findings(machine) == ["W006"]
    assert findings(machine, SDACTIVATE_IDLE_TIMEOUT="0") == []
    drop_in = "/etc/systemd/system/mysite.service.d/idle.conf"
    machine.write(drop_in, "[Service]\nEnvironment=SDACTIVATE_IDLE_TIMEOUT=0\n")
    machine.run("systemctl", "daemon-reload")
    assert findings(machine) == []
    line = "[Service]\nEnvironment=\nExecStart=\nExecStart=/bin/python3 manage.py serve {}\n"
    for option in ("--idle-timeout 10min", "--idle-timeout=10min"):
        machine.write(drop_in, line.format(option))
        machine.run("systemctl", "daemon-reload")
        assert findings(machine) == ["W006"]
