"""Many at once, slow ones, and those that vanish: real sockets to a real process."""

from pathlib import Path

import pytest

from tests.servers.peers import PROTOCOLS, Request, ask
from tests.servers.service import Service, serving

APPLICATION = "tests.servers.native.applications:application"


def status(service: Service, protocol: str, path: str) -> int:
    with service.connect() as sock:
        return ask(sock, protocol, Request(path)).status


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("threads", [2, 8])
def test_requests_that_come_together_are_served_together(
    tmp_path: Path, protocol: str, threads: int
) -> None:
    """However few events their arrival makes: each waits until all have begun."""
    with serving(tmp_path, APPLICATION, threads=threads) as service:
        for _ in range(5):
            connections = [service.connect() for _ in range(threads)]
            for sock in connections:
                sock.sendall(PROTOCOLS[protocol].encode(Request(f"/meet/{threads}")))
            for sock in connections:
                answer = PROTOCOLS[protocol].read(sock, Request())
                assert (answer.status, answer.body) == (200, b"met")
                sock.close()
