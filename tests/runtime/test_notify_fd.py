"""s6's readiness: one line on a descriptor, once, and then the descriptor is closed."""

import os

import pytest

from sdactivate.errors import UsageError
from sdactivate.systemd import notify


def test_ready_is_one_line_and_then_the_end() -> None:
    reader, writer = os.pipe()
    with open(reader) as lines:
        notify.write_ready_to(writer)
        assert not os.get_inheritable(writer)
        notify.notify(STATUS="starting")
        notify.notify(READY=1, STATUS="serving")
        assert lines.read() == "\n"
    notify.notify(READY=1)


def test_a_descriptor_that_cant_be_written_is_refused() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    for fd in (reader, writer):
        with pytest.raises(UsageError, match=f"notify_fd={fd}"):
            notify.write_ready_to(fd)
    os.close(reader)
