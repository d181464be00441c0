"""Services that can connect to the socket without being its front.

Debian's php-fpm is the classic: it runs as www-data like the front, so a PHP page can speak to
the application directly, as any user it claims to be.
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

    `own` are the units of the deployment itself. Root can do anything, sessions are those of
    people whom somebody put into the group, and where others may connect everyone may, which
    is a finding of its own: none of these is counted.
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
        and identity.uid != 0  # who owns the socket as root does, without a capability too
        and unit.endswith(".service")
        and not unit.startswith("user@")
        and unit not in _FRONTS
        and unit not in own
    )
