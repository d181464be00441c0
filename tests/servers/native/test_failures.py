"""No 5xx is silent: each is counted, and is one line of the log."""

import socket
from pathlib import Path

from tests.servers.service import PATIENCE, Service

APPLICATION = """
import logging, sys
logging.basicConfig()
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raises":
        raise RuntimeError("raised")
    if path == "/logs":
        logging.error("logged")
    if path == "/prints":
        print("printed", file=sys.stderr)
    if path == "/errors":
        environ["wsgi.errors"].write("written")
    start_response("200 OK" if path == "/" else "503 Not now", [("Content-Length", "0")])
    return []
"""
PATHS = ("/", "/logs", "/silent", "/prints", "/errors", "/raises", "/for%0Aged", "/")


def said_of(directory: Path, stderr: int | None) -> None:
    """Ask for each of the paths; the service stops afterwards."""
    (directory / "failing.py").write_text(APPLICATION)
    settings = {"threads": 1, "protocol": "http"}
    service = Service(directory, "failing:application", stderr=stderr, **settings)  # type: ignore[arg-type]
    try:
        service.ready()
        for path in PATHS:
            with service.connect() as peer:
                peer.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                while peer.recv(4096):
                    pass
        status = service.told_by(lambda line: " 8 served" in line, "8 served")
        assert ", 6 failed" in status
        assert service.stop() == 0
    finally:
        service.close()


def test_where_standard_error_is_read_by_a_process(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with ours:
        with theirs:
            said_of(tmp_path, theirs.fileno())
        log = b"".join(iter(lambda: ours.recv(65536), b"")).decode()
    lines = [line for line in log.splitlines() if "answered 503" in line]
    silent = [line.split()[3] for line in lines if "has written nothing to standard error" in line]
    assert [line.split()[3] for line in lines] == [
        *("/logs", "/silent", "/prints", "/errors", "/for\\nged")
    ]
    assert silent == ["/silent", "/for\\nged"]
    assert log.count("RuntimeError: raised") == 1
    assert log.count("from unix peer (http)") == 6
    assert "Set up its logging: docs/troubleshooting.md" in log


def test_where_that_is_not_known(tmp_path: Path) -> None:
    said_of(tmp_path, None)
    log = (tmp_path / "log").read_text()
    assert log.count("answered 503 Not now\n") == 5
    assert "nothing to standard error" not in log


def test_while_the_application_can_not_start(tmp_path: Path) -> None:
    """Its reason is logged when the process exits, so that no logging of its own is missing."""
    (tmp_path / "broken.py").write_text("import no_such_thing")
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with ours:
        with theirs:
            service = Service(tmp_path, "broken:application", stderr=theirs.fileno())
        try:
            service.told_by(lambda line: line.startswith("STATUS=failed to start: "), "the failure")
            with service.connect() as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert b" 503 " in b"".join(iter(lambda: peer.recv(4096), b""))
            assert service.process.wait(PATIENCE) == 1
        finally:
            service.close()
        log = b"".join(iter(lambda: ours.recv(65536), b"")).decode()
    assert "answered 503 Service Unavailable\n" in log
    assert log.rstrip().endswith("ModuleNotFoundError: No module named 'no_such_thing'")
