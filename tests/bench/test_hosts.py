"""What the documentation says of restarts is what was measured."""

import json

from bench import hosts
from tests.conftest import CHECKOUT


def test_the_document_shows_the_results() -> None:
    result = json.loads((CHECKOUT / "bench" / "results" / "hosts.json").read_text())
    assert hosts.document(result) in (CHECKOUT / "docs" / "servers.md").read_text()
    assert not result["failed"]
