"""The wheel's completions and manual pages, made from the command's own parser as it is built.

shtab writes the completions. A manual page has a verb's help in the form of man-pages(7): what
it does, its options by topic, its examples as they stand.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent

COMPLETIONS = {
    "bash": "share/bash-completion/completions/sdactivate",
    "zsh": "share/zsh/site-functions/_sdactivate",
    "fish": "share/fish/vendor_completions.d/sdactivate.fish",
}


class SharedFiles(BuildHookInterface[Any]):
    """Adds the files to the wheel: pip puts them below the environment's share/."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the files into the build directory and name them to hatchling."""
        if self.target_name != "wheel" or version == "editable":
            return
        made = Path(self.directory, "shared")
        made.mkdir(parents=True, exist_ok=True)
        for place, text in shared_files().items():
            path = made / place.rpartition("/")[2]
            path.write_text(text)
            build_data["shared_data"][str(path)] = place


def shared_files() -> dict[str, str]:
    """Return the text of each file by its place below the environment."""
    sys.path.insert(0, str(ROOT))
    # The parser wraps its usage lines to the terminal: the same wherever it is built.
    os.environ["COLUMNS"] = "80"
    import shtab

    from sdactivate import __version__, cli

    top = cli.parser()
    files = {place: shtab.complete(top, shell=shell) for shell, place in COMPLETIONS.items()}
    (verbs,) = (
        action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction)
    )
    pages = {
        "sdactivate": page(top, "systemd socket activation for Python web applications"),
        **{f"sdactivate-{verb}": page(sub, sub.description or "") for verb, sub in verbs.items()},
    }
    title = f'"1" "" "sdactivate {__version__}" "User Commands"'
    for name, text in pages.items():
        files[f"share/man/man1/{name}.1"] = f'.TH "{name.upper()}" {title}\n{text}'
    return files


def page(parser: argparse.ArgumentParser, summary: str) -> str:
    """Return the manual page of `parser`, without its title line, in roff: groff_man(7)."""
    return "\n".join(_page(parser, summary)) + "\n"


def _page(parser: argparse.ArgumentParser, summary: str) -> Iterator[str]:
    name = parser.prog.replace(" ", "-")
    yield from (".SH NAME", f"{_roff(name)} \\- {_roff(summary.rstrip('.'))}")
    yield from (
        ".SH SYNOPSIS",
        ".nf",
        _roff(parser.format_usage().removeprefix("usage: ").rstrip()),
    )
    yield ".fi"
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help is not argparse.SUPPRESS]
        if actions:
            yield f".SH {_roff((group.title or 'options').upper())}"
        for action in actions:
            yield from _action(parser, action)
    if parser.epilog:
        yield from (".SH NOTES", ".nf", _roff(parser.epilog.rstrip()), ".fi")
    others = "" if name == "sdactivate" else ".BR sdactivate (1),\n"
    yield from (".SH SEE ALSO", f"{others}.BR systemd.socket (5)")


def _action(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    if isinstance(action, argparse._SubParsersAction):
        for choice in action._choices_actions:
            yield from (".TP", rf".BR sdactivate\-{choice.dest} (1)", _roff(choice.help or ""))
        return
    value = (
        "" if action.nargs == 0 else parser._get_formatter()._metavar_formatter(action, "")(1)[0]
    )
    names = ", ".join(rf"\fB{_roff(option)}\fR" for option in action.option_strings)
    said = (action.help or "") % {**vars(action), "prog": parser.prog}
    yield from (".TP", " ".join(filter(None, [names, _roff(value)])), _roff(said))


def _roff(text: str) -> str:
    """The text as roff takes it: no escape, no request at the beginning of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\n".join(
        rf"\&{line}" if line.startswith((".", "'")) else line for line in text.split("\n")
    )
