"""Which of systemd's lines say why a unit failed."""

import os

from sdactivate.systemd.journal import matches_of, that_matter


def test_what_systemd_ignores_itself_is_left_out() -> None:
    why = "a.service: Failed at step USER spawning /bin/a: No such process"
    noise = "a.service: Failed to read pids.max for control group /a, ignoring: No data available"
    said = "the application says: bad line, ignoring the rest"
    assert that_matter([why, noise, said]) == [why, said]


def test_the_matches_of_units() -> None:
    """For one unit and several, of the system and of a user: systemd.journal-fields(7)."""
    a, b = (
        ("_SYSTEMD_UNIT=a", "+", "UNIT=a", "_UID=0"),
        ("_SYSTEMD_UNIT=b", "+", "UNIT=b", "_UID=0"),
    )
    assert matches_of(["a"]) == [*a]
    assert matches_of(["a", "b"]) == [*a, "+", *b]
    by = f"_UID={os.getuid()}"
    own = matches_of(["a"], own=True)
    assert own == ["_SYSTEMD_USER_UNIT=a", by, "+", "USER_UNIT=a", by]
