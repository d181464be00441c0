"""Which of the sockets that a front asks for, and that nobody listens at, is a deployment's."""

import pytest

from sdactivate.doctor.checks.upstreams import astray, is_like
from sdactivate.front_upstreams import Upstream

WEB, OTHER, PORT = (
    Upstream("f", 1, "/run/web.sok"),
    Upstream("f", 2, "/run/php/php-fpm.sock"),
    Upstream("f", 3, "", 8000),
)


def found(
    asked: list[Upstream], there: tuple[Upstream, ...] = (), failed: tuple[Upstream, ...] = ()
) -> list[Upstream]:
    hits = astray(asked, ["web"], lambda it: it in there, lambda it: 3 * (it in failed))
    return [it for it, _ in hits]


@pytest.mark.parametrize(
    ("asked", "there", "failed", "wanted"),
    [
        ([WEB], (), (), [WEB]),
        ([WEB, OTHER, PORT], (OTHER,), (PORT,), [WEB]),
        ([PORT], (), (PORT,), [PORT]),
        ([OTHER], (), (OTHER,), [OTHER]),
        # another's, or nobody has asked for it yet
        ([WEB], (WEB,), (WEB,), []),
        ([PORT], (), (), []),
        ([OTHER, PORT], (), (OTHER, PORT), []),
        ([], (), (), []),
    ],
)
def test_what_is_the_deployment_s(
    asked: list[Upstream],
    there: tuple[Upstream, ...],
    failed: tuple[Upstream, ...],
    wanted: list[Upstream],
) -> None:
    assert found(asked, there, failed) == wanted


@pytest.mark.parametrize(
    ("path", "name", "like"),
    [
        ("/run/my-site.sock", "mysite", True),
        ("/run/mysite/gunicorn.sock", "mysite", True),
        ("/srv/mysite/run/mysite.socket", "mysite", True),
        ("/run/my_sit.sock", "mysite", True),
        ("/run/gunicorn.sock", "mysite", False),
        ("/run/php/php-fpm.sock", "web", False),
        ("/run/site.sock", "web-site", False),
        ("", "web", False),
        ("/run/web.sock", "%", False),
    ],
)
def test_names_that_are_alike(path: str, name: str, like: bool) -> None:
    assert is_like(path, name) is like
