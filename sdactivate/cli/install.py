"""sdactivate install: write a site's units, start them, and test who can connect."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sdactivate.cli import gen
from sdactivate.errors import Error, UsageError
from sdactivate.terminal import show, tell

SUMMARY = "install a site's units, start them, test who can connect"

USAGE = """\
sdactivate install NAME [options of a site] [--from FILE] [--dry-run]
                          [--force] [--units-only] [--root DIR | --user-manager]"""

EXAMPLES = """\
examples:
  sudo sdactivate install mysite --group www-data --app mysite.wsgi:application \\
      --chdir /srv/mysite
  sudo sdactivate install mysite --front nginx --server-name example.org \\
      --app mysite.wsgi:application --chdir /srv/mysite         behind nginx
  sudo sdactivate install mysite --from sites.toml --dry-run    what would change
  sdactivate install mysite --from sites.toml --root image      into an image
"""

BRIEF = {
    "name": "the site's name, which its units are named after",
    "sites": "read the site from a TOML file, such as sites.toml",
    "dry_run": "print what would change as a diff; change nothing",
    "force": "overwrite files changed or not written by sdactivate",
    "units_only": "leave the front's configuration as it is",
    **gen.SITE,
    "help_all": "show all options, by topic",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate install`: its own and those of a site."""
    parser.add_argument(
        "name", metavar="NAME", help="the site's name, which its units are named after"
    )
    parser.add_argument(
        "--from", dest="sites", metavar="FILE", help="read the site from a TOML or JSON file"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would change as a diff; change nothing"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="overwrite files that were changed, or that sdactivate did not write",
    )
    parser.add_argument(
        "--units-only",
        action="store_true",
        help="with --front: leave the front's configuration as it is; you maintain it yourself",
    )
    parser.add_argument(
        "--no-start",
        dest="start",
        action="store_false",
        help="do not start a stopped service: the first connection starts it, for example after "
        "you have migrated the database",
    )
    add_root(parser, "root directory of an image: write and enable the units in it, start nothing")
    gen.add_target(parser)
    gen.add_options(parser)


def add_root(parser: argparse.ArgumentParser, help: str) -> None:
    """Add --root, the root directory of an image."""
    parser.add_argument("--root", metavar="DIR", type=Path, default=Path("/"), help=help)


def say(message: str) -> None:
    """Print what is being done, on standard error."""
    tell(f"sdactivate: {message}")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(number: int, frame: object) -> None:
    """Raise KeyboardInterrupt, so that the finished steps are undone.

    A second signal interrupts neither the undoing nor the commands that it runs: they inherit the
    ignored signals.
    """
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


def run(args: argparse.Namespace) -> int:
    """Install the site; if a step fails, undo the steps before it."""
    from sdactivate.generate import options
    from sdactivate.generate.build import ALL, chosen, make
    from sdactivate.install.image import refuse_missing
    from sdactivate.install.install import Installation
    from sdactivate.install.manager import Manager
    from sdactivate.install.transaction import Step, carry_out

    args.kind = None if args.sites else "all"
    (asked,) = gen.sites(args)
    if "app" not in asked.given:
        raise UsageError(
            "--app is missing: name the application, such as --app mysite.wsgi:application"
        )
    given: dict[str, Any] = {"python": sys.executable, **asked.given}
    site = options.site(asked.name, given)
    kinds = chosen(asked.kinds or (ALL,), given)
    installed = [row for row in kinds if row.units or (row.folder and not args.user_manager)]
    if not any(row.units for row in installed):
        named = ", ".join(row.name for row in kinds)
        raise UsageError(
            f"kind {named}: it has no units to install; `sdactivate gen` writes its files"
        )
    refuse_missing(args.root)
    manager = Manager(args.root.resolve(), args.user_manager)
    target = gen.target(args)
    target.at = None if manager.runs else manager.at
    target.placing = True
    front = None if args.units_only or args.user_manager else front_of(kinds, given)
    output = make(site, [*installed, front] if front else installed, given, target)
    files, placed = list(output.files), None
    if front:
        placed = place(site.name, given), files.pop()
    warnings = list(dict.fromkeys(output.warnings))
    if manager.runs and not manager.own:
        refuse_missing_accounts(warnings)
    for warning in warnings:
        say(f"warning: {warning}")
    if args.dry_run:
        installation = Installation(manager, site, files, args.force, say, placed, args.units_only)
        for loss in installation.losses():
            say(loss)
        sys.stdout.writelines(installation.diff())
        return 0
    manager.require_root()
    for number in SIGNALS:
        signal.signal(number, interrupt)
    table: list[str] = []
    with manager.alone(say):
        installation = Installation(manager, site, files, args.force, say, placed, args.units_only)
        for loss in installation.losses():
            say(loss)
        steps = list(installation.steps(args.start))
        started = any(kind.name == "service" for kind in installed)
        if manager.runs and not manager.own and started and has_manage(site):
            name = "manage.py check, as the site and in its sandbox"
            steps.append(Step(name, lambda: check(site.name), lambda: None))
        # Testing as other users needs root, and a template has no socket of its own.
        made = any(kind.name == "socket" for kind in installed)
        if manager.runs and site.path and not manager.own and made:
            name = "test who can connect"
            steps.append(Step(name, lambda: table.append(prove(site)), lambda: None))
        # The front comes last: by now the site answers what it passes on.
        carry_out([*steps, *installation.front_steps()], say)
    show("".join(table), end="")
    return 0


