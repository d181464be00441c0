"""A body without an announced length is held to the front's limit: HAProxy's own can't be."""

import pytest

from tests.machine.fronts import SETUP
from tests.machine.machine import Machine

SITE = ("--app", "mysite.wsgi:application", "--chdir", "/srv/mysite", "--front", "haproxy")
FRONT = ("--max-body", "1M", "--server-name", "a.test")
UPLOAD = """
head -c "$1" /dev/zero | curl -sS -o /dev/null -w "%{http_code}" --max-time 60 -X POST \\
    -H "Host: a.test" -H "Transfer-Encoding: chunked" -T - http://127.0.0.1/nothing-here
"""


def test_a_chunked_body_over_the_limit_is_refused(machine: Machine) -> None:
    protocol = "http"  # over FastCGI HAProxy answers 400 to any but small ones
    if machine.run("which", "haproxy", check=False).returncode:
        pytest.skip("the machine has no HAProxy")
    setup = SETUP["haproxy"]
    install = (*machine.sdactivate, "install", "mysite", *SITE, "--protocol", protocol, *FRONT)
    machine.run(*install, "--units-only", "--force")
    gen = (*machine.sdactivate, "gen", "mysite", "--kind", "haproxy", "--protocol", protocol)
    text = machine.run(*gen, "--front", "haproxy", *FRONT).stdout
    machine.write(setup.path, text)
    first = f"test -e /etc/haproxy/packaged || {{ {setup.install}; }}"
    machine.run("sh", "-ec", f"{first}\n{setup.enable}\n{setup.check}\nsystemctl restart haproxy")
    assert machine.run("sh", "-c", UPLOAD, "sh", "500000").stdout in ("403", "404")
    assert machine.run("sh", "-c", UPLOAD, "sh", "3000000").stdout == "413"
