"""--tls auto through the distribution's own fronts, with certbot and a server of RFC 8555 (pebble).

Each front gets its first certificate, as `install` (HAProxy: `gen`) says how, and a renewed one
while clients ask. pebble asks for the challenge at port 80 of the names, as an authority does.
"""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from sdactivate import trust
from sdactivate.fronts import FRONTS
from tests.machine.fronts import HTTPS_CLIENT, PROGRAM, SETUP
from tests.machine.machine import Machine
from tests.machine.test_fronts import HTPASSWD

SMALL = """
import json

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Strict-Transport-Security", "0")])
    text = {name: value for name, value in environ.items() if isinstance(value, str)}
    return [json.dumps({"the site": text}).encode()]
"""
SITE = ("--app", "small:application", "--chdir", "/srv/small")

LIFETIME = {14000: 90 * 86400, 14001: 24}
"""Seconds that certificates are valid, by the authority's port: the second one is Caddy's, which
renews when two thirds have passed and can't be told to renew before."""

AUTHORITY = r"""
cd /srv/pebble
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem 2>/dev/null
for port in 14000 14001; do
    systemd-run --quiet --unit=pebble-$port -E PEBBLE_VA_NOSLEEP=1 -E PEBBLE_WFE_NONCEREJECT=0 \
        pebble -config /srv/pebble/$port.json
    roots=https://localhost:$((port + 1000))/roots/0
    until curl -sf --cacert cert.pem $roots >>roots.pem; do sleep 0.1; done
done
"""


def pebble(port: int) -> str:
    """The configuration of an authority."""
    options = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{port + 1000}",
        "certificate": "/srv/pebble/cert.pem",
        "privateKey": "/srv/pebble/key.pem",
        "httpPort": 80,
        "tlsPort": 443,
        "certificateValidityPeriod": LIFETIME[port],
        # The same for pebble 2.7 and later.
        "profiles": {"default": {"description": "", "validityPeriod": LIFETIME[port]}},
    }
    return json.dumps({"pebble": options})


CERTBOT = """
server = https://localhost:14000/dir
non-interactive = true
agree-tos = true
register-unsafely-without-email = true
"""
CADDY = """{
	acme_ca https://localhost:14001/dir
	renew_interval 1s
	acme_ca_root /srv/pebble/cert.pem
	skip_install_trust
}
import /etc/caddy/*.caddyfile
"""
# What certbot trusts pebble's own certificate by.
TRUSTED = {"REQUESTS_CA_BUNDLE": "/srv/pebble/cert.pem"}
RENEW = ("certbot", "-q", "renew", "--force-renewal", "--no-random-sleep-on-renew", "--cert-name")
BALANCER = "127.0.0.2"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/mysite"
Fields = list[tuple[str, str]]


@pytest.fixture(scope="module")
def authority(machine: Machine) -> Machine:
    """A machine with a certificate authority, and no site."""
    if machine.run("which", "pebble", "certbot", "openssl", check=False).returncode:
        pytest.skip("the machine has no pebble, no certbot or no openssl")
    hosts = " ".join(f"{name}.test www.{name}.test" for name in SETUP)
    machine.run(
        "sh", "-c", f"echo 127.0.0.1 {hosts} >>/etc/hosts; rm /etc/nginx/conf.d/mysite.conf"
    )
    machine.write("/srv/small/small.py", SMALL)
    machine.write("/srv/small/static/file.txt", "a file\n")
    machine.write("/srv/client.py", HTTPS_CLIENT.read_text())
    machine.write("/etc/front.htpasswd", HTPASSWD)
    for port in LIFETIME:
        machine.write(f"/srv/pebble/{port}.json", pebble(port))
    machine.write("/etc/letsencrypt/cli.ini", CERTBOT)
    machine.run("sh", "-ec", AUTHORITY)
    for name, setup in SETUP.items():
        if machine.succeeds("which", PROGRAM[name]):
            machine.run("sh", "-c", setup.install or ":")
    machine.run("sh", "-c", "rm -f /etc/lighttpd/conf-enabled/90-*")
    machine.write("/etc/caddy/Caddyfile", CADDY)
    return machine


