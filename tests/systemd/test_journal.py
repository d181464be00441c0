"""Which of systemd's lines say why a unit failed."""

from sdactivate.systemd.journal import that_matter


def test_what_systemd_ignores_itself_is_left_out() -> None:
    why = "a.service: Failed at step USER spawning /bin/a: No such process"
    noise = "a.service: Failed to read pids.max for control group /a, ignoring: No data available"
    said = "the application says: bad line, ignoring the rest"
    assert that_matter([why, noise, said]) == [why, said]
