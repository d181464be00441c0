"""Certificates by certbot, for --tls auto: where they are, the command for the first, the hook.

certbot proves that the names lead here by a file at /.well-known/acme-challenge/ (RFC 8555,
section 8.3). A front that serves files takes it from certbot's own directory; HAProxy serves none
and passes the request to certbot. A front does not start with a certificate that is not there:
until the first one is, it gets the text of --tls pending.
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
"""Where certbot puts the file: its own directory, where only root writes. Anyone who can write
there can get certificates for the names."""

STANDALONE = 880
"""The port on the loopback where certbot answers HAProxy. Below 1024: no other user can listen
there, and get certificates for the names."""

HOOKS = "/etc/letsencrypt/renewal-hooks/deploy"
"""What is in it certbot runs after each renewal, of whatever certificate."""


CERTBOT: Mapping[str, str] = {
    "debian": "apt install certbot",
    "fedora": "dnf install certbot && systemctl enable --now certbot-renew.timer",
    "arch": "pacman -S certbot && systemctl enable --now certbot-renew.timer",
}
"""The command that installs certbot and has it renew by its timer, by distribution."""


def files(asked: FrontRequest) -> Tls | None:
    """Return the certificate and its key as the front reads them; None where it reads none.

    Two empty paths for a front that gets them itself.
    """
    if asked.tls != AUTO:
        return asked.tls if isinstance(asked.tls, Tls) else None
    if asked.front.gets_certificates:
        return Tls("", "")
    return _made(asked)


def _made(asked: FrontRequest) -> Tls:
    """Certificate and key as certbot, or for HAProxy the hook, makes them."""
    if not asked.front.static:
        return Tls(*[f"/etc/haproxy/{asked.name}.pem"] * 2)
    return Tls(f"{_lineage(asked.name)}/fullchain.pem", f"{_lineage(asked.name)}/privkey.pem")


def command(asked: FrontRequest) -> str:
    """Return the command that gets the first certificate, or one for other names."""
    if asked.front.static:
        argv = ["certbot", "certonly", "--webroot", "-w", WEBROOT]
    else:
        address = ["--http-01-address", "127.0.0.1", "--http-01-port", str(STANDALONE)]
        argv = ["certbot", "certonly", "--standalone", *address]
    # By itself certbot runs what is in its directory of hooks at renewals only.
    argv += ["--deploy-hook", f"{HOOKS}/{asked.name}", "--cert-name", asked.name]
    return shlex.join([*argv, *(word for name in asked.server_name for word in ("-d", name))])


def fitting(asked: FrontRequest, target: Target) -> FrontRequest:
    """Return what the front can read on `target` now: without its first certificate, `PENDING`.

    Only for a target where the text is put in place at once.
    """
    if target.placing and asked.tls == AUTO and asked.by_certbot and not _is_there(asked, target):
        return replace(asked, tls=PENDING)
    return asked


def warnings(asked: FrontRequest, target: Target) -> Iterator[str]:
    """Yield what is left to do for the first certificate, a sentence each."""
    if not asked.by_certbot:
        return
    title, first = asked.front.title, command(asked)
    hook_is = "certbot's hook is what --kind certbot-hook prints"
    if asked.front.static:
        first = f"install -d {WEBROOT} && {first}"
    if asked.tls == PENDING:
        again = (
            "the same install again" if target.placing else f"generate with --tls auto; {hook_is}"
        )
        login = ", passwords too" if asked.auth_file else ""
        yield (
            f"--tls: {title} serves the site by HTTP{login}, until there is a certificate: "
            f"`{first}`, then {again}"
        )
    elif lacking := _lacking(asked, target):
        yield f"--tls auto: the certificate is not for {', '.join(lacking)}: `{first}`"
    elif not _is_there(asked, target):
        yield (
            f"--tls auto: {title} refuses this text until {_made(asked).certificate} is there: let "
            f"it read that of --tls pending, `{first}`, then this; {hook_is}"
        )
    if target.at is None and asked.distribution == fronts.distribution() and not _has_certbot():
        yield f"--tls: certbot is not installed: `{CERTBOT[asked.distribution]}`"


def hook(
    site: Site, target: Target, *, front: fronts.Front | None = None, **options: Any
) -> Output:
    """Return certbot's deploy hook: the front reads a renewed certificate. No file without need.

    options: keywords of `options.FRONT`. Raises UsageError where no front is named, and what
    `front_request` does.
    """
    if options.get("tls") not in (AUTO, PENDING):
        return Output(())
    if front is None:
        raise UsageError("--kind certbot-hook needs --front: what is to read the certificate")
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
        # Neither starts a front that does not run.
        renew=Escaped("try-restart" if front.renew == "restart" else "try-reload-or-restart"),
        unit=Escaped(packaging.unit),
    )
    return Output((File(asked.name, text, 0o755),))


def _lineage(name: str) -> str:
    """certbot's directory of the certificate that is called `name`."""
    return f"/etc/letsencrypt/live/{name}"


def _is_there(asked: FrontRequest, target: Target) -> bool:
    """Whether the front has its certificate; so it has where that can't be told: it is root's."""
    try:
        os.stat((target.at or Path)(_made(asked).certificate))
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _lacking(asked: FrontRequest, target: Target) -> list[str]:
    """The host names that the certificate, if it is there and can be read, is not for."""
    import ssl  # takes longer than the rest

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
