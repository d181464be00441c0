"""Services other than the front that can connect to the socket.

Debian's php-fpm is the usual case: it runs as www-data, like the front, so a PHP page can connect
to the application directly and claim to be any user.
"""

from collections.abc import Collection

from sdactivate.access.permissions import Identity, Verdict
from sdactivate.fronts import FRONTS

_FRONTS = frozenset(
    packaging.unit for front in FRONTS.values() for packaging in front.packaging.values()
)


def bypasses_front(
    unit: str, identity: Identity, verdict: Verdict | None, own: Collection[str] = ()
) -> bool:
    """Whether a process of `unit`, which may connect by `verdict`, can bypass the front.

    `own` are the units of the deployment itself. Not counted: root, which can do anything; login
    sessions, whose users were added to the group on purpose; and sockets that anyone can connect
    to, which is a separate finding.
    """
    return (
        verdict is not None
        and verdict.allowed
        and verdict.by not in ("others", "capability")
        and is_another_service(unit, identity, own)
    )


def is_another_service(unit: str, identity: Identity, own: Collection[str] = ()) -> bool:
    """Whether a process of `unit` is one that `bypasses_front` counts wherever it may connect."""
    return (
        not identity.override
        and identity.uid != 0  # root's files are its own even without a capability
        and unit.endswith(".service")
        and not unit.startswith("user@")
        and unit not in _FRONTS
        and unit not in own
    )
