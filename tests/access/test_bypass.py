"""Who can bypass the front, and who is only passing."""

import pytest

from sdactivate.access.bypass import bypasses_front
from sdactivate.access.permissions import Identity, Verdict

_WEB = Identity(33, 33)
_ROOT = Identity(0, 0, override=True)


@pytest.mark.parametrize(
    ("unit", "identity", "by", "round_it"),
    [
        ("php8.2-fpm.service", _WEB, "group", True),
        ("php8.2-fpm.service", _WEB, "owner", True),
        ("php8.2-fpm.service", _WEB, "user", True),
        # everyone can, which is a finding of its own
        ("php8.2-fpm.service", _WEB, "others", False),
        ("cron.service", _ROOT, "capability", False),
        ("cron.service", _ROOT, "owner", False),
        # root without the capability, as systemd's own services are, owns the socket still
        ("systemd-logind.service", _ROOT._replace(override=False), "owner", False),
        # fronts, the site itself, people
        ("nginx.service", _WEB, "group", False),
        ("httpd.service", _WEB, "group", False),
        ("mysite.service", _WEB, "group", False),
        ("user@1000.service", _WEB, "group", False),
        ("session-1.scope", _WEB, "group", False),
    ],
)
def test_who_bypasses_front(unit: str, identity: Identity, by: str, round_it: bool) -> None:
    verdict = Verdict(True, None, 2, by)
    assert bypasses_front(unit, identity, verdict, ("mysite.service",)) is round_it
    assert not bypasses_front(unit, identity, verdict._replace(allowed=False), ("mysite.service",))
    assert not bypasses_front(unit, identity, None, ("mysite.service",))