class Site:
    """The site behind one front."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name
        self.front = FRONTS[name]
        self.unit = self.front.packaging["debian"].unit
        self.host = f"{name}.test"
        self.path = "/app/" if name == "apache" else "/"
        self.options = (
            *("--server-name", self.host, "--server-name", f"www.{self.host}"),
            *("--auth-file", "/etc/front.htpasswd", "--stream", "/", "--hsts", "1d"),
            *("--behind", BALANCER),
            *(("--mount", "/app") if self.path != "/" else ()),
            *(("--static", "/static/=/srv/small/static") if self.front.static else ()),
        )

    @property
    def by_install(self) -> bool:
        """Whether install places the front's file."""
        return "NAME" in self.front.packaging["debian"].config

    @property
    def static(self) -> bool:
        """Whether the front serves files."""
        return self.front.static

    def gen(self, kind: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `sdactivate gen`."""
        argv = ("sdactivate", "gen", "mysite", "--front", self.name, "--kind", kind)
        return self.machine.run(*argv, *self.options, *options)

    def install(self, tls: str) -> str:
        """Have it served, with HTTPS as `tls` says, and return what was said."""
        argv = ("sdactivate", "install", "mysite", "--front", self.name, *SITE, *self.options)
        said = self.machine.run(
            *argv, *("--tls", tls), *(() if self.by_install else ("--units-only",))
        ).stderr
        if not self.by_install:
            made = self.gen(self.name, "--tls", tls)
            setup = SETUP[self.name]
            self.machine.write(setup.path, made.stdout)
            self.machine.run("sh", "-ec", f"{setup.enable}\n{setup.check}")
            self.machine.run("systemctl", "reload-or-restart", self.unit)
            said += made.stderr
        return said

    def curl(self, url: str, *options: str, login: bool = True) -> str:
        """The header and body that come from a URL; the certificate has to be the authority's."""
        who = ("-u", "alice:secret") if login else ()
        curl = ("curl", "-si", "--cacert", "/srv/pebble/roots.pem", *who, *options, url)
        return self.machine.run(*curl, check=False).stdout

    def serial(self) -> str:
        """The serial number of the certificate that is served; "" where none is."""
        script = f"openssl s_client -connect {self.host}:443 -servername {self.host} </dev/null"
        script += " 2>/dev/null | openssl x509 -noout -serial"
        return self.machine.run("sh", "-c", script, check=False).stdout

    def ask(self, *requests: Fields) -> list[tuple[int, str]]:
        """Status and body of what comes of requests by HTTP/2 with these fields; 0: refused."""
        argv = ("/usr/bin/python3", "/srv/client.py", "ask", self.host, self.path)
        said = self.machine.run(*argv, input=json.dumps(requests)).stdout
        return [(code, body) for code, body in json.loads(said)]


@pytest.fixture(params=SETUP)
def site(authority: Machine, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The site behind one front, with its certificate."""
    name = request.param
    if not authority.succeeds("which", PROGRAM[name]):
        pytest.skip(f"the machine has no {FRONTS[name].title}")
    site = Site(authority, name)
    authority.run("systemctl", "start", site.unit)
    yield site
    authority.run("sdactivate", "uninstall", "mysite", check=False)
    authority.run("systemctl", "stop", site.unit, check=False)
    authority.run("certbot", "delete", "--cert-name", "mysite", check=False)
    assert not authority.succeeds("test", "-e", HOOK)


def first_certificate(site: Site) -> None:
    """Install the site, do what that says, and install it again."""
    said = site.install("auto" if site.by_install else "pending")
    if site.front.gets_certificates:
        site.machine.wait(lambda: " 200" in site.curl(f"https://{site.host}/")[:12], "HTTPS")
        return
    assert f"{site.front.title} serves the site by HTTP, passwords too, until it has" in said
    (command,) = re.findall(r"`(.*certbot certonly [^`]+)`", said)
    url = f"http://{site.host}{site.path}"
    site.machine.wait(lambda: "the site" in site.curl(url), "HTTP")
    assert " 401" in site.curl(url, login=False)[:12]
    assert site.serial() == ""
    site.machine.run("sh", "-ec", f"umask 077; {command}", env=TRUSTED)
    assert "certbot certonly" not in site.install("auto")
    site.machine.wait(lambda: " 200" in site.curl(f"https://{site.host}{site.path}")[:12], "HTTPS")


def where_the_challenge_is(site: Site) -> None:
    """Asked for directly and through a balancer, on both ports; no login is wanted."""
    path = "/.well-known/acme-challenge/asked-for"
    site.machine.write(f"/var/lib/letsencrypt{path}", "the answer")
    if not site.static:
        argv = ("/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "880")
        answers = ("--collect", "--unit=answers", "--working-directory=/var/lib/letsencrypt")
        site.machine.run("systemd-run", *answers, *argv)
        site.machine.wait(lambda: "880" in site.machine.run("ss", "-Hltn").stdout, "an answer")
    for scheme in ("http", "https"):
        for hop in ((), ("--interface", BALANCER, "-H", f"X-Forwarded-Proto: {scheme}")):
            answer = site.curl(f"{scheme}://{site.host}{path}", *hop, login=False)
            assert answer.endswith("\nthe answer"), answer
    # Nothing but such files.
    for other in (f"{path}/../../../backups", f"{path}/..%2f..%2f..%2fbackups"):
        answer = site.curl(f"http://{site.host}{other}", "--path-as-is", login=False)
        assert re.match(r"HTTP/1.[01] (301|400|403|404) ", answer), answer
    site.machine.run("systemctl", "stop", "answers", check=False)


def what_is_sent(site: Site) -> None:
    """HTTP leads to HTTPS; by HTTPS every response is of HTTP/2 and has the field of --hsts."""
    moved = site.curl(f"http://www.{site.host}/a%20b%3Fc?d=e", login=False)
    assert moved.startswith("HTTP/1.1 301")
    assert f"location: https://{site.host}/a%20b%3fc?d=e\n" in moved.lower()
    assert "strict-transport-security" not in moved.lower()
    long = "a" * 300
    assert f"https://{site.host}/{long}\n" in site.curl(f"http://{site.host}/{long}", login=False)
    # An error of the front's own; one of its files, and one that is not there.
    for path, status, login in (
        (site.path, 200, True),
        (site.path, 401, False),
        *((("/static/file.txt", 200, True), ("/static/none", 404, True)) if site.static else ()),
    ):
        if (site.name, status) == ("lighttpd", 401):  # mod_auth answers before mod_setenv
            continue
        answer = site.curl(f"https://{site.host}{path}", login=login)
        assert answer.startswith(f"HTTP/2 {status}"), answer
        found = re.findall(r"(?im)^strict-transport-security: (.*)$", answer)
        assert found == ["max-age=86400"], answer


EVIL = "evil-spoof"


def hostile(host: str) -> Iterator[Fields]:
    """Fields that are not a client's to say, and some that HTTP/2 does not have at all."""
    names = {spelling for name in trust.FORGEABLE for spelling in (name, name.replace("-", "_"))}
    lower = [(name.lower(), EVIL) for name in sorted(names)]
    yield lower
    yield from ([field] for field in lower)
    yield [(name, EVIL) for name in sorted(names)]
    yield [("host", f"{EVIL}.test")]
    yield [(":scheme", EVIL)]
    yield [(":path", f"http://{EVIL}.test/")]
    yield [("connection", "x-forwarded-proto, remote-user")]
    yield [("upgrade", "h2c"), ("x-forwarded-for", EVIL)]
    for end in ("\r\n", "\n", "\0"):
        yield [("x-a", f"b{end}x-forwarded-for: {EVIL}")]
        yield [(f"x-a: b{end}x-forwarded-for", EVIL)]
    yield [(":method", "CONNECT"), (":protocol", "websocket"), ("x-forwarded-for", EVIL)]
    yield [(":authority", host), (":authority", f"{EVIL}.test")]


def what_a_client_cannot_say(site: Site) -> None:
    """Nothing is believed that a client says by HTTP/2, valid there or not."""
    requests = [[], *hostile(site.host), [(":authority", f"{EVIL}.test"), ("host", site.host)]]
    answers = site.ask(*requests)
    assert answers[0][0] == 200
    # Another host, by the field that outranks Host: as such, or not at all.
    other = answers.pop()[1].replace("/", " ").replace(f"{EVIL}.test", "")
    assert EVIL not in other
    assert f'"HTTP_HOST": "{site.host}"' not in other
    for fields, (code, body) in zip(requests, answers, strict=False):
        if code != 200:
            continue
        environ = json.loads(body)["the site"]
        assert not [item for item in environ.items() if EVIL in item[1]], fields
        assert environ["wsgi.url_scheme"] == "https"
        assert environ["REMOTE_USER"] == "alice"
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        assert environ["HTTP_HOST"] == site.host


def what_tls_is_spoken(site: Site) -> None:
    """Mozilla's intermediate configuration, by the front itself or as `gen` says."""
    shell = f"openssl s_client -connect {site.host}:443 -servername {site.host} -tls1_2"
    for cipher in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-SHA384"):
        said = site.machine.run(
            "sh", "-c", f"{shell} -cipher {cipher} </dev/null 2>&1", check=False
        )
        assert (f"Cipher is {cipher}" in said.stdout) == ("GCM" in cipher), said.stdout
        if site.name in ("nginx", "apache", "haproxy"):
            assert "TLS session ticket:" not in said.stdout


def what_the_front_refuses(site: Site) -> None:
    """The hook fails with the front's own words, and the front serves on."""
    path = site.front.packaging["debian"].config.replace("NAME", "mysite")
    before = site.machine.run("systemctl", "show", "-p", "StateChangeTimestamp", site.unit).stdout
    site.machine.run("sh", "-ec", f"cp {path} /root/kept; echo 'nonsense {{' >>{path}")
    lineage = {"RENEWED_LINEAGE": "/etc/letsencrypt/live/mysite"}
    done = site.machine.run(HOOK, env=lineage, check=False)
    site.machine.run("cp", "/root/kept", path)
    assert done.returncode == 1
    assert done.stderr
    after = site.machine.run("systemctl", "show", "-p", "StateChangeTimestamp", site.unit).stdout
    assert after == before
    assert " 200" in site.curl(f"https://{site.host}{site.path}")[:12]


def renewal(site: Site) -> None:
    """A renewed certificate is served, and none of those who ask meanwhile notices."""
    before = site.serial()
    assert before
    argv = ("/usr/bin/python3", "/srv/client.py", "load", site.host, site.path)
    load = site.machine.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if not site.front.gets_certificates:
        done = site.machine.run(*RENEW, "mysite", env=TRUSTED)
        assert done.stdout + done.stderr == ""
    site.machine.wait(lambda: site.serial() not in ("", before), "the new certificate is served")
    found = json.loads(load.communicate("", timeout=60)[0])
    assert min(found["requests"].values()) > 3
    if site.front.renew == "reload":
        assert found["failed"] == []


def test_it(site: Site) -> None:
    first_certificate(site)
    if not site.front.gets_certificates:
        where_the_challenge_is(site)
    what_is_sent(site)
    what_a_client_cannot_say(site)
    what_tls_is_spoken(site)
    renewal(site)
    if not site.front.gets_certificates:
        what_the_front_refuses(site)
