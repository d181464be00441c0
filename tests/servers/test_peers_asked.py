"""Who is calling is asked once for a connection, however many requests it carries."""

import os
from http.client import HTTPResponse
from pathlib import Path

from tests.servers.service import serving

# In the process that serves: the gate's own answer, counted
_COUNTED = """
from sdactivate.runtime.peers.gate import Gate
asked = []
admits = Gate.admits
def counted(self, fd):
    asked.append(fd)
    return admits(self, fd)
Gate.admits = counted
def app(environ, start_response):
    body = str(len(asked)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_a_connection_that_is_kept_pays_once(tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(_COUNTED)
    rule = f"user:{os.geteuid()}"
    counts = []
    with serving(tmp_path, "counted:app", allow_peer=rule) as service:
        for _ in range(2):
            with service.connect() as peer:
                for _ in range(3):
                    peer.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
                    with HTTPResponse(peer) as answer:
                        answer.begin()
                        counts.append(answer.read())
    assert counts == [b"1", b"1", b"1", b"2", b"2", b"2"]
