"""What a process remembers of its clients' and its application's words has a limit in bytes."""

import gc
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import sdactivate.servers.native
from sdactivate.servers.native import forwarded, wire, wsgi
from sdactivate.servers.native.wire import http
from sdactivate.servers.native.wsgi import Response
from sdactivate.settings import Settings

MOST = 1 << 20  # bytes
LONG = 20_000


def modules() -> Iterator[ModuleType]:
    package = sdactivate.servers.native
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def kept() -> int:
    """Bytes of all that the server's modules hold in containers of their own, lru_cache's too."""
    seen: set[int] = set()
    waiting: list[Any] = []
    for module in modules():
        for value in vars(module).values():
            if hasattr(value, "cache_info"):
                waiting += [each for each in gc.get_referents(value) if type(each) is dict]
            elif type(value) in (dict, list, set):
                waiting.append(value)
    total = 0
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType) or callable(thing):
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        if isinstance(thing, dict | list | tuple | set):
            waiting += gc.get_referents(thing)
    return total


def respond(status: str, name: str) -> None:
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/"}
    Response(None, environ).start_response(status, [(name, "x")])  # type: ignore[arg-type]


def test_words_of_others_are_kept_up_to_a_limit() -> None:
    trust = forwarded.Trust(Settings(trust_headers=("Forwarded",)))
    before = kept()
    for size, count in ((LONG, 200), (40, 5000)):
        for number in range(count):
            word = f"{number:06}".ljust(size, "x")
            parser = http.Parser(1 << 20, 100, 8190)
            fields = f"Host: h\r\nN-{word}: a\r\nX-Forwarded-{word}: a\r\nN_{word}: a\r\n"
            parser.feed(f"GET / HTTP/1.1\r\n{fields}\r\n".encode())
            environ = {"HTTP_HOST": word, "PATH_INFO": "/"}
            found = {"HTTP_X_FORWARDED_FOR": word, "HTTP_FORWARDED": word}
            forwarded.apply(environ, found, trust)
            wire.is_host(word)
            respond(f"200 {word}", f"N-{word}")
            respond("200 OK", "Content-Type")
    assert kept() - before < MOST


def test_what_is_usual_is_remembered() -> None:
    respond("200 Fine", "X-Usual")
    http.Parser(1 << 20, 100, 8190).feed(b"GET / HTTP/1.1\r\nHost: h\r\nX-Usual: a\r\n\r\n")
    assert kept() > MOST // 1000
    assert "200 Fine" in wsgi.statuses
    assert "X-Usual" in wsgi._kinds
    assert b"X-Usual" in http._KEYS