def refuse_missing_accounts(warnings: list[str]) -> None:
    """Raise Error if `warnings` name a user or group without which the units can't start."""
    from sdactivate.generate.output import MissingAccount

    missing = [warning for warning in warnings if isinstance(warning, MissingAccount)]
    if missing:
        raise Error(
            f"{'; '.join(missing)}. Nothing was changed. Correct the name, or create the account "
            f"first: `{missing[0].command}`"
        )


def front_of(kinds: Any, given: dict[str, Any]) -> Any:
    """Return the kind that configures the front of --front; None without that option."""
    named = given["front"].name if "front" in given else ""
    return next((kind for kind in kinds if kind.name == named), None)


def place(name: str, given: dict[str, Any]) -> Any:
    """Return where the front in `given` reads the file of the site `name`.

    Raises UsageError if no distribution packages that front.
    """
    from sdactivate import fronts
    from sdactivate.install.front import Place

    front = given["front"]
    if not front.packaging:
        raise UsageError(
            f"--front {front.name}: no distribution packages {front.title}, so the directory for "
            "its file is unknown: give --units-only, and put the output of `sdactivate gen "
            f"{name} --kind {front.name}` in place yourself"
        )
    return Place(front, given.get("distribution") or fronts.distribution(), fronts.file_name(name))


def has_manage(site: Any) -> bool:
    """Return whether the site's directory has Django's manage.py."""
    return bool(site.chdir) and Path(site.chdir, "manage.py").is_file()


def check(name: str) -> None:
    """Run `manage.py check` as the user and in the sandbox of the site's service.

    Prints its warnings. Raises Error, with the end of its output, if it fails.
    """
    from sdactivate.operate import step_unit, transient

    unit = transient.service_of(name)
    command = ["python", "manage.py", "check", "--no-color"]
    argv = transient.command_line(
        unit, command, f"{name}-check-{os.getpid()}.service", description=f"manage.py check: {name}"
    )
    said = step_unit.run(argv, "manage.py check")
    if "no issues" not in said:
        for line in said.splitlines():
            say(line)


def prove(site: Any) -> str:
    """Connect as a member of the group and as an unrelated user; return the results as a table.

    Raises Error if the member can't connect, or if the other user can although the mode forbids it.
    """
    from sdactivate.access import who, who_report
    from sdactivate.access.accounts import asked

    people = [asked(f":{site.group}"), asked("nobody")]
    expected = (bool(site.mode & 0o020), bool(site.mode & 0o002))
    text = ""
    for path in (address.path for address in site.addresses if address.path):
        report = who.report(path, people, proving=True)
        text += who_report.as_text(report)
        for (person, answer), wanted in zip(report.people, expected, strict=True):
            if answer.differs or answer.allowed is not wanted:
                can = "can" if answer.allowed else "can't"
                raise Error(f"{person.name} {can} connect to {path}: {answer.because}")
    return text
