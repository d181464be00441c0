"""What is generated, by the fronts' own checkers: what a text means, tests/machine shows."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sdactivate import fronts
from sdactivate.generate.fronts import options
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.site import Site
from sdactivate.values import parse_listen
from tests.generate.fronts.checkers import CHECKED, complaint, program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root's ports are bound, in a namespace")

HOPS = tuple(map(options.behind, ("192.0.2.1", "::ffff:192.0.2.2", "2001:db8::/32", "192.0.2.1")))
PROXIES = (options.behind("proxy:192.0.2.1"),)
FILES: dict[str, Any] = {
    "static": (options.files("/app/static=/srv/a"), options.files("/static=/srv/b")),
    "media": (options.files("/app/media=/srv/c"),),
}
NESTED: dict[str, Any] = {
    "static": (options.files("/static=/srv/a"), options.files("/static/up/css=/srv/b")),
    "media": (options.files("/static/up=/srv/c"),),
}
PHP = {"php": "/run/php.sock"}
NAMES = {"server_name": ("a.test", "www.a.test")}
NAMED = {"trust_headers": "X-Forwarded-Host,X-Forwarded-Port"}
ASGI = {"server": "uvicorn"}

# The site's name, its settings, what the front is asked for.
ASKED: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "nothing": ("mysite", {}, {}),
    "a long name": ("the-site-of-a-long-name-and-a-half.example", NAMED, {"behind": HOPS}),
    "digits": ("2026", ASGI | NAMED, {"behind": HOPS} | NAMES),
    "all": ("mysite", NAMED, NAMES | FILES | PHP | {"mount": "/app", "behind": HOPS}),
    "a small header": ("mysite", {"header_bytes": "512"}, {}),
    "streams": ("mysite", {"stream": "/app/a /app/b /app/a /other"}, {"mount": "/app"}),
    "streams the mount": ("mysite", {"stream": "/app /app/a"}, {"mount": "/app"} | FILES),
    "streams above the mount": ("mysite", {"stream": "/app /app/b/c"}, {"mount": "/app/b"}),
    "streams all": ("mysite", {"stream": "/ /events"}, {"max_body": 0}),
    "asgi": ("mysite", ASGI | {"stream": "/a"}, NAMES | FILES | {"mount": "/app"}),
    "unix": ("mysite", NAMED, NAMES | {"behind": (options.behind("unix"), *HOPS), "tls": ()}),
    "proxy": ("mysite", {}, NAMES | {"behind": PROXIES, "tls": (), "auth_file": ""}),
    "nested": ("mysite", ASGI, NESTED | {"maintenance": True, "auth_file": ""}),
    "login": ("mysite", ASGI, NAMES | {"auth_file": "", "tls": ()}),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate and a password."""
    directory = tmp_path_factory.mktemp("kept")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-subj", "/CN=a.test", "-keyout", "a.pem.key", "-out", "a.pem"]
    subprocess.run(argv, cwd=directory, check=True, capture_output=True)
    bcrypt = "$2y$04$0ke5X79Muv7S/GPKs4.I9Ok22Yg1YkSlBSKpqVglIOsPPlLQt4qmS"
    (directory / "htpasswd").write_text(f"alice:{bcrypt}\n")
    return directory


def forms(asked: str) -> set[str]:
    """In what forms the front is spoken to by what is in front of it."""
    return {hop.form for hop in ASKED[asked][2].get("behind", ())}


# What a front refuses altogether, test_request.py has.
CASES = [
    (front, asked)
    for front in CHECKED
    for asked in ASKED
    if not forms(asked) & set(fronts.FRONTS[front].not_behind)
]


@pytest.mark.parametrize(("front", "asked"), CASES)
def test_the_front_takes_what_is_generated(
    front: str, asked: str, kept: Path, tmp_path: Path
) -> None:
    if program(front) is None:
        pytest.skip(f"{fronts.FRONTS[front].title} is not installed")
    name, settings, wanted = ASKED[asked]
    found = fronts.FRONTS[front]
    if not found.static:
        wanted = {key: value for key, value in wanted.items() if key not in FILES | PHP}
    wanted = {key: value for key, value in wanted.items() if key not in found.not_outage}
    if "tls" in wanted:
        wanted = wanted | {"tls": options.tls(f"{kept}/a.pem,{kept}/a.pem.key")}
    if "auth_file" in wanted:
        wanted = wanted | {"auth_file": f"{kept}/htpasswd"}
    for protocol in ("http",) if "server" in settings else found.protocols:
        if front == "lighttpd":
            if protocol == "http" and {"behind", "auth_file"} & set(wanted):
                continue  # gen refuses it
            settings = {key: value for key, value in settings.items() if key != "trust_headers"}
        listen = (parse_listen("/var/lib/haproxy/a.sock"),)
        site = Site(name, listen=listen, settings={"protocol": protocol, **settings})
        text = config(front_request(found, site, distribution="debian", **wanted))
        assert complaint(front, text, tmp_path) == ""
