"""/etc/sdactivate/*.toml in a real systemd: sites without unit files."""

import time

from tests.machine.machine import Machine

MYSITE = """\
[sites.mysite]
group = "www-data"
app = "mysite.wsgi:application"
chdir = "/srv/mysite"
"""


def reload(machine: Machine) -> float:
    """Reload and return the seconds it took, the best of three."""
    best = 1000.0
    for _ in range(3):
        start = time.monotonic()
        machine.run("systemctl", "daemon-reload")
        best = min(best, time.monotonic() - start)
    return best


def test_a_site_comes_and_goes_with_its_file(machine: Machine) -> None:
    machine.run("sdactivate", "generator", "--install")
    machine.write("/etc/sdactivate/mysite.toml", MYSITE)
    machine.write("/etc/sdactivate/broken.toml", "[sites.broken]\ngrup = 'x'\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "sockets.target")
    state = machine.run("systemctl", "show", "-P", "UnitFileState", "mysite.socket").stdout
    assert state == "generated\n"
    assert machine.run("stat", "-c", "%G %a", "/run/mysite.sock").stdout == "www-data 660\n"
    fetch = (
        "curl",
        "-sS",
        "--max-time",
        "30",
        "--unix-socket",
        "/run/mysite.sock",
        "http://a.test",
    )
    machine.run(*fetch, user="www-data")
    machine.run("systemctl", "stop", "mysite.socket", "mysite.service")
    machine.run("rm", "/etc/sdactivate/mysite.toml")
    machine.run("systemctl", "daemon-reload")
    state = machine.run("systemctl", "show", "-P", "LoadState", "mysite.socket").stdout
    assert state == "not-found\n"


def test_a_thousand_sites(machine: Machine) -> None:
    """Printed for the documentation; the limit is wide, as the machine may be busy."""
    machine.run("rm", "-rf", "/etc/sdactivate")
    empty = reload(machine)
    sites = "".join(
        f'[sites.site-{number}]\napp = "mysite.wsgi:application"\nchdir = "/srv/mysite"\n'
        for number in range(1000)
    )
    machine.write("/etc/sdactivate/many.toml", sites)
    full = reload(machine)
    assert (
        "site-999.socket" in machine.run("systemctl", "list-dependencies", "sockets.target").stdout
    )
    print(f"daemon-reload: {empty:.2f} s without sites, {full:.2f} s with 1,000")
    assert full - empty < 20
