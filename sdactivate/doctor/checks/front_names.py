"""Checks on the running system: which of a front's servers answers for the site's host names."""

import ipaddress
import re
from collections.abc import Iterator
from functools import partial

from sdactivate import front_config
from sdactivate.doctor import django_settings
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.front_requests import module_text
from sdactivate.doctor.checks.live_fronts import at_fronts
from sdactivate.doctor.finding import Advice, Case, Command, Fix, Hit
from sdactivate.doctor.host_state import InstalledFront
from sdactivate.front_config import Server


def another_answers(case: Case) -> Iterator[Hit]:
    """A virtual host that answers for the site's names, or for those that no virtual host has."""
    found = False
    for installed, unit, _, own in at_fronts(case):
        front, packaging = installed.front, installed.packaging
        servers = case.running.machine.configuration(installed).servers
        for rival in front_config.in_the_way(front, packaging, servers, own.__contains__):
            found = True
            if rival.command:
                fix: Fix = Command(rival.command)
                then = str(Command(("systemctl", front.renew, packaging.unit)))
            else:
                fix, then = Advice(rival.fix), ""
            yield Hit(packaging.unit, rival.because, fix, unit, then)
    if not found:
        yield from _not_listed(case)


_LISTED_BY = {
    "nginx": "add {name} to server_name in the server at {place}",
    "apache": "add ServerAlias {name} to the virtual host at {place}",
    "caddy": "add {name} to the addresses of the site at {place}",
}


def _not_listed(case: Case) -> Iterator[Hit]:
    """Names in ALLOWED_HOSTS that no virtual host of the site has, so that another one answers."""
    for service in common.services(case.service):
        allowed = django_settings.allowed_hosts(service, partial(module_text, case))
        if allowed is None:
            continue
        fronts = list(at_fronts(case))
        for name in allowed.hosts:
            if not _is_public(name) or any(
                front_config.has_name(server, name) for *_, own in fronts for server in own
            ):
                continue
            for installed, unit, _, own in fronts:
                if hit := _answered_by_another(case, installed, unit, own, name, allowed):
                    yield hit
                    break


def _answered_by_another(
    case: Case,
    installed: InstalledFront,
    unit: str,
    own: set[Server],
    name: str,
    allowed: django_settings.Allowed,
) -> Hit | None:
    if installed.front.name not in _LISTED_BY:
        return None
    servers = case.running.machine.configuration(installed).servers
    for mine in sorted(own, key=lambda it: (it.file, it.line)):
        for port in sorted(mine.ports):
            rival = front_config.default_for(installed.front, servers, name, port)
            if rival is None or rival in own:
                continue
            place = f"{mine.file}, line {mine.line}"
            return Hit(
                installed.packaging.unit,
                f"{installed.front.title}'s server in {rival.file}, line {rival.line}, answers "
                f"{name} instead of the site: ALLOWED_HOSTS contains {name} ({allowed.file}, line "
                f"{allowed.line}), but the server of the site does not ({place})",
                Advice(_LISTED_BY[installed.front.name].format(name=name, place=place)),
                unit,
                f"systemctl {installed.front.renew} {installed.packaging.unit}",
            )
    return None


def _is_public(name: str) -> bool:
    """Whether clients on other hosts may ask for a name: not a pattern, and not this host alone."""
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)+", name) or name.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(name).is_loopback
    except ValueError:
        return True
