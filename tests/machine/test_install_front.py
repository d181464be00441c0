"""install --front through the distribution's own fronts: placed, checked, read; or taken back."""

import re
from collections.abc import Iterator

import pytest

from sdactivate.fronts import FRONTS, Front
from tests.machine.fronts import PROGRAM
from tests.machine.machine import Machine
from tests.machine.test_fronts import CERTIFICATE, HTPASSWD

SITE = ("--app", "small:application", "--chdir", "/srv/small")
SMALL = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the site"]
"""
UNITS = "/etc/systemd/system"
NGINX = ("/etc/nginx/sites-available/mysite.conf", "/etc/nginx/sites-enabled/mysite.conf")

PACKAGED = {
    "nginx": "ln -sfn /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default",
    "apache": "a2ensite -q 000-default; echo ServerName machine >/etc/apache2/conf-enabled/n.conf",
    "lighttpd": ":",
    "caddy": "cp -n /etc/caddy/Caddyfile /etc/caddy/kept; cp /etc/caddy/kept /etc/caddy/Caddyfile",
}
"""Shell: as the package has left it. Whoever has a host name has a ServerName on Debian."""

FILES = ("--static", "/code/=/srv/small")
OPTIONS = {
    # Its own user can read the lines of the htpasswd file, and nobody else.
    "caddy": ("--auth-file", "/etc/front.htpasswd"),
    # A port that was not bound before, and a key that only root can read.
    "lighttpd": ("--tls", "/etc/ssl/front-test.pem,/etc/ssl/front-test.pem.key"),
}


@pytest.fixture(scope="module")
def bare(machine: Machine) -> Machine:
    """A machine with fronts as they are packaged, and no site."""
    machine.run("rm", "/etc/nginx/conf.d/mysite.conf")
    machine.write("/etc/front.htpasswd", HTPASSWD)
    machine.write("/srv/small/small.py", SMALL)
    machine.run("sh", "-ec", CERTIFICATE + "chmod 600 front-test.pem.key\n")
    return machine


@pytest.fixture
def host(bare: Machine) -> Iterator[Machine]:
    """That machine, with nothing left of the site afterwards."""
    yield bare
    bare.run("sdactivate", "uninstall", "mysite", "--force", check=False)
    units = {it.unit for front in FRONTS.values() for it in front.packaging.values()}
    # One by one: where one is unknown, newer systemd stops none of them.
    bare.run("sh", "-c", f"for unit in {' '.join(sorted(units))}; do systemctl stop $unit; done; :")
    assert left(bare) == ""


def left(machine: Machine) -> str:
    """What there is of the site."""
    folders = "/etc/systemd /etc/nginx /etc/apache2 /etc/lighttpd /etc/caddy /var/lib/sdactivate"
    script = f"find {folders} -name '*mysite*' 2>/dev/null || true"
    return machine.run("sh", "-c", script).stdout


def as_packaged(machine: Machine, name: str) -> Front:
    """Let a front run as its package has left it."""
    if machine.run("which", PROGRAM[name], check=False).returncode:
        pytest.skip(f"the machine has no {FRONTS[name].title}")
    unit = FRONTS[name].packaging["debian"].unit
    machine.run("sh", "-ec", f"{PACKAGED[name]}\nsystemctl reset-failed\nsystemctl restart {unit}")
    return FRONTS[name]


def install(machine: Machine, front: str, *options: str, check: bool = True) -> str:
    """Install the site, and return what was said."""
    argv = ("sdactivate", "install", "mysite", "--front", front, *SITE, *options)
    done = machine.run(*argv, check=False)
    assert not check or done.returncode == 0, done.stderr
    assert check or done.returncode == 1
    return done.stderr


def answer(machine: Machine, url: str = "http://localhost/") -> str:
    """Who answers."""
    done = machine.run("curl", "-sk", "-u", "alice:secret", url, check=False)
    return {"the site": "the site", SMALL: "its file"}.get(done.stdout, "another")


def run_first(machine: Machine, name: str, *options: str) -> None:
    """Let install say what has to be done before it changes anything, and do it."""
    refused = install(machine, name, *options, check=False)
    (command,) = re.findall(r"`([^`]+)`", refused)
    assert left(machine) == ""
    add = f"echo '{command}' >>/etc/caddy/Caddyfile"
    machine.run("sh", "-ec", command if name == "apache" else add)


@pytest.mark.parametrize("name", PACKAGED)
def test_placed_read_and_removed(name: str, host: Machine) -> None:
    front = as_packaged(host, name)
    packaging = front.packaging["debian"]
    assert answer(host) == "another"
    options = ("--server-name", "localhost", *FILES, *OPTIONS.get(name, ()))
    if name in ("apache", "caddy"):
        run_first(host, name, *options)
    if name != "caddy":  # it refuses: below
        fixes = re.findall(r"`(.+)`, then `(.+)`", install(host, name))
        assert len(fixes) == (name != "lighttpd")
        if fixes:
            assert answer(host) == "another"
            host.run("sh", "-ec", "\n".join(fixes[0]))
        host.wait(lambda: answer(host) == "the site", "the site answers")
    main = host.show(packaging.unit, "MainPID")
    said = install(host, name, *options)
    assert f"let {front.title} check its configuration and read it\n" in said
    assert "answers all hosts" not in said
    url = f"{'https' if '--tls' in options else 'http'}://localhost/"
    assert answer(host, f"{url}code/small.py") == "its file"
    assert answer(host, url) == "the site"
    if front.renew == "reload":
        assert host.show(packaging.unit, "MainPID") == main
    path = packaging.config.replace("NAME", "mysite")
    stat = host.run("stat", "-c", "%a %U:%G", path).stdout
    assert stat == ("640 root:caddy\n" if name == "caddy" else "644 root:root\n")
    before = host.journal(packaging.unit)
    assert "read it" not in install(host, name, *options)
    assert host.journal(packaging.unit) == before  # neither reloaded nor restarted
    assert path in host.run("sdactivate", "uninstall", "mysite").stdout
    assert left(host) == ""
    assert answer(host, f"{url}code/small.py") == "another"
    assert answer(host, url) == "another"
    assert host.show(packaging.unit, "ActiveState") == "active"


@pytest.mark.parametrize("name", ["nginx", "apache", "lighttpd"])
def test_only_the_new_configuration_serves_when_install_returns(name: str, host: Machine) -> None:
    """Its reload returns while old processes still accept, or its restart before it listens."""
    as_packaged(host, name)
    options = ("--server-name", "localhost", "--static")
    if name == "apache":
        host.run("a2enmod", "-q", "alias", "headers", "proxy", "proxy_fcgi", "rewrite", "setenvif")
    for path in ("/one/", "/two/") * 2:
        install(host, name, *options, f"{path}=/srv/small")
        assert answer(host, f"http://localhost{path}small.py") == "its file"


def test_what_caddy_refuses_is_taken_back(host: Machine) -> None:
    """Two sites of one address: the package's own, and one without a name."""
    as_packaged(host, "caddy")
    host.run("sh", "-c", "echo 'import /etc/caddy/*.caddyfile' >>/etc/caddy/Caddyfile")
    said = install(host, "caddy", check=False)
    assert "Caddy refuses the site, because the one in /etc/caddy/Caddyfile, line 11," in said
    assert "ambiguous site definition: :80" in said
    assert said.endswith("all changes were undone\n")
    assert left(host) == ""
    assert answer(host) == "another"


