"""What a person might write, well or badly, for every option of a site."""

import shlex
from collections.abc import Iterator
from posixpath import normpath
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.generate import options
from sdactivate.generate.build import known_options
from sdactivate.site import Site

# Everything that means something to systemd, and enough that does not.
HOSTILE = st.text(
    st.sampled_from("ab%/\\\"'$;#=-@:+!{}[]() \t\näß☃\u2028\x7f") | st.characters(codec="utf-8"),
    min_size=1,
    max_size=20,
)
_INSIDE = st.lists(
    st.sampled_from([*"ab%\\\"'$;#=-@:+!{}[]() äß☃", "{instance}"]) | st.characters(codec="utf-8"),
    min_size=1,
).map("".join)
# Below /srv, not itself: a directory that a site's user owns and others' directories lie in is
# refused by systemd-tmpfiles, rightly.
_PATHS = st.builds("/srv/{}".format, _INSIDE).filter(lambda path: normpath(path) != "/srv")


# Each means something to a shell, or to systemd.
MEANT = ("$HOME", "${HOME}", "$$", "%n", "%%i", ";", "\\x41", "-", "@", '"a b"', "'", "#", "")
_COMMANDS = st.lists(HOSTILE | st.sampled_from(MEANT), max_size=3).map(
    lambda more: shlex.join(["clear", *more])
)


def _reads(read: Any) -> Any:
    def accepted(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return accepted


def texts(option: Any) -> st.SearchStrategy[str]:
    """What may be written for an option that takes a value, the odder the better."""
    values = {
        "listen": st.builds("/run/{}".format, _INSIDE)
        | st.builds("/run/{}/x.sock".format, _INSIDE)
        | st.builds("admin=/run/{}".format, _INSIDE)
        | st.builds("@{}".format, _INSIDE)
        | st.sampled_from(["127.0.0.1:8000", "[::1]:8000", "vsock:2:80"]),
        "front": st.sampled_from(["nginx", "haproxy"]),
        "distribution": st.sampled_from(["debian", "fedora", "arch"]),
        "user": st.sampled_from(["root", "www-data", "0", "4711"]),
        "group": st.sampled_from(["root", "www-data", "33", "web", "shop_front"]),
        "run-as": st.sampled_from(["www-data", "33", "shop-app"]),
        "join": st.sampled_from(["redis", "postgres", "33"]),
        "network": st.just("local"),
        "mode": st.sampled_from(["0660", "600", "u=rw,g=rw,o=", "0"]) | HOSTILE,
        "app": st.sampled_from(["mysite.wsgi:application", "a:b", "müsli.äpp:ü"]),
        "python": st.just("/usr/bin/python3"),
        "device": st.builds("/dev/{}".format, _INSIDE),
        "credential": st.builds("{}={}".format, st.sampled_from(["a", "key.pem"]), _PATHS),
        "encrypted-credential": st.builds("b={}".format, _PATHS),
        "memory-max": st.sampled_from(["512M", "1T", "25%", "123456789"]),
        "cpu-quota": st.sampled_from(["1%", "250%"]),
        "tasks-max": st.sampled_from(["1", "4096"]),
        "env": st.builds("{}={}".format, st.sampled_from(["A", "PATH", "x_1"]), HOSTILE),
        "command": _COMMANDS,
        "by-hand": _COMMANDS.map(lambda text: text.replace("clear", "migrate", 1)),
        "once-on": st.sampled_from(["web1", "web1.example.org"]),
        "member": st.sampled_from(["www-data", "nobody"]),
        "allow-syscall": st.sampled_from(["listen", "@keyring"]),
        "every": st.sampled_from(["daily", "Mon 04:00", "*:0/15", "Mon..Fri *-*-* 10:00:00 UTC"])
        | st.builds("{}{}".format, st.integers(1, 99), st.sampled_from(["s", "min", "h", " days"])),
    }
    if option.topic == "runtime":
        chosen = st.sampled_from(
            ["1", "4", "10", "30", "yes", "native", "auto", "user:www-data", "/up", "Forwarded"]
        )
    else:
        chosen = values.get(option.name, _PATHS)
    return chosen.filter(_reads(option.read))


def accepted(option: Any) -> st.SearchStrategy[Any]:
    """Values of an option of the table, as its reader makes them of what may be written."""
    if option.flag:
        return st.booleans()
    good = texts(option).map(option.read)
    return st.lists(good, max_size=2, unique=True).map(tuple) if option.many else good


def sites(name: str = "mysite") -> st.SearchStrategy[Site]:
    """Sites, with any of their options."""

    def together(values: dict[str, Any]) -> Site:
        try:
            return options.site(name, values)
        except UsageError:
            reject()

    asked = st.fixed_dictionaries(
        {"app": st.just("mysite.wsgi:application")},
        optional={row.field: accepted(row) for row in options.SITE if row.field != "app"},
    )
    return asked.map(together)


def pool(values: st.SearchStrategy[str], count: int) -> list[str]:
    """Different values of a strategy: of each by itself it has odder ones than of all together."""
    found: list[str] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def collect(value: str) -> None:
        if value not in found:
            found.append(value)

    collect()
    return found


# What a table for each kind of file must have; several of them, and any of the others, besides.
REASONS: tuple[tuple[str, ...], ...] = (
    (),
    ("kind",),
    ("command", "by-hand"),
    ("group", "member"),
    ("listen", "writable", "run-as"),
)


def tables(count: int, dice: Random) -> Iterator[dict[str, Any]]:
    """Yield what may be written for a site in a file: any of the options of units and accounts."""
    rows = [*options.SITE, *options.TIMER, options.BY_HAND, *options.SYSUSERS]
    pools = {row.name: pool(texts(row), 80) for row in rows if not row.flag}
    pools["kind"] = ["template"]

    def value(name: str) -> Any:
        row = known_options().get(name.replace("-", "_"))
        if row is not None and row.optional:
            return dice.choice([True, False, *pools[name]])
        if row is None or not (row.flag or row.many):
            text = dice.choice(pools[name])
            return int(text) if row and int in row.types and text.isdigit() else text
        if row.flag:
            return dice.random() < 0.8
        return dice.sample(pools[name], min(dice.choice([1, 1, 1, 2, 3]), len(pools[name])))

    for number in range(count):
        always = ("app", "python", "chdir", *REASONS[number % len(REASONS)])
        more = (row.name for row in rows if row.name not in always and dice.random() < 0.2)
        yield {name: value(name) for name in (*always, *more)}


def toml(value: object) -> str:
    """The value as TOML: a basic string escapes whatever could end it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)
