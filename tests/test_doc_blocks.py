"""Every shell block of README.md and docs/ is run by a test, or says why not."""

import re

import pytest

from tests.doc_blocks import CHECKOUT, DOCS, README, RUN_BY, of_text, pages, shell
from tests.machine.test_docs import PAGES


@pytest.mark.parametrize("page", pages())
def test_every_shell_block_is_run_or_says_why_not(page: str) -> None:
    silent = [f"{page}:{block.line}" for block in shell(page) if not block.run_by]
    assert not silent, (
        "name the test in tests/doc_blocks.py, or write <!-- not run: reason --> in the line above"
    )


def test_the_tests_that_run_them_are_there() -> None:
    for test in {*RUN_BY.values(), *README.values()}:
        assert test.startswith("not run: ") or (CHECKOUT / test).is_file(), test


def test_the_tests_that_marks_name_are_there() -> None:
    marks = [block.mark for page in pages() for block in shell(page)]
    named = {name for mark in marks for name in re.findall(r"(?:tests|docs)/[\w/.-]*\w", mark)}
    assert [name for name in named if not (CHECKOUT / name).exists()] == []


def test_no_page_is_named_without_a_block_to_run() -> None:
    run = {block.run_by for page in pages() for block in shell(page)}
    assert set(RUN_BY.values()) <= run
    for name in RUN_BY:
        page, _, heading = name.partition("#")
        found = [it for it in shell(page) if it.run_by == RUN_BY[name]]
        assert [it for it in found if heading in ("", it.heading)], name


def test_each_page_of_the_machine_s_test_is_run_there() -> None:
    assert set(PAGES) == {page for page, test in RUN_BY.items() if test == DOCS}


PAGE = """\
# One

    sdactivate who mysite

```sh
cd /
```

## Two

<!-- not run: it prints -->
```
$ ls \\
    /run
mysite.sock
```

    sdactivate serve: no socket was passed

    NAME = "value"

- an item
    goes on here

```python
systemctl = 1
```
"""


def test_a_block_is_the_shell_s_by_its_fence_its_prompt_or_its_command() -> None:
    found = list(of_text("docs/page.md", PAGE))
    assert [(it.line, it.language) for it in found if it.is_shell] == [
        (3, "indented"),
        (5, "sh"),
        (12, ""),
    ]
    assert len(found) == 5


def test_what_stands_behind_a_prompt_is_typed_and_the_rest_is_printed() -> None:
    (block,) = [it for it in of_text("docs/page.md", PAGE) if it.heading == "Two" and it.is_shell]
    assert (block.commands, block.printed) == ("ls \\\n    /run\n", ["mysite.sock"])
    assert block.run_by == "not run: it prints"