def test_what_nginx_refuses_is_taken_back_to_what_it_served(host: Machine) -> None:
    as_packaged(host, "nginx")
    names = ("--server-name", "localhost")
    host.run("systemctl", "stop", "nginx.service")
    said = install(host, "nginx", *names)
    assert "nginx.service is not running: systemctl enable --now nginx.service" in said
    assert host.show("nginx.service", "ActiveState") == "inactive"
    host.run("systemctl", "start", "nginx.service")
    before = host.read(NGINX[0])
    broken = (*names, "--tls", "/etc/ssl/none.pem,/etc/ssl/none.key")
    said = install(host, "nginx", *broken, check=False)
    assert 'cannot load certificate "/etc/ssl/none.pem"' in said
    assert said.endswith("all changes were undone\n")
    assert host.read(NGINX[0]) == before
    assert answer(host) == "the site"


ONCE = "[Service]\nExecReload=\nExecReload=/bin/sh -c 'mkdir /run/once && exit 3; kill -HUP %s'\n"


def test_a_reload_that_fails_is_taken_back(host: Machine) -> None:
    as_packaged(host, "nginx")
    drop_in = f"{UNITS}/nginx.service.d/once.conf"
    host.write(drop_in, ONCE % "$MAINPID")
    try:
        host.run("systemctl", "daemon-reload")
        said = install(host, "nginx", "--server-name", "localhost", check=False)
        assert "`systemctl reload -- nginx.service` failed" in said
        assert said.endswith("all changes were undone\n")
        assert left(host) == ""
        assert answer(host) == "another"
    finally:
        host.run("sh", "-ec", f"rm -r {drop_in.rpartition('/')[0]}; systemctl daemon-reload")


