"""Which processes listen: the reload of a front is over when its old ones no longer do."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.install.front_reload import that_listen

CHILD = """
import os, sys
sys.stdin.readline()
os.close(int(sys.argv[1]))
print("closed", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, "")],
)
@pytest.mark.parametrize("does", [True, False])
def test_a_process_listens_until_it_closes_its_socket(
    family: socket.AddressFamily, address: tuple[str, int] | str, does: bool, tmp_path: Path
) -> None:
    with socket.socket(family) as held:
        held.bind(address or str(tmp_path / "socket"))
        if does:
            held.listen()
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(held.fileno())],
            pass_fds=[held.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdin
            assert child.stdout
            assert that_listen([child.pid]) == ({child.pid} if does else set())
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "closed\n"
            assert not that_listen([child.pid])
    assert not that_listen([child.pid])  # it has exited
