"""What a person might write, well or badly, for every option of a site."""

from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.generate import options
from sdactivate.site import Site

# Everything that means something to systemd, and enough that does not.
HOSTILE = st.text(
    st.sampled_from("ab%/\\\"'$;#=-@:+!{}[]() \t\näß☃\u2028\x7f") | st.characters(codec="utf-8"),
    min_size=1,
    max_size=20,
)
_INSIDE = st.text(
    st.sampled_from("ab%\\\"'$;#=-@:+!{}[]() äß☃") | st.characters(codec="utf-8"), min_size=1
)
_PATHS = st.builds("/srv/{}".format, _INSIDE)


def _good(read: Any, values: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """The values that `read` accepts, as it reads them."""

    def accepted(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return values.filter(accepted).map(read)


def accepted(option: Any) -> st.SearchStrategy[Any]:
    """Values of an option of the table that its reader accepts, the odder the better."""
    name = option.name
    if option.flag:
        return st.booleans()
    texts = {
        "listen": st.builds("/run/{}".format, _INSIDE)
        | st.builds("admin=/run/{}".format, _INSIDE)
        | st.builds("@{}".format, _INSIDE)
        | st.sampled_from(["127.0.0.1:8000", "[::1]:8000", "vsock:2:80"]),
        "front": st.sampled_from(["nginx", "haproxy"]),
        "distribution": st.sampled_from(["debian", "fedora", "arch"]),
        "user": st.sampled_from(["root", "www-data", "0", "4711"]),
        "group": st.sampled_from(["root", "www-data", "33"]),
        "run-as": st.sampled_from(["www-data", "33"]),
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
    }
    if option.topic == "runtime":
        values = st.sampled_from(["1", "4", "10", "30", "yes", "native", "auto", "user:www-data"])
    else:
        values = texts.get(name, _PATHS)
    good = _good(option.read, values)
    return st.lists(good, max_size=2, unique=True).map(tuple) if option.many else good


def sites(name: str = "mysite") -> st.SearchStrategy[Site]:
    """Sites, with any of their options."""

    def together(values: dict[str, Any]) -> Site:
        try:
            return options.site(name, values)
        except UsageError:
            reject()

    given = st.fixed_dictionaries(
        {"app": st.just("mysite.wsgi:application")},
        optional={row.field: accepted(row) for row in options.SITE if row.field != "app"},
    )
    return given.map(together)
