"""A value is the same string to every reader of YAML."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.generate import yaml_text
from sdactivate.systemd.escape import printable

WORDS = ("yes", "NO", "off", "~", "null", "1e3", "0o17", "12:30:45", "-", "# x", "a: b", "{", "")
TEXTS = st.text(st.sampled_from("ab$(){}[]:#'\"\\ \t-.é☃😀") | st.characters(codec="utf-8"))


def can_be(text: str) -> bool:
    try:
        printable(text)
    except UsageError:
        return False
    return True


@given(TEXTS | st.sampled_from(WORDS))
def test_a_scalar_is_read_as_that_string(text: str) -> None:
    if not can_be(text):
        with pytest.raises(UsageError):
            yaml_text.yaml(text)
        return
    assert yaml.safe_load(f"a: {yaml_text.yaml(text)}") == {"a": text}
    assert yaml.safe_load(f"- {{a: {yaml_text.yaml(text)}, b: 1}}") == [{"a": text, "b": 1}]


@given(st.lists(TEXTS.filter(can_be)))
def test_a_list_is_read_as_those_strings(texts: list[str]) -> None:
    assert yaml.safe_load(f"a: {yaml_text.yaml_list(texts)}") == {"a": texts}


@pytest.mark.parametrize(
    ("limit", "quantity"), [("512M", "512Mi"), ("2G", "2Gi"), ("4096", "4096"), ("1T", "1Ti")]
)
def test_an_amount_of_memory(limit: str, quantity: str) -> None:
    assert yaml_text.quantity(limit) == quantity
