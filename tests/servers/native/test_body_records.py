"""A FastCGI body comes out the same whether its records are parsed or read to where they belong.

The second way (`Upload.receive_records`) expects every record to be like the one before. So here
are records that are not, of other requests and lengths, and bodies that end before their length.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdactivate.servers.native import fastcgi
from sdactivate.servers.native.held_bodies import Held, Upload
from tests.effort import examples
from tests.servers.native.accel.test_conversations import UNIX, tell
from tests.servers.native.wire.cuts import cuts, pieces
from tests.servers.native.wire.test_fastcgi import begin, pair
from tests.servers.peers import record

GET_VALUES, ABORT, PARAMS, STDIN = 9, 2, 4, 5
SMALL = 64  # what pays in these tests
ROOM = {"body_buffer": 2000, "body_bytes": 4000}
LARGE = {"body_buffer": 1 << 20, "body_bytes": 1 << 20}


def beginning(length: int, flags: int = 1) -> bytes:
    """A request, up to its body."""
    variables = {"CONTENT_LENGTH": str(length), "REQUEST_METHOD": "POST", "PATH_INFO": "/x"}
    content = b"".join(pair(name.encode(), text.encode()) for name, text in variables.items())
    return begin(flags=flags) + record(PARAMS, content) + record(PARAMS, b"")


def content(size: int, at: int) -> bytes:
    """Bytes that show where they belong, and some of which look like a record's head."""
    return (b"%07d\1\5\0\1\0\x40\0\0" % at * (size // 15 + 1))[:size]


ALIKE = st.tuples(st.sampled_from([64, 100, 200]), st.sampled_from([0, 1, 8]), st.integers(1, 12))
ODD = st.sampled_from(
    [
        *(record(STDIN, b"x" * 64, 2), record(GET_VALUES, pair(b"FCGI_MAX_CONNS", b""), 0)),
        *(record(STDIN, b"y" * 3), record(ABORT, b""), record(STDIN, b""), record(11, b"zz", 0)),
        *(begin(2), record(PARAMS, b"late"), b"\2\5\0\1\0\x40\0\0", record(STDIN, b"v" * 300)),
    ]
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Records of a body, most of them in runs that are alike."""
    found = b""
    for run in draw(st.lists(st.one_of(ALIKE, ALIKE, ODD), min_size=1, max_size=5)):
        if isinstance(run, bytes):
            found += run
            continue
        size, padding, times = run
        for _ in range(times):
            found += record(STDIN, content(size, len(found)), 1, padding)
    return found


@contextmanager
def parsed_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(fastcgi, "SMALLEST_RECORD", 1 << 20)
        monkeypatch.setattr(fastcgi.FastCgi, "has_twin", False)
        yield


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(300),
    deadline=None,
)
@given(
    length=st.sampled_from([150, 640, 1000, 1200, 5000]),
    body=bodies(),
    ends=st.booleans(),
    follows=st.booleans(),
    cut=cuts(),
)
def test_a_body_in_records(
    length: int,
    body: bytes,
    ends: bool,
    follows: bool,
    cut: list[int],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fastcgi, "SMALLEST_RECORD", SMALL)
    data = beginning(length) + body
    if ends:
        data += record(STDIN, b"")
    if follows:
        data += beginning(0) + record(STDIN, b"")
    said = [each for each in pieces(data, cut) if each]
    read = tell(said, UNIX, capfd, **ROOM)
    with parsed_only():
        assert read == tell(said, UNIX, capfd, **ROOM)


@pytest.mark.parametrize("padding", [0, 5])
def test_records_that_are_alike_are_not_parsed(
    padding: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or nothing is won."""
    passed: list[int] = []
    read = Upload.receive_records

    def watched(*arguments: Any) -> Any:
        found = read(*arguments)
        passed.append(found.size)
        return found

    monkeypatch.setattr(Upload, "receive_records", watched)
    whole = content(100_000, 7)
    records = [record(STDIN, whole[at : at + 8192], 1, padding) for at in range(0, 98_304, 8192)]
    first = beginning(len(whole), flags=0) + records[0] + records[1][:5000]
    rest = records[1][5000:] + b"".join(records[2:])
    end = record(STDIN, whole[98_304:], 1, padding) + record(STDIN, b"")
    asked, answer, (is_closed, *_), *_ = tell([first, rest, end], UNIX, capfd, **LARGE)
    ((_, _, body),) = asked
    assert body == whole
    assert b"200 OK" in answer
    assert is_closed
    assert sum(passed) >= 11 * 8192 - 5000


def test_a_body_that_ends_early_has_no_more_than_came(tmp_path: Path) -> None:
    """The rest of its place may hold anything."""
    upload = Upload(Held(10_000, str(tmp_path)), 8000, 0.0, 8000)
    upload.write(b"1" * 600)
    assert upload.room
    assert upload.reader().read() == b"1" * 600
    upload.close()
