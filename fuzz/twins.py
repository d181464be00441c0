"""What the compiled hot path promises for any bytes: what it takes, its original takes alike.

Guided by coverage only where `_accel` was compiled for it (`script/sanitize search`).
"""

from fuzz.targets import TARGETS, Pieces, Target
from sdactivate.servers.native import accel

PREFIX = "twin-"
TWINS = tuple(PREFIX + name for name in ("scgi", "uwsgi", "fastcgi", "http") if accel.module)


def target(name: str) -> Target:
    """Return the target of a parser or a twin, by its name. Raises KeyError for another."""
    if name not in TWINS:
        return TARGETS[name]
    # The tests' comparison: not for those who search in the parsers alone
    from tests.servers.native.accel.test_requests import agree, begin

    begin()

    def twin(pieces: Pieces) -> None:
        agree(name.removeprefix(PREFIX), b"".join(pieces))

    return twin
