"""The command `sdactivate`: its verbs, usage errors and exit codes.

Each verb is a module with

    SUMMARY: str                         one line for `sdactivate --help`
    EXAMPLES: str                        shown under the verb's own help
    USAGE: str                           its usage line, if it has too many options to list each
    BRIEF: dict[str, str]                the options that `--help` shows, with a line for
                                         each, if all fill more than a screen (`cli.help`)
    add_arguments(parser) -> None        adds its options
    run(args) -> int                     does the work and returns the exit code

A verb raises `sdactivate.Error` with the message for the user. Results go to standard output,
messages to standard error. Exit codes: 0 done; 1 failed, or found something wrong; 2 usage error.
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sdactivate.cli import help
from sdactivate.errors import Error, said
from sdactivate.suggest import meant
from sdactivate.terminal import tell

# In the order of `sdactivate --help`: install, serve, day-to-day work, diagnosis.
VERBS = (
    "gen",
    "install",
    "uninstall",
    "compile",
    "generator",
    "serve",
    "reload",
    "launch",
    "run",
    "release",
    "rollback",
    "releases",
    "status",
    "explain",
    "who",
    "doctor",
    # One per line, so that two branches that each add a verb merge without a conflict.
)


def _verb(name: str) -> Any:
    return import_module(f"sdactivate.cli.{name}")


class _Compact(argparse.HelpFormatter):
    """Prints each verb and its summary on one line, so that the help fits a screen."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=15, width=79)
        self._action_max_length = 13  # argparse doesn't count the verbs' second indent


class _Parser(argparse.ArgumentParser):
    """An argument parser with the verb's usage and the nearest known word in its error messages.

    It keeps the value of --option=-- and a -- inside a command, both of which argparse drops before
    Python 3.13. Help that can't be printed is an error, which newer versions of argparse ignore.
    """

    verbs: "dict[str, _Parser]"
    words: list[str]
    """The arguments that are being parsed."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.words = list(args or ())
        return super().parse_known_args(args, namespace)

    def parse_args(  # type: ignore[override]  # its overloads are of a namespace that we don't pass
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        found: argparse.Namespace
        found, unknown = self.parse_known_args(args)
        if unknown:
            verb = self.verbs.get(getattr(found, "verb", ""), self)
            word = unknown[0].partition("=")[0]
            if word.startswith("-"):
                known = verb._option_string_actions
                options = [each for each in known if each[:2] == "--" and each != "--help"]
                full = help.ALL if help.ALL in options else "--help"
                verb.error(
                    f"{word}: there is no such option; {meant(word, options, f'see {full}')}"
                )
            verb.error(f"{word!r}: unexpected argument; see --help")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            raise argparse.ArgumentError(
                action, f"{str(value)!r} is not one of its values; {meant(str(value), choices)}"
            )

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if arg_strings == ["--"] and action.option_strings and action.nargs is None:
            return self._get_value(action, "--")
        if action.nargs == "+" and "--" in arg_strings[1:]:
            # Only a leading -- ends the options; any other belongs to the command. (argparse
            # removes the first one it finds, and the leading one may have been taken with NAME.)
            words = arg_strings[arg_strings[0] == "--" :]
            return [self._get_value(action, word) for word in words]
        return super()._get_values(action, arg_strings)


class _Version(argparse.Action):
    """Prints the version; with --verbose, what else a bug report needs (`sdactivate.cli.about`)."""

    def __call__(self, parser: argparse.ArgumentParser, *ignored: Any) -> None:
        from sdactivate.cli import about

        assert isinstance(parser, _Parser)
        for line in about.lines() if "--verbose" in parser.words else (about.version(),):
            print(line)
        parser.exit()


class _Verbose(argparse.Action):
    """--verbose: an error unless --version came with it, which has printed and exited by then."""

    def __call__(self, parser: argparse.ArgumentParser, *ignored: Any) -> None:
        assert isinstance(parser, _Parser)
        if "--version" not in parser.words:
            parser.error("--verbose goes with --version only")


def parser(verbs: Sequence[str] = VERBS) -> "_Parser":
    """Return the command's parser, with the options of `verbs` only (default: all)."""
    top = _Parser(
        prog="sdactivate",
        usage="sdactivate [-h] [--version [--verbose]] VERB ...",
        add_help=False,
        description="systemd socket activation for Python web applications.",
        epilog="`sdactivate VERB --help` shows a verb's options and examples.",
        formatter_class=_Compact,
    )
    # The usage line names these options; listed too, the verbs would not fit a screen.
    hidden = argparse.SUPPRESS
    top.add_argument("-h", "--help", action="help", help=hidden)
    top.add_argument("--version", action=_Version, nargs=0, help=hidden)
    top.add_argument("--verbose", action=_Verbose, nargs=0, help=hidden)
    subparsers = top.add_subparsers(prog="sdactivate", dest="verb", metavar="VERB", required=True)
    top.verbs = subparsers.choices
    for name in verbs:
        module = _verb(name)
        sub = subparsers.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY[0].upper() + module.SUMMARY[1:] + ".",
            epilog=module.EXAMPLES,
            usage=getattr(module, "USAGE", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=not hasattr(module, "BRIEF"),
        )
        if hasattr(module, "BRIEF"):
            help.add(sub, module)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def _drop_output() -> None:
    """Redirect unwritten output to /dev/null, or Python reports the same error again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's own) and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    verb = argv[0] if argv and argv[0] in VERBS else ""
    name = f"sdactivate {verb}".rstrip()
    for stream in ("stdout", "stderr"):
        # A stream that was closed (>&-) is None in Python; print would then use sys.stdout.
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
    try:
        try:
            if not argv:
                parser().print_help(sys.stderr)
                return 2
            args = parser([verb] if verb else VERBS).parse_args(argv)
        except SystemExit as leaving:  # argparse has printed the help (0) or the error (2)
            sys.stdout.flush()
            return leaving.code if isinstance(leaving.code, int) else 2
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except Error as error:
        tell(f"{name}: {error}")
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has closed it: there is nobody to print a message to.
        _drop_output()
        return 1
    except OSError as error:
        tell(f"{name}: {said(error)}")
        _drop_output()  # in case it was the output that can't be written
        return 1
    except KeyboardInterrupt:
        return 130


def entry(argv: Sequence[str] | None = None) -> int:
    """Run `main` as the program of this process, and make its exit fast."""
    argv = sys.argv[1:] if argv is None else argv
    code = main(argv)
    if argv[:1] != ["serve"]:  # the application may rely on garbage collection at exit
        # At exit Python searches all imported objects for garbage: a fifth of `gen`'s time.
        gc.freeze()
    return code
