"""--tls auto and --hsts as text. tests/machine/test_certificates.py runs them."""

import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sdactivate import fronts
from sdactivate.cli import main
from sdactivate.generate.fronts import certificates
from sdactivate.generate.fronts.options import AUTO, PENDING, Files, Tls, hsts
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import FrontRequest, front_request
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.output import Target
from sdactivate.site import Site
from tests.generate.fronts.checkers import program

PACKAGED = [front for front in fronts.FRONTS.values() if front.packaging]
BY_CERTBOT = [front for front in PACKAGED if not front.gets_certificates]
NAMES = ("example.org", "www.example.org")
CHALLENGE = ".well-known/acme-challenge/"


def name_of(value: object) -> str:
    """How a parameter is called in the name of a test."""
    return str(getattr(value, "name", value))


def asked(front: fronts.Front, **options: object) -> FrontRequest:
    """What the front is asked for."""
    options = {"server_name": NAMES, "tls": AUTO, "distribution": "debian", **options}
    return front_request(front, Site("mysite"), **options)


def below(root: Path) -> Target:
    """A target where the text is put in place, and whose files are below `root`."""
    return Target(at=lambda path: root / path.lstrip("/"), placing=True)


@pytest.mark.parametrize("front", BY_CERTBOT, ids=name_of)
def test_the_challenge_and_the_certificate(front: fronts.Front) -> None:
    full, first = (config(asked(front, tls=tls)) for tls in (AUTO, PENDING))
    own = config(asked(front, tls=Tls("/c.pem", "/c.pem")))
    assert CHALLENGE in full.replace("\\", "")
    assert CHALLENGE in first.replace("\\", "")
    assert "challenge" not in own
    assert "443" not in first
    made = "/etc/haproxy/mysite.pem" if front.name == "haproxy" else "/etc/letsencrypt/live/mysite/"
    assert made in full
    assert made not in first


def test_caddy_gets_its_own() -> None:
    text = config(asked(fronts.CADDY))
    assert "\nexample.org, www.example.org {\n" in text
    assert "\ttls " not in text
    assert "challenge" not in text
    assert not list(certificates.warnings(asked(fronts.CADDY), Target()))


@pytest.mark.parametrize("front", BY_CERTBOT, ids=name_of)
def test_without_its_certificate_a_front_gets_the_text_that_it_can_read(
    front: fronts.Front, tmp_path: Path
) -> None:
    target, wanted = below(tmp_path), asked(front)
    assert certificates.fitting(wanted, Target()) == wanted  # what gen prints depends on no host
    fitting = certificates.fitting(wanted, target)
    assert fitting.tls == PENDING
    (said,) = certificates.warnings(fitting, target)
    assert f"{front.title} serves the site by HTTP, until" in said
    assert said.endswith("-d example.org -d www.example.org`, then the same install again")
    (said,) = certificates.warnings(wanted, Target(at=target.at))
    assert f"{front.title} refuses this configuration until /etc/" in said

    files = certificates.files(wanted)
    assert files
    path = tmp_path / files.certificate.lstrip("/")
    path.parent.mkdir(parents=True)

    def certify(*names: str) -> None:
        entries = (bytes((0x82, len(name))) + name.encode() for name in names)
        path.write_text(ssl.DER_cert_to_PEM_cert(b"before" + b"".join(entries)) + "a chain\n")

    certify(*NAMES)
    assert certificates.fitting(wanted, target) == wanted
    assert not list(certificates.warnings(wanted, target))
    certify("www.example.org")
    (said,) = certificates.warnings(wanted, target)
    assert said.startswith("--tls auto: the certificate is not valid for example.org: run `")
    path.write_text("no certificate")
    assert not list(certificates.warnings(wanted, target))


