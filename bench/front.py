"""Load through the real nginx: wrk -> nginx -> the server's unix socket.

nginx and wrk share the load's core. Connections to the server are kept where the protocol can
(fastcgi_keep_conn, proxy_http_version 1.1); `generated` is nginx as `gen --kind nginx` configures
it, which keeps none.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.load import Running
from bench.process import LOAD_CORE, Address, Failed, free_port, python
from bench.wire import HEADERS, PATH, QUERY

# What nginx itself says of a request; what the browser says, it passes on as HTTP_*.
PARAMS = {
    "REQUEST_METHOD": "$request_method",
    "QUERY_STRING": "$query_string",
    "CONTENT_TYPE": "$content_type",
    "REQUEST_URI": "$request_uri",
    "SERVER_PROTOCOL": "$server_protocol",
    "SCRIPT_NAME": '""',
    "PATH_INFO": "$document_uri",
    "REQUEST_SCHEME": "https",
    "HTTPS": "on",
    "REMOTE_ADDR": "$remote_addr",
    "REMOTE_PORT": "$remote_port",
    "SERVER_NAME": "$host",
    "SERVER_PORT": "$server_port",
    "SERVER_SOFTWARE": "nginx",
}
LENGTH = "CONTENT_LENGTH $content_length"  # scgi passes it of itself

CONFIG = """\
daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.log; worker_processes 1;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
{site}
}}
"""

SITE = """\
upstream site {{ server {address} max_fails=0; {keepalive} }}
server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}
"""
KEPT = ("http", "fastcgi")

# wrk's own report is for people: this is the same for us.
SCRIPT = """\
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "seconds": %.6f, "mean_us": %.1f, "p50_us": %d, "p90_us": %d, ' ..
    '"p99_us": %d, "max_us": %d, "failures": {"connect": %d, "read": %d, "write": %d, ' ..
    '"status": %d, "timeout": %d}}\\n', summary.requests, summary.duration / 1e6, latency.mean,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""


def absent() -> list[str]:
    """What is wanted for this and not installed."""
    return [name for name in ("nginx", "wrk", "taskset") if not shutil.which(name)]


def location(protocol: str) -> str:
    """The body of the location that passes requests on in `protocol`."""
    kind = protocol.split("-")[0]
    if kind == "http":
        keep = "" if protocol.endswith("-close") else "proxy_http_version 1.1;"
        return (
            f"proxy_pass http://site; {keep} proxy_set_header Host $http_host;"
            'proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr;'
            "proxy_set_header X-Forwarded-Proto https; proxy_buffering off;"
        )
    params = "".join(f"{kind}_param {name} {value};" for name, value in PARAMS.items())
    length = "" if kind == "scgi" else f"{kind}_param {LENGTH};"
    keep = "fastcgi_keep_conn on;" if protocol == "fastcgi" else ""
    return f"{kind}_pass site; {kind}_buffering off; {params}{length}{keep}"


@contextlib.contextmanager
def nginx(upstream: Address, protocol: str) -> Iterator[int]:
    """nginx in front of the server at `upstream`; gives the port it listens on."""
    keepalive = "keepalive 16; keepalive_requests 1000000000;" if protocol in KEPT else ""
    address = f"127.0.0.1:{upstream}" if isinstance(upstream, int) else f"unix:{upstream}"
    port = free_port()
    site = SITE.format(port=port, address=address, location=location(protocol), keepalive=keepalive)
    with running(port, site):
        yield port


@contextlib.contextmanager
def generated(
    upstream: Path, protocol: str, stream: bool = False, connections: int = 512
) -> Iterator[int]:
    """nginx as `gen --kind nginx` configures it, but on a port of this host, which is given.

    stream: with `--stream /`, which switches its buffering off. connections: worker_connections.
    """
    argv = python("-m", "sdactivate", "gen", "bench", "--kind", "nginx", "--protocol", protocol)
    argv += ["--listen", str(upstream), "--no-comments", *(["--stream", "/"] if stream else [])]
    site = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
    port = free_port()
    site = site.replace("listen [::]:80;", "").replace("listen 80;", f"listen 127.0.0.1:{port};")
    with running(port, site, connections):
        yield port


@contextlib.contextmanager
def running(port: int, site: str, connections: int = 512) -> Iterator[None]:
    """nginx with the text `site` in its http block, which listens on `port`."""
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as directory:
        # What its worker opens besides: a file for each connection
        text = CONFIG.format(
            dir=directory, site=site, connections=connections, files=2 * connections + 100
        )
        if os.geteuid() == 0:
            text = f"user root; {text}"
        config = Path(directory, "nginx.conf")
        config.write_text(text)
        errors = f"{directory}/nginx.log"
        argv = ["taskset", "-c", str(LOAD_CORE), "nginx", "-e", errors, "-c", str(config)]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
            try:
                wait(port, process, Path(errors))
                yield
            finally:
                process.terminate()


def wait(port: int, process: subprocess.Popen[bytes], errors: Path) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise Failed(f"nginx did not start: {errors.read_text() if errors.exists() else ''}")


def wrk_command(port: int, script: Path, seconds: float, connections: int) -> list[str]:
    """wrk's command line. It counts in whole seconds, and no wait longer than --timeout."""
    headers = [word for name, value in HEADERS.items() for word in ("-H", f"{name}: {value}")]
    argv = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", "--timeout", "30s"]
    argv += [f"-d{max(1, round(seconds))}s", "-s", str(script), *headers]
    return [*argv, f"http://127.0.0.1:{port}{PATH}?{QUERY}"]


def wrk(port: int, script: Path, seconds: float, connections: int) -> dict[str, Any]:
    argv = wrk_command(port, script, seconds, connections)
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return report(done.stdout)


def report(text: str) -> dict[str, Any]:
    """What SCRIPT has made wrk print last."""
    try:
        found: dict[str, Any] = json.loads(text.splitlines()[-1])
    except (ValueError, IndexError):
        raise Failed(f"wrk ended without its report: {text[-200:]}") from None
    return found


Turn = Callable[[float], dict[str, Any]]


@contextlib.contextmanager
def before(server: Running, connections: int = 8) -> Iterator[Turn]:
    """nginx in front of a server; gives what loads it by wrk for some seconds."""
    script = server.bench.directory / "wrk.lua"
    script.write_text(SCRIPT)
    with nginx(server.address, server.case.protocol) as port:
        yield lambda seconds: server.measured(lambda: wrk(port, script, seconds, connections))


def through_nginx(server: Running, seconds: float) -> dict[str, Any]:
    """The same as Running.direct, with nginx and wrk in place of our own load generator."""
    with before(server) as turn:
        server.load(t=str(seconds / 4))
        return turn(seconds)
