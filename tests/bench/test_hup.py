"""What the documentation says of HUP and of granian by a proxy is what was measured."""

import json

from bench import hup
from tests.conftest import CHECKOUT


def test_the_document_shows_the_results() -> None:
    result = json.loads((CHECKOUT / "bench" / "results" / "hup.json").read_text())
    assert hup.document(result) in (CHECKOUT / "docs" / "servers.md").read_text()
    assert not result["failed"]
