"""Certificates by certbot, for --tls auto: their paths, the first command, the renewal hook.

certbot proves that the host names lead here by a file at /.well-known/acme-challenge/ (RFC 8555,
section 8.3). A front that serves files reads it from certbot's own directory; HAProxy can't serve
files and passes the request to certbot. A front does not start if its certificate is missing, so it
gets the configuration of --tls pending until the first one exists.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdactivate import fronts
from sdactivate.errors import UsageError
from sdactivate.generate.fronts.options import AUTO, PENDING, Tls
from sdactivate.generate.fronts.request import FrontRequest, front_request
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.site import Site
from sdactivate.systemd.escape import Escaped

WEBROOT = "/var/lib/letsencrypt"
"""Certbot's own directory for that file, which only root can write. Anyone who can write there can
get certificates for the host names."""

STANDALONE = 880
"""The loopback port on which certbot answers HAProxy. It is below 1024, so that no other user can
listen there and get certificates for the host names."""

HOOKS = "/etc/letsencrypt/renewal-hooks/deploy"
"""Certbot's directory of hooks, which it runs after each renewal of any certificate."""


CERTBOT: Mapping[str, str] = {
    "debian": "apt install certbot",
    "fedora": "dnf install certbot && systemctl enable --now certbot-renew.timer",
    "arch": "pacman -S certbot && systemctl enable --now certbot-renew.timer",
}
"""The command that installs certbot and enables its renewal timer, by distribution."""


def files(asked: FrontRequest) -> Tls | None:
    """Return the certificate and its key as the front reads them; None if it reads none.

    For a front that gets certificates itself, both paths are empty.
    """
    if asked.tls != AUTO:
        return asked.tls if isinstance(asked.tls, Tls) else None
    if asked.front.gets_certificates:
        return Tls("", "")
    return _made(asked)


def _made(asked: FrontRequest) -> Tls:
    """Return certificate and key, as certbot writes them or, for HAProxy, the hook."""
    if not asked.front.static:
        return Tls(*[f"/etc/haproxy/{asked.name}.pem"] * 2)
    return Tls(f"{_lineage(asked.name)}/fullchain.pem", f"{_lineage(asked.name)}/privkey.pem")


def command(asked: FrontRequest) -> str:
    """Return the command that gets the first certificate, or one for changed names."""
    if asked.front.static:
        argv = ["certbot", "certonly", "--webroot", "-w", WEBROOT]
    else:
        address = ["--http-01-address", "127.0.0.1", "--http-01-port", str(STANDALONE)]
        argv = ["certbot", "certonly", "--standalone", *address]
    # Certbot runs its directory of hooks only at renewals.
    argv += ["--deploy-hook", f"{HOOKS}/{asked.name}", "--cert-name", asked.name]
    return shlex.join([*argv, *(word for name in asked.server_name for word in ("-d", name))])


def fitting(asked: FrontRequest, target: Target) -> FrontRequest:
    """Return the request that works on `target` now: `PENDING` before the first certificate.

    Changes nothing unless the files are put in place at once.
    """
    if target.placing and asked.tls == AUTO and asked.by_certbot and not _is_there(asked, target):
        return replace(asked, tls=PENDING)
    return asked


def warnings(asked: FrontRequest, target: Target) -> Iterator[str]:
    """Yield what remains to be done for the first certificate, one sentence each."""
    if not asked.by_certbot:
        return
    title, first = asked.front.title, command(asked)
    hook_is = "--kind certbot-hook prints certbot's hook"
    if asked.front.static:
        first = f"install -d {WEBROOT} && {first}"
    if asked.tls == PENDING:
        again = (
            "the same install again" if target.placing else f"generate with --tls auto; {hook_is}"
        )
        login = ", passwords too" if asked.auth_file else ""
        yield (
            f"--tls: {title} serves the site by HTTP{login}, until it has a certificate: run "
            f"`{first}`, then {again}"
        )
    elif lacking := _lacking(asked, target):
        yield f"--tls auto: the certificate is not valid for {', '.join(lacking)}: run `{first}`"
    elif not _is_there(asked, target):
        yield (
            f"--tls auto: {title} refuses this configuration until {_made(asked).certificate} "
            f"exists: first use the one of --tls pending, run `{first}`, then use this; {hook_is}"
        )
    if target.at is None and asked.distribution == fronts.distribution() and not _has_certbot():
        yield f"--tls: certbot is not installed: run `{CERTBOT[asked.distribution]}`"


def hook(
    site: Site, target: Target, *, front: fronts.Front | None = None, **options: Any
) -> Output:
    """Return certbot's deploy hook, which reloads the front for a renewed certificate, if needed.

    options: keywords of `options.FRONT`. Raises UsageError if no front is given, and as
    `front_request` does.
    """
    if options.get("tls") not in (AUTO, PENDING):
        return Output(())
    if front is None:
        raise UsageError(
            "--kind certbot-hook needs --front: the web server that reads the certificate"
        )
    asked = front_request(front, site, **options)
    if not asked.by_certbot or not (packaging := asked.packaging):
        return Output(())
    text = render(
        "certbot-hook.j2",
        target.comments,
        name=Escaped(asked.name),
        front=Escaped(front.title),
        lineage=Escaped(_lineage(asked.name)),
        path=Escaped(f"{HOOKS}/{asked.name}"),
        pem=Escaped("" if front.static else _made(asked).certificate),
        check=Escaped(packaging.tested or front.check),
        # Neither of the two starts a front that is not running.
        renew=Escaped("try-restart" if front.renew == "restart" else "try-reload-or-restart"),
        unit=Escaped(packaging.unit),
    )
    return Output((File(asked.name, text, 0o755),))


def _lineage(name: str) -> str:
    """Return certbot's directory of the certificate `name`."""
    return f"/etc/letsencrypt/live/{name}"


def _is_there(asked: FrontRequest, target: Target) -> bool:
    """Return whether the front has its certificate; True if only root could tell."""
    try:
        os.stat((target.at or Path)(_made(asked).certificate))
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _lacking(asked: FrontRequest, target: Target) -> list[str]:
    """Return the host names that the certificate, if it can be read, is not valid for."""
    import ssl  # imported late: it takes longer than the rest

    try:
        pem = (target.at or Path)(_made(asked).certificate).read_text("ascii")
        der = ssl.PEM_cert_to_DER_cert(pem[: pem.index(_END) + len(_END)])
    except (OSError, ValueError):
        return []
    # Each name of subjectAltName (RFC 5280, section 4.2.1.6): dNSName, of less than 128 bytes.
    names = [(name, name.encode()) for name in asked.server_name]
    names = [(name, text) for name, text in names if len(text) < 128]
    return [name for name, text in names if bytes((0x82, len(text))) + text not in der]


_END = "-----END CERTIFICATE-----"


def _has_certbot() -> bool:
    places = ("/usr/bin", "/usr/local/bin", "/snap/bin")
    return any(os.path.exists(f"{place}/certbot") for place in places)
