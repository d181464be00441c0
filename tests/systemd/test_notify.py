"""What is told to the supervisor, on a real notification socket."""

import socket
from pathlib import Path

from sdactivate.systemd.notify import Supervisor


def test_what_an_application_wrote_steers_no_terminal(tmp_path: Path) -> None:
    """`systemctl status` prints STATUS= as it came: an exception's words may be a client's."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        Supervisor({"NOTIFY_SOCKET": path}).tell(STATUS="no \x1b[2J\u202e\nMAINPID=1 \udcff é")
        assert listening.recv(1000).decode() == "STATUS=no \\x1b[2J\\u202e MAINPID=1 \\xff é"