OF_CADDY = """{"files": {"/etc/caddy/mysite.caddyfile": "0"}, "fronts": [["caddy", "debian"]]}"""


def test_refused_before_anything_is_changed(host: Machine) -> None:
    said = install(host, "haproxy", check=False)
    assert "give --units-only, and add to it what `sdactivate gen mysite --kind haproxy`" in said
    host.write("/etc/nginx/conf.d/broken.conf", "nonsense;\n")
    said = install(host, "nginx", check=False)
    assert "nginx refuses its configuration even without the site: " in said
    assert 'unknown directive "nonsense"' in said
    host.run("rm", "/etc/nginx/conf.d/broken.conf")
    # Not nginx's: it has an init script as well, of which systemd makes a unit.
    unit = host.show("caddy.service", "FragmentPath")
    host.run("sh", "-ec", f"mv {unit} /root; systemctl daemon-reload")
    try:
        said = install(host, "caddy", check=False)
        assert "Caddy is not installed: there is no caddy.service; install it first, or" in said
        assert left(host) == ""
        active = host.run("systemctl", "is-active", "mysite.socket", check=False).stdout
        assert active != "active\n"
        as_packaged(host, "nginx")
        host.write("/var/lib/sdactivate/mysite.json", OF_CADDY)
        host.write("/etc/caddy/mysite.caddyfile", "# sdactivate\n")
        said = install(host, "nginx", "--server-name", "localhost", "--force")
        assert "remove /etc/caddy/mysite.caddyfile" in said  # whoever was to read it is gone
        host.wait(lambda: answer(host) == "the site", "the site answers")
    finally:
        host.run("sh", "-ec", f"mv /root/caddy.service {unit}; systemctl daemon-reload")


KILL = """#!/bin/sh
# nginx's checker: the first time as it is, then it kills who asks
mkdir /run/asked 2>/dev/null && exec /usr/sbin/nginx "$@"
kill -KILL $PPID
"""


def test_killed_while_the_front_checks(host: Machine) -> None:
    """The front has not read what lies there: a second install does not take it for done."""
    as_packaged(host, "nginx")
    host.write("/usr/local/sbin/nginx", KILL, 0o755)
    names = ("--server-name", "localhost")
    argv = ("sdactivate", "install", "mysite", "--front", "nginx", *SITE, *names)
    assert host.run(*argv, check=False).returncode == -9
    host.run("rm", "/usr/local/sbin/nginx")
    assert set(NGINX) <= set(left(host).split())
    assert answer(host) == "another"
    assert "place /etc/nginx/sites-available/mysite.conf, let nginx" in install(
        host, "nginx", *names
    )
    host.wait(lambda: answer(host) == "the site", "the site answers")
