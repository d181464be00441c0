#!/usr/bin/env python3
"""Write docs/settings.md: the settings of the server, and the keys of a file of sites.

.venv/bin/python script/settings.py            write it
.venv/bin/python script/settings.py --check    exit 1 if the page differs from the code
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
DOCUMENT = CHECKOUT / "docs" / "settings.md"
sys.path.insert(0, str(CHECKOUT))

from script import generated  # noqa: E402
from sdactivate.generate import options  # noqa: E402
from sdactivate.generate.build import ALL, known_options  # noqa: E402
from sdactivate.generate.kinds import KINDS  # noqa: E402
from sdactivate.generate.options import Option  # noqa: E402
from sdactivate.settings import BY_NAME, NOT_SETTINGS, TABLE, Setting, seconds, size, yes_or_no  # noqa: E402

EXAMPLE = BY_NAME["header_timeout"]

HEAD = f"""\
# Settings

Each setting of the server, and each key of a file of sites. `script/settings.py` makes this page
from the tables that the program reads; `sdactivate serve --help-all` and `sdactivate gen
--help-all` print the same.

## Where a setting is given

A setting has one name. The later of these places wins:

| place | how | for |
| --- | --- | --- |
| code | `sdactivate.serve(application, {EXAMPLE.name}="10s")` | the application's own default |
| command line | `sdactivate serve {EXAMPLE.option} 10s mysite.wsgi:application` | your own unit |
| environment | `{EXAMPLE.variable}=10s` | the operator's word |

`sdactivate gen` and `install` take the same options. They write `{EXAMPLE.option} 10s`, or
`{EXAMPLE.option[2:]} = "10s"` in a [file of sites](#keys-of-a-file-of-sites), into the service unit
as `Environment={EXAMPLE.variable}=10s`.

A name that is no setting and a value that can't be read are usage errors: the process exits with 2
before it serves. So is a misspelt variable that begins with `SDACTIVATE_`.

Not every server has every setting: [servers](servers.md).

"""

SITES = """\
## Keys of a file of sites

`sdactivate gen --from FILE` and `sdactivate install NAME --from FILE` read TOML, or JSON with the
same tables. Each key is an option of `gen` and `install` by its long name, without the dashes. It
may stand in two tables:

| table | what it describes |
| --- | --- |
| `[defaults]` | every site of the file |
| `[sites.NAME]` | one site; it outranks the defaults |

In a pyproject.toml they are `[tool.sdactivate.defaults]` and `[tool.sdactivate.sites.NAME]`. The
command line outranks the file.

Every setting above is a key as well:

```toml
[sites.mysite]
app = "mysite.wsgi:application"
threads = 4
header-timeout = "10s"
body-bytes = "10M"
access-log = true
trust = ["10.0.0.4", "10.0.0.5"]
```

The others, by topic:

"""
WORKER = """\
### Background workers

Each has a table `[sites.NAME.worker.WORKER]` of its own, or one line of `[sites.NAME.worker]`:
`mail = "celery -A mysite worker"`.

"""
VARIABLES = """\
## Other variables

They begin with `SDACTIVATE_`, and are no settings. `SDACTIVATE_BUILD_ACCEL` is read where
sdactivate is [built](server.md#the-compiled-hot-path).

"""
FORMS = {"seconds": seconds, "bytes": size, "yes or no": yes_or_no}
"""Forms of values that many settings share: their names, and the functions that read them."""

TYPES = {str: "text", int: "a number", float: "a number", bool: "true or false"}


def cell(text: str) -> str:
    """Return `text` as a cell of a table, with the page of docs/ that it names as a link."""
    return text.replace("|", "\\|").replace("docs/servers.md", "[servers](servers.md)")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def default(setting: Setting) -> str:
    """Return the default of a setting, as a user would write it."""
    value: Any = setting.default
    if isinstance(value, bool):
        return "`yes`" if value else "`no`"
    if value in ("", ()):
        return "none"
    if setting.unit == "bytes":
        for letter, power in (("M", 20), ("K", 10)):
            if value and value % (1 << power) == 0:
                return f"`{value >> power}{letter}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def allowed(setting: Setting) -> str:
    """Return the allowed values of a setting: its choices, their form, or how they are read."""
    if setting.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in setting.choices)
    for form, read in FORMS.items():
        if setting.read is read:
            return f"[{form}](#how-values-are-written)"
    return said(setting.read)


def said(read: Callable[..., Any]) -> str:
    """Return the form of values that a reader's docstring names."""
    text = (read.__doc__ or "").strip().rstrip(".")
    return cell(text[:1].lower() + text[1:])


def settings() -> str:
    """Return the table of the settings."""
    return table(
        ("setting", "value", "default", "what it does"),
        (
            (
                f"`{row.name}`<br>`{row.option}`<br>`{row.variable}`",
                allowed(row),
                default(row),
                cell(row.help),
            )
            for row in TABLE
        ),
    )


def value(option: Option) -> str:
    """Return the values that a file may give an option."""
    if option.rows:
        return "tables: [background workers](#background-workers)"
    if option.flag:
        return "true or false"
    types = " or ".join(dict.fromkeys(TYPES[one] for one in option.types))
    said = f"{types}: `{option.metavar}`" if option.metavar else types
    if option.optional:
        return f"true, or {said}"
    return f"{said}; or a list of them" if option.many or option.words else said


def keys(rows: Iterable[Option]) -> str:
    """Return the table of the keys of a file of sites."""
    return table(
        ("key", "value", "what it says"),
        ((f"`{row.name}`", cell(value(row)), cell(row.help)) for row in rows),
    )


def topics() -> Iterator[str]:
    """Yield a table of keys for each topic, without the settings of the server."""
    rows = [row for row in known_options().values() if row.field not in BY_NAME]
    kinds = ", ".join(f"`{kind}`" for kind in (*KINDS, ALL))
    yield table(
        ("key", "value", "what it says"),
        [
            (
                "`kind`",
                "text; or a list of them",
                f"what is written for it (default: every file that its options call for): {kinds}",
            )
        ],
    )
    yield "\n"
    for topic in dict.fromkeys(row.topic for row in rows):
        yield f"### {topic[0].upper()}{topic[1:]}\n\n"
        yield keys(row for row in rows if row.topic == topic) + "\n"


def whole() -> str:
    """Return the page."""
    lines = [HEAD, "## The settings\n\n", settings(), "\n## How values are written\n\n"]
    lines.append(table(("value", "is"), ((it, said(read)) for it, read in FORMS.items())))
    lines += ["\n", VARIABLES]
    lines.append(
        table(
            ("variable", "value", "what it does"),
            (
                (
                    f"`{name}`",
                    " or ".join(f"`{it}`" for it in row.choices) or "text",
                    cell(row.help),
                )
                for name, row in NOT_SETTINGS.items()
            ),
        )
    )
    lines += ["\n", SITES, *topics(), WORKER, keys(options.WORKER.rows)]
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(generated.main(DOCUMENT, whole()))
