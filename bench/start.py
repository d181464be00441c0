"""Cold start, memory and imports: what a site costs that is asked for now and then.

A cold start is socket activation as systemd does it: the listening socket is held here, a client
connects and sends a request, and only then is the server started with the socket as descriptor 3.
The wait is the client's, from before its connect to the first byte of the answer. What it is
compared with is `REFERENCE`: Python itself, importing the same application and answering once.

Imports are those of -X importtime that the reference does not make for the same application.
"""

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

from bench import process
from bench.load import Bench, running
from bench.process import Failed, python
from bench.servers import SERVERS, SOCKET, Case, version
from bench.wire import PARAMS, PROTOCOLS

REFERENCE = "python"
APPS = ("trivial", "djmw", "page")
PATIENCE_S = 30

# SCGI in three lines: the environ is right, and nothing is imported that Python has not already.
ANSWER_ONCE = """
import io, os, sys, time, _socket
from bench.apps.{app} import application
def answer(descriptor):
    fields = os.read(descriptor, 65536).partition(b":")[2].decode("latin-1").split("\\0")
    environ = dict(zip(fields[::2], fields[1::2]))
    environ.update({{
        "wsgi.version": (1, 0), "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr, "wsgi.multithread": False, "wsgi.multiprocess": False,
        "wsgi.run_once": False}})
    head = []
    result = application(environ, lambda *arguments: head.extend(arguments))
    lines = "".join(f"{{name}}: {{value}}\\r\\n" for name, value in head[1])
    os.write(descriptor, f"Status: {{head[0]}}\\r\\n{{lines}}\\r\\n".encode() + b"".join(result))
answer(_socket.socket(fileno=3)._accept()[0])
{then}
"""


def command(case: Case, then: str = "") -> list[str]:
    """The command line of a case; for the reference, with what it does after it has answered."""
    if case.server == REFERENCE:
        return python("-c", ANSWER_ONCE.format(app=case.app, then=then))
    return SERVERS[case.server].argv(case)


def cases(servers: list[str]) -> Iterator[Case]:
    """The reference and every server that can inherit a socket, with its first protocol."""
    for app in APPS:
        yield Case(REFERENCE, "scgi", app)
        for name in servers:
            case = Case(name, SERVERS[name].protocols[0], app)
            if version(name) and SOCKET not in command(case):
                yield case


@contextlib.contextmanager
def activated(bench: Bench, argv: list[str], protocol: str) -> Iterator[tuple[int, float]]:
    """Start `argv` at the first connection; gives its PID and the client's wait in ms."""
    bench.socket.unlink(missing_ok=True)
    bench.log.unlink(missing_ok=True)
    with process.listen(bench.socket) as listener, socket.socket(socket.AF_UNIX) as client:
        began = time.perf_counter()
        client.connect(str(bench.socket))
        client.sendall(PROTOCOLS[protocol].request(PARAMS))
        select.select([listener], [], [])
        pid = process.spawn(argv, bench.log, listener)
        try:
            while not (arrived := select.select([client], [], [], 0.1)[0]):
                if process.ended(pid, 0) or time.perf_counter() > began + PATIENCE_S:
                    break
            waited = time.perf_counter() - began
            first = client.recv(65536) if arrived else b""
            if b" 200" not in first[:64]:
                said = bench.log.read_text(errors="replace")[-500:]
                raise Failed(f"answered {first!r} after {waited:.1f} s and wrote: {said}")
            yield pid, waited * 1000
        finally:
            process.stop(pid)


def cold(bench: Bench, case: Case) -> dict[str, Any]:
    """Milliseconds from the connect to the first byte."""
    with activated(bench, command(case), case.protocol) as (_, waited):
        return {"what": "cold", "ms": waited}


def memory(bench: Bench, case: Case) -> dict[str, Any]:
    """MiB of a server that has answered once, or of Python that has."""
    if case.server == REFERENCE:
        argv = command(case, "time.sleep(60)")
        with activated(bench, argv, case.protocol) as (pid, _):
            return {"what": "memory", "mib": process.pss_mib(pid)}
    with running(bench, case) as server:
        time.sleep(0.2)
        return {"what": "memory", "mib": server.memory()}


def imported(bench: Bench, case: Case) -> dict[str, int]:
    """Module -> microseconds of its own (without what it imports), up to the first answer."""
    first, *rest = command(case)
    with activated(bench, [first, "-X", "importtime", *rest], case.protocol):
        lines = bench.log.read_text(errors="replace").splitlines()
    found = {}
    for line in lines:
        if line.startswith("import time:") and "self [us]" not in line:
            own, _, name = line.removeprefix("import time:").split("|")
            found[name.strip()] = int(own)
    return found


def imports(bench: Bench, app: str) -> dict[str, Any]:
    """What ours imports and the reference does not, dearest first."""
    bare = imported(bench, Case(REFERENCE, "scgi", app))
    ours = imported(bench, Case("sdactivate", "scgi", app))
    extra = {name: cost for name, cost in ours.items() if name not in bare}
    extra = dict(sorted(extra.items(), key=lambda item: -item[1]))
    return {"what": "imports", "app": app, "ms": sum(extra.values()) / 1000, "modules_us": extra}


def rounds(bench: Bench, number: int, servers: list[str]) -> dict[str, Any]:
    """Cold starts, memory and imports, `number` times each, interleaved."""
    found: list[dict[str, Any]] = []
    failed: dict[str, str] = {name: "not installed" for name in servers if not version(name)}
    for turn in range(1, number + 1):
        for case in cases(servers):
            for measure in (cold, memory):
                name = f"{measure.__name__}: {case}"
                if name in failed:
                    continue
                try:
                    found.append({"round": turn, **case._asdict(), **measure(bench, case)})
                except Failed as error:
                    failed[name] = str(error)
        found += [{"round": turn, **imports(bench, app)} for app in APPS]
    return {"rounds": number, "rows": found, "failed": failed}
