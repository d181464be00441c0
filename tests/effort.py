"""How hard the tests search: script/test says, by TEST_EFFORT=quick, usual or all.

Each search for counterexamples names the examples that it should try before a release. While
somebody waits for the answer a part of them is enough: every run tries others.
"""

import os

SANITIZED = "TEST_SANITIZED" in os.environ
"""Under sanitizers, which are ten times slower. `script/sanitize search` tries more there."""

PARTS = {"quick": 0.1, "usual": 0.35, "all": 1.0}
"""The part of the examples, by what is asked for."""

PART = min(PARTS[os.environ.get("TEST_EFFORT", "usual")], 0.2 if SANITIZED else 1.0)


def examples(thorough: int) -> int:
    """Return how many examples to try now, of `thorough` before a release."""
    return max(10, round(thorough * PART))
