"""Steps are undone in reverse order, and what could not be undone is not called undone."""

import pytest

from sdactivate.errors import Error
from sdactivate.install.transaction import Step, carry_out


def test_undone_in_reverse_and_the_failed_step_too() -> None:
    log: list[str] = []

    def fail() -> None:
        raise Error("no room")

    steps = [
        Step("one", lambda: log.append("one"), lambda: log.append("back one")),
        Step("two", fail, lambda: log.append("back two")),
        Step("three", lambda: log.append("three"), lambda: log.append("back three")),
    ]
    with pytest.raises(Error, match=r"^two: no room; all changes were undone$"):
        carry_out(steps, log.append)
    assert log == ["one", "one", "two", "back two", "back one"]


def test_an_interruption_undoes_and_says_so() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        carry_out([Step("one", interrupt, lambda: said.append("back one"))], said.append)
    assert said == ["one", "back one", "one: interrupted; all changes were undone"]


def test_what_could_not_be_undone_is_told() -> None:
    said: list[str] = []
    log: list[str] = []

    def fail() -> None:
        raise OSError("stuck")

    steps = [
        Step("one", lambda: None, lambda: log.append("back one")),
        Step("two", fail, fail),
    ]
    with pytest.raises(Error, match=r"^two: stuck; not all changes could be undone: "):
        carry_out(steps, said.append)
    assert said == ["one", "two", "could not undo 'two': stuck"]
    assert log == ["back one"]
