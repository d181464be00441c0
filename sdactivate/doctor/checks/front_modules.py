"""Checks on the running system: modules that a front's configuration needs and has not loaded."""

import re
from collections.abc import Iterator

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.front_ways import Way, ways
from sdactivate.doctor.doors import texts
from sdactivate.doctor.finding import Advice, Case, Command, Fix, Hit
from sdactivate.doctor.host_state import InstalledFront
from sdactivate.front_upstreams import bare

_APACHE = {
    "http://": "proxy_http", "https://": "proxy_http", "uwsgi://": "proxy_uwsgi",
    "fcgi://": "proxy_fcgi", "scgi://": "proxy_scgi",
}  # fmt: skip
"""Apache's module for each scheme of ProxyPass and [P]; proxy itself is needed too."""
_LIGHTTPD = {
    "proxy.server": "mod_proxy", "fastcgi.server": "mod_fastcgi", "scgi.server": "mod_scgi",
    "uwsgi.server": "mod_uwsgi",
}  # fmt: skip
_LOADS = re.compile(r"^[ \t]*LoadModule[ \t]+(\w+)_module\b", re.MULTILINE | re.IGNORECASE)
_NO_HANDLER = re.compile(r"AH01144: No protocol handler was valid for the URL .*\(scheme '(\w+)'\)")


def not_loaded(case: Case) -> Iterator[Hit]:
    told: set[tuple[str, str]] = set()
    for way in ways(case):
        needs = {"apache": _APACHE, "lighttpd": _LIGHTTPD}.get(way.front, {}).get(way.word)
        place = (way.installed.packaging.unit, needs or "")
        if not needs or place in told:
            continue
        told.add(place)
        loaded = _loaded(case, way.installed)
        if not loaded:
            continue  # its modules are loaded elsewhere
        if needs not in loaded:
            yield _missing(way, needs)
        elif way.word == "https://" and "ssl" not in loaded:
            yield _without_tls(way)
        elif times := _without_handler(case, way):
            yield Hit(
                way.installed.packaging.unit,
                f"{way.installed.front.title} loads mod_{needs} by its configuration, but the "
                f"running one has not: it has refused requests {common.times(times)} since its "
                "start",
                Command(("systemctl", "restart", way.installed.packaging.unit)),
                way.unit,
            )


def _loaded(case: Case, installed: InstalledFront) -> frozenset[str]:
    """The modules that a front's configuration loads."""

    def look() -> frozenset[str]:
        text = "\n".join(map(bare, texts(case.running, installed).values()))
        if installed.front.name == "lighttpd":
            return frozenset(re.findall(r'"(mod_\w+)"', text))
        return frozenset(_LOADS.findall(text))

    return case.running.machine.once(("modules", installed.packaging.unit), look)


def _missing(way: Way, needs: str) -> Hit:
    packaging, title = way.installed.packaging, way.installed.front.title
    restarts = f"systemctl restart {packaging.unit}"
    fix: Fix
    if way.front == "lighttpd":
        answers = "ignores it and answers 404"
        fix = Advice(f'add server.modules += ("{needs}") above {way.place}')
        name = needs
    else:
        answers = "answers 500 (AH01144: No protocol handler was valid for the URL)"
        name = f"mod_{needs}"
        debian = packaging.unit == "apache2.service"
        fix = Command(("a2enmod", needs)) if debian else Advice(
            f"add LoadModule {needs}_module modules/mod_{needs}.so to Apache's configuration"
        )  # fmt: skip
    return Hit(
        packaging.unit,
        f"{title} passes requests on by {way.word} ({way.place}), but does not load {name}, which "
        f"does this: it {answers}",
        fix,
        way.unit,
        then=restarts,
    )


def _without_tls(way: Way) -> Hit:
    return Hit(
        way.installed.packaging.unit,
        f"Apache passes requests on by https:// ({way.place}), but does not load mod_ssl: it "
        "answers 500 (AH01144: No protocol handler was valid for the URL)",
        Advice(
            f"write http:// instead of https:// in {way.place}, unless the server does speak TLS: "
            "then load mod_ssl (a2enmod ssl), and add SSLProxyEngine On to that virtual host"
        ),
        way.unit,
        then=f"systemctl restart {way.installed.packaging.unit}",
    )


def _without_handler(case: Case, way: Way) -> int:
    since = case.running.since(way.installed.packaging.unit)
    lines = case.running.front_log(way.installed, since)
    scheme = way.word.removesuffix("://")
    return sum(it[1] == scheme for it in map(_NO_HANDLER.search, lines) if it)
