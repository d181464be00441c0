"""What the build makes: the compiled hot path, completions and manual pages.

The extension module is compiled with setuptools' own build_ext, as an optional extension is in a
project that setuptools builds: the compiler, CC, CFLAGS and cross-compiling are as everywhere.
Where there is no compiler, or no headers of Python, the build goes on without, and says so; the
wheel is then one for every platform. SDACTIVATE_BUILD_ACCEL=0 leaves it out (a pure wheel, made
anywhere), =1 insists on it.

The completions and manual pages come from the command's own parser. shtab writes the completions.
A manual page has a verb's help in the form of man-pages(7): what it does, its options by topic, its
examples as they stand.
"""

import argparse
import os
import shutil
import sys
import sysconfig
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


EXTENSION = "sdactivate.servers.native._accel"
SOURCE = "sdactivate/servers/native/_accel.c"
VARIABLE = "SDACTIVATE_BUILD_ACCEL"
# No undefined behaviour of signed numbers, warnings shown; what CFLAGS says comes behind them
FLAGS = ["-std=c11", "-O2", "-fwrapv", "-Wall", "-Wextra", "-Wno-unused-parameter"]


class BuildHook(BuildHookInterface[Any]):
    """Adds what is made to the wheel: pip puts the shared files below the environment's share/."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the files into the build directory and name them to hatchling."""
        if self.target_name != "wheel":
            return
        self._compile(version == "editable", build_data)
        if version == "editable":
            return
        made = Path(self.directory, "shared")
        made.mkdir(parents=True, exist_ok=True)
        for place, text in shared_files().items():
            path = made / place.rpartition("/")[2]
            path.write_text(text)
            build_data["shared_data"][str(path)] = place

    def _compile(self, in_place: bool, build_data: dict[str, Any]) -> None:
        """Compile the extension: into the wheel, or beside its source for an editable one."""
        wanted = os.environ.get(VARIABLE, "auto")
        if wanted not in ("0", "1", "auto"):
            raise ValueError(f"{VARIABLE}: {wanted!r} is not 0, 1 or auto")
        name = EXTENSION.rpartition(".")[2] + sysconfig.get_config_var("EXT_SUFFIX")
        place = ROOT / Path(SOURCE).with_name(name)
        if in_place:
            place.unlink(missing_ok=True)
        if wanted == "0":
            return
        try:
            built = compiled(Path(self.directory, "accel"))
        except Exception as error:
            if wanted == "1":
                raise
            self.app.display_warning(
                f"{EXTENSION} can't be compiled ({error}): sdactivate is installed without it, and "
                "the native server runs in pure Python. A C compiler and Python's headers (apt: "
                "gcc python3-dev) make it faster"
            )
            return
        if in_place:
            shutil.copyfile(built, place)
        else:
            build_data["force_include"][str(built)] = str(place.relative_to(ROOT))
            build_data["pure_python"] = False
            build_data["infer_tag"] = True


def compiled(directory: Path) -> Path:
    """Compile the extension below `directory`; return the file. Raises what setuptools raises."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    extension = Extension(EXTENSION, [SOURCE], extra_compile_args=FLAGS)
    command = build_ext(Distribution({"name": "sdactivate", "ext_modules": [extension]}))
    command.build_lib = command.build_temp = str(directory)
    command.force = True
    command.ensure_finalized()
    before = os.getcwd()
    os.chdir(ROOT)  # paths of sources are relative to it
    try:
        command.run()
    finally:
        os.chdir(before)
    return Path(before, command.get_ext_fullpath(EXTENSION))


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