@pytest.mark.parametrize("front", PACKAGED, ids=name_of)
def test_the_deploy_hook(
    front: fronts.Front, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["gen", "mysite", "--kind", "certbot-hook", "--front", front.name]
    argv += ["--distribution", "debian", "--server-name", "example.org", "--tls"]
    assert main([*argv, "/c.pem,/c.pem"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*argv, "auto"]) == 0
    text = capsys.readouterr().out
    if front.gets_certificates:
        assert text == ""
        return
    assert text.startswith("#!/bin/sh\n")
    verb = "try-restart" if front.renew == "restart" else "try-reload-or-restart"
    unit = front.packaging["debian"].unit
    assert text.endswith(f"\nsystemctl {verb} {unit}\n")
    assert front.check in text
    # Another certificate's: nothing is checked or reloaded, or this would fail.
    hook = tmp_path / "hook"
    hook.write_text(text)
    environ = {"RENEWED_LINEAGE": "/etc/letsencrypt/live/other", "PATH": "/nonexistent"}
    subprocess.run(["/bin/sh", hook], check=True, env=environ)
    assert subprocess.run(["/bin/sh", "-n", hook], check=False).returncode == 0


def test_the_hook_is_a_program_in_certbots_directory(tmp_path: Path) -> None:
    assert "/etc/" + KINDS["certbot-hook"].folder == certificates.HOOKS
    argv = ["gen", "mysite", "--kind", "all", "--front", "nginx", "--app", "a:b", "--out"]
    argv += [str(tmp_path), "--server-name", "example.org", "--tls", "auto"]
    assert main(argv) == 0
    hook = tmp_path / "letsencrypt/renewal-hooks/deploy/mysite"
    assert hook.stat().st_mode & 0o777 == 0o755


def test_the_hook_is_somebodys(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["gen", "mysite", "--kind", "certbot-hook", "--server-name", "a.b", "--tls", "auto"]
    assert main(argv) == 2
    assert "--kind certbot-hook needs --front" in capsys.readouterr().err


FILES = {
    "static": (Files("/static/", "/srv/static/"),),
    "media": (Files("/media/", "/srv/media/"),),
}


def blocks(text: str) -> list[str]:
    """The innermost blocks of a configuration with braces."""
    return re.findall(r"\{([^{}]*)\}", text)


@pytest.mark.parametrize("front", PACKAGED, ids=name_of)
@pytest.mark.parametrize("promised", [None, 0, 300])
def test_hsts_is_wherever_a_front_sets_fields(front: fronts.Front, promised: int | None) -> None:
    options = dict(FILES) if front.static else {}
    for tls in (Tls("/c.pem", "/c.pem"), AUTO):
        text = config(asked(front, tls=tls, hsts=promised, **options), comments=False)
        assert ("Strict-Transport-Security" in text) == (promised is not None)
        if promised is None:
            continue
        assert text.count(f"max-age={promised}") >= 1
        # What is set in an inner block of these two takes the place of what is set outside, unless
        # it is added (+=).
        inner: Callable[[str], bool] = {
            "nginx": lambda block: "add_header" in block,
            "lighttpd": lambda block: bool(re.search(r"set-response-header = \(\s*[^\s)]", block)),
        }.get(front.name, lambda block: False)
        for block in filter(inner, blocks(text)):
            assert f"max-age={promised}" in block
    if front in BY_CERTBOT:
        first = config(asked(front, tls=PENDING, hsts=promised, **options))
        assert "Strict-Transport-Security" not in first  # RFC 6797, section 7.2


def test_hsts_without_a_time_is_a_year() -> None:
    assert asked(fronts.NGINX, hsts=True).hsts == 31_536_000
    assert asked(fronts.NGINX, hsts=False).hsts is None
    assert hsts("365d") == 31_536_000


@pytest.mark.parametrize("front", PACKAGED, ids=name_of)
def test_http2_is_on(front: fronts.Front) -> None:
    said = {
        "nginx": "listen 443 ssl http2;",
        "apache": "Protocols h2 http/1.1",
        "haproxy": "alpn h2,http/1.1",
        # By themselves:
        "lighttpd": "",
        "caddy": "",
    }
    assert said[front.name] in config(asked(front))


@pytest.mark.skipif(program("haproxy") is None, reason="HAProxy is not installed")
@pytest.mark.parametrize(
    ("certificate", "configuration", "kept"),
    [(True, True, "new"), (False, True, "old"), (True, False, "new")],
    ids=["both are right", "the certificate is wrong", "the configuration is wrong"],
)
def test_the_certificate_before_is_kept_where_haproxy_refuses_the_new_one(
    certificate: bool, configuration: bool, kept: str, tmp_path: Path
) -> None:
    """Or HAProxy would not start again. What is wrong elsewhere is no reason to take it back."""
    key, new, old = tmp_path / "privkey.pem", tmp_path / "fullchain.pem", tmp_path / "mysite.pem"
    argv = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=a.test"
    for path in (old, new):
        subprocess.run(
            [*argv.split(), "-keyout", key, "-out", path], check=True, capture_output=True
        )
        if path == old:
            old.write_text(old.read_text() + key.read_text())
    if not certificate:
        new.write_text("no certificate\n")
    texts = {"old": old.read_text(), "new": new.read_text() + key.read_text()}
    (tmp_path / "haproxy.cfg").write_text(
        f"defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n"
        f"frontend f\n bind unix@{tmp_path}/s ssl crt {old}\n" + "nonsense\n" * (not configuration)
    )
    (file,) = certificates.hook(
        Site("mysite"), Target(), front=fronts.HAPROXY, tls=AUTO, server_name=NAMES
    ).files
    text = file.text.replace("/etc/haproxy/", f"{tmp_path}/")
    text = text.replace("/etc/letsencrypt/live/mysite", str(tmp_path)).replace("systemctl", "true")
    environ = {"RENEWED_LINEAGE": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", text], env=environ, capture_output=True, text=True)
    right = certificate and configuration
    assert (done.returncode, bool(done.stderr)) == (0 if right else 1, not right)
    assert old.read_text() == texts[kept]
    assert sorted(path.name for path in tmp_path.glob("mysite.pem*")) == ["mysite.pem"]
