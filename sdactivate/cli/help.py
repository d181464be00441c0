"""Help for verbs with many options: `--help` shows the usual ones, `--help-all` all.

BRIEF in the verb's module lists the options that `--help` shows, with a line for each, in that
order. If the command line narrows the options down (`gen --kind nginx --help`), `--help` shows all
that remain, by topic, as `--help-all` does; the module's `narrowed` returns them.
"""

import argparse
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

ALL = "--help-all"


class Narrowed(NamedTuple):
    """The options of a verb that apply to what is typed on the command line."""

    title: str
    """What the options are for, such as "nginx's configuration"."""
    names: Collection[str]
    """The options, by the name of their value: "server_name" for --server-name."""


def add(parser: argparse.ArgumentParser, module: Any) -> None:
    """Add -h, --help and --help-all to `parser`; `module` is the verb's and has BRIEF."""
    parser.add_argument("-h", "--help", action=_Help, module=module, help="show this help")
    parser.add_argument(ALL, action="help", help="show all options, by topic")


class _Help(argparse.Action):
    """Prints the short help, or the help of the options that apply to what is typed."""

    def __init__(self, module: Any, **settings: Any) -> None:
        super().__init__(nargs=0, **settings)
        self._module = module

    def __call__(self, parser: Any, *ignored: Any) -> None:
        narrowed = getattr(self._module, "narrowed", None)
        if narrowed and (found := narrowed(parser.words)):
            sys.stdout.write(_narrowed(parser, found))
        else:
            sys.stdout.write(_brief(parser, self._module.BRIEF))
        parser.exit()


def _brief(parser: argparse.ArgumentParser, lines: Mapping[str, str]) -> str:
    """Return the short help: the options in `lines`, each with its line."""
    known = {action.dest: action for action in parser._actions if action.dest in lines}
    for name, line in lines.items():
        known[name].help = line
    text = _formatter(parser, max_help_position=28)
    text.add_usage(parser.usage, parser._actions, [])
    text.add_text(parser.description)
    text.start_section("what most sites need")
    text.add_arguments([known[name] for name in lines])
    text.end_section()
    text.add_text(parser.epilog)
    return text.format_help()


def _narrowed(parser: argparse.ArgumentParser, wanted: Narrowed) -> str:
    """Return the help of the options that apply, by topic."""
    text = _formatter(parser)
    text.add_usage(parser.usage, parser._actions, [])
    text.add_text(wanted.title)
    for title, actions in _topics(parser):
        text.start_section(title)
        text.add_arguments([action for action in actions if action.dest in wanted.names])
        text.end_section()
    return text.format_help()


def _formatter(parser: argparse.ArgumentParser, **settings: int) -> argparse.HelpFormatter:
    made: Any = parser.formatter_class
    formatter: argparse.HelpFormatter = made(parser.prog, **settings)
    return formatter


def _topics(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    for group in parser._action_groups:
        yield group.title or "", group._group_actions
