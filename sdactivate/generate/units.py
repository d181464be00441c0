"""A site becomes units: systemd.socket(5), systemd.service(5)."""

import os
import sys

from sdactivate import directives, peer_rules, systemd
from sdactivate.errors import UsageError
from sdactivate.generate import advice
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.peer_rules import kernel_version, parse_rule
from sdactivate.settings import DEFAULTS, seconds, words
from sdactivate.site import Site
from sdactivate.systemd import Escaped

STOP_MARGIN = 10
"""Seconds between the end of the graceful stop and systemd's SIGKILL."""


def socket(site: Site, target: Target) -> Output:
    """Return NAME.socket: systemd makes the socket, with its owner, group and mode."""
    text = render(
        "socket.j2",
        target.comments,
        site=site,
        mode=Escaped(f"{site.mode:04o}"),
        addresses=[str(address) for address in site.addresses],
        inet=any(address.family in ("inet", "inet6") for address in site.addresses),
    )
    return Output((File(f"{site.name}.socket", text),), tuple(advice.of_socket(site)))


def service(site: Site, target: Target) -> Output:
    """Return NAME.service: the application on the inherited socket, in the sandbox.

    Raises UsageError where no application is named.
    """
    if not site.app:
        raise UsageError("--kind service needs --app, such as --app mysite.wsgi:application")
    python = site.python or sys.executable
    rows = directives.sandbox(needs(site), target.systemd)
    text = render(
        "service.j2",
        target.comments,
        site=site,
        start=systemd.command([python, "-m", "sdactivate", "serve", site.app]),
        environment=environment(site),
        stop=stop_timeout(site),
        topics=[
            (Escaped(comment), [Escaped(row.line) for row in rows if row.topic == topic])
            for topic, comment in directives.TOPICS.items()
        ],
    )
    warnings = (*advice.of_service(site, python), *advice.of_peers(peer_needs(site)))
    return Output((File(f"{site.name}.service", text),), warnings)


def environment(site: Site) -> list[str]:
    """Return the NAME=VALUE that the service's environment has: the runtime's settings last.

    systemd lets the later of two lines win, and the settings are nobody else's to set.
    """
    return [f"{name}={value}" for name, value in site.env] + [
        f"SDACTIVATE_{name.upper()}={text}" for name, text in site.settings.items()
    ]


def needs(site: Site) -> set[str]:
    """Return what the site needs of `directives.NEEDS`; for peers, on this host's kernel."""
    asked = {
        "network": site.network,
        "jit": site.jit,
        "home": site.home,
        "device": bool(site.device),
        "run-as": bool(site.run_as),
    }
    return {need for need, wanted in asked.items() if wanted}.union(peer_needs(site))


def peer_needs(site: Site) -> tuple[str, ...]:
    """Return what --allow-peer needs of them so that it can be checked on this host's kernel."""
    rules = [parse_rule(text) for text in words(site.settings.get("allow_peer", ""))]
    return peer_rules.needs(rules, kernel_version(os.uname().release))


def stop_timeout(site: Site) -> int:
    """Return the seconds for TimeoutStopSec=: accepted requests may finish, and then some."""
    graceful = site.settings.get("graceful_timeout")
    allowed = seconds(graceful) if graceful else DEFAULTS.graceful_timeout
    return int(-(-allowed // 1)) + STOP_MARGIN
