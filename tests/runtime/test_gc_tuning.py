"""The garbage collector waits while an application is imported, and the application has its say."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest

from tests.servers.peers import Request, ask
from tests.servers.service import serving

# As many objects as a Django site has, and some garbage that goes in a circle
APPLICATION = """
import gc, json, weakref
class Circle:
    def __init__(self):
        self.itself = self
def runs():
    return sum(generation["collections"] for generation in gc.get_stats())
before = runs()
{first}
lost = weakref.ref(Circle())
kept = [[n] for n in range(100_000)]
during = runs() - before

def application(environ, start_response):
    young = any(each is kept for n in (0, 1) for each in gc.get_objects(n))
    threshold, enabled, frozen = gc.get_threshold(), gc.isenabled(), gc.get_freeze_count() > 0
    gc.collect()
    start_response("200 OK", [])
    found = [during, young, lost() is None, threshold, enabled, frozen]
    return [json.dumps(found).encode()]
"""


def found(directory: Path, first: str = "", **settings: object) -> list[Any]:
    (directory / "made.py").write_text(APPLICATION.format(first=first))
    with serving(directory, "made:application", **settings) as service, service.connect() as peer:
        said: list[Any] = json.loads(ask(peer, "http", Request()).body)
        return said


def test_nothing_is_searched_meanwhile_and_nothing_is_lost(tmp_path: Path) -> None:
    during, young, collected, threshold, enabled, frozen = found(tmp_path)
    assert (during, young, collected) == (0, False, True)
    assert (threshold, enabled, frozen) == (list(gc.get_threshold()), True, False)


def test_what_workers_share_is_free_of_garbage(tmp_path: Path) -> None:
    _, _, collected, _, _, frozen = found(tmp_path, workers=2)
    assert (collected, frozen) == (True, True)


@pytest.mark.parametrize(
    ("first", "settings"),
    [
        ("gc.set_threshold(5000, 20, 30)", [[5000, 20, 30], True, False]),
        ("gc.disable()", [list(gc.get_threshold()), False, False]),
        ("gc.freeze()", [list(gc.get_threshold()), True, True]),
    ],
)
def test_what_the_application_sets_holds(tmp_path: Path, first: str, settings: list[Any]) -> None:
    assert found(tmp_path, first)[3:] == settings
