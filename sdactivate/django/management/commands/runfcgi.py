"""manage.py runfcgi: Django 1.8's command, on this runtime."""

import os
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.core.management import call_command
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)

from sdactivate.django import runfcgi
from sdactivate.errors import Error, UsageError
from sdactivate.launch import launch


class _Lines(DjangoHelpFormatter, RawDescriptionHelpFormatter):  # type: ignore[misc]
    """Keeps the line breaks of the help: one option a line."""


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    help = (
        "Serves this site as `runfcgi` did until Django 1.8. Options, each KEY=VALUE:\n"
        + "".join(f"  {name}: {option.help}\n" for name, option in runfcgi.OPTIONS.items())
    )
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("words", nargs="*", metavar="KEY=VALUE")

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=_Lines, **kwargs)

    def handle(self, *args: Any, **options: Any) -> None:
        if "help" in options["words"]:  # the old runfcgi accepted `help` as a word, too
            self.print_help(os.path.basename(sys.argv[0]), "runfcgi")
            return
        try:
            self._run(runfcgi.understand(options["words"]))
        except Error as error:
            raise CommandError(str(error), returncode=error.exit_code) from error
        except OSError as error:
            raise CommandError(str(error)) from error

    def _run(self, meaning: runfcgi.Meaning) -> None:
        if not meaning.listen:
            self._warn("as a child of a web server, `manage.py serve` serves standard input, too")
            os.environ.update(runfcgi.variables(meaning))
            runfcgi.write_number(meaning.pidfile)
            call_command("serve")
            return
        if os.geteuid() == 0 and not meaning.run_as:
            raise UsageError(
                "run-as=USER is missing: this was started as root, and the site must not run as "
                "root"
            )
        command = manage("serve")
        self._warn(
            f"the equivalent command, without systemd:\n  {runfcgi.modern(meaning, command)}"
        )
        # `python -m django` found the site in this directory, before workdir= changes it
        path = [os.path.abspath(sys.path[0]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environ = {"PYTHONPATH": os.pathsep.join(path)}
        plan = runfcgi.plan(meaning, command, environ)
        if meaning.daemonize:
            runfcgi.in_background(meaning.logs, lambda fd: launch(replace(plan, hold=[fd])))
        else:
            launch(plan)

    def _warn(self, text: str) -> None:
        self.stderr.write(
            self.style.WARNING(
                "runfcgi is kept for old scripts. With systemd: `sdactivate gen NAME` writes the "
                f"units; {text}"
            )
        )


def manage(*words: str) -> Sequence[str]:
    """The command line of another management command of this site, with this interpreter."""
    program = os.path.abspath(sys.argv[0])
    if os.path.basename(program) == "__main__.py":  # python -m django
        return [sys.executable, "-m", "django", *words]
    return [sys.executable, program, *words]
