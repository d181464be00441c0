"""The table of fronts: complete, in one grammar, and free of wings."""

import pytest

from sdactivate import fronts
from sdactivate.errors import UsageError
from sdactivate.settings import BY_NAME

PROTOCOLS = set(BY_NAME["protocol"].choices) - {"auto"}
FRONTS = fronts.FRONTS.values()


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.name)
def test_every_protocol_is_either_spoken_or_refused_with_a_reason(front: fronts.Front) -> None:
    assert set(front.protocols) | set(front.refused) == PROTOCOLS
    assert not set(front.protocols) & set(front.refused)
    assert all(front.refused.values())
    assert front.recommended in front.protocols


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.name)
def test_packaging_is_said_for_every_distribution_or_for_none(front: fronts.Front) -> None:
    assert set(front.packaging) in (set(), set(fronts.DISTRIBUTIONS))
    for packaging in front.packaging.values():
        assert packaging.unit.endswith(".service")
        assert "NAME" in packaging.config or front.name == "haproxy"
        assert packaging.log_command.split()[0] in ("tail", "journalctl")


def test_debian_runs_nginx_apache_and_lighttpd_as_www_data() -> None:
    users = {f.name: f.packaging["debian"].user for f in FRONTS if f.packaging}
    assert users == {
        "nginx": "www-data",
        "apache": "www-data",
        "lighttpd": "www-data",
        "caddy": "caddy",
        "haproxy": "haproxy",
    }


def test_a_chroot_hides_what_is_outside_and_shortens_what_is_inside() -> None:
    haproxy = fronts.HAPROXY.packaging["debian"]
    assert haproxy.path_inside("/var/lib/haproxy/site.sock") == "/site.sock"
    assert haproxy.path_inside("/run/site.sock") is None
    assert haproxy.path_inside("/var/lib/haproxy-other/site.sock") is None
    assert haproxy.path_inside("/var/lib/haproxy") is None
    assert fronts.NGINX.packaging["debian"].path_inside("/run/site.sock") == "/run/site.sock"


def test_an_unknown_front_is_told_what_there_is_and_h2o_why_not() -> None:
    with pytest.raises(UsageError, match="nginx, apache, lighttpd"):
        fronts.find("ngnix")
    with pytest.raises(UsageError, match="X-Forwarded"):
        fronts.find("h2o")
    assert fronts.find("caddy") is fronts.CADDY


def test_what_no_distribution_packages_has_no_known_user() -> None:
    assert fronts.packaging(fronts.APACHE, "fedora").user == "apache"
    with pytest.raises(UsageError, match="--group"):
        fronts.packaging(fronts.CHEROKEE, "debian")


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("ID=debian\n", "debian"),
        ("ID=ubuntu\nID_LIKE=debian\n", "debian"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "fedora"),
        ("ID=fedora\n", "fedora"),
        ("ID=manjaro\nID_LIKE=arch\n", "arch"),
        ("ID=nixos\n", "debian"),
        ("", "debian"),
    ],
)
def test_the_distribution_is_told_by_os_release(text: str, family: str) -> None:
    assert fronts.distribution(text) == family


def test_the_running_system_has_one() -> None:
    assert fronts.distribution() in fronts.DISTRIBUTIONS
