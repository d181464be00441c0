"""sdactivate gen: print the text that a site needs, units first."""

import argparse
import sys
from typing import Any

from sdactivate import systemd
from sdactivate.errors import UsageError
from sdactivate.generate import options
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.options import Option
from sdactivate.generate.output import Output, Target

SUMMARY = "print the units of a site"

EXAMPLES = """\
examples:
  sdactivate gen mysite --group www-data > /etc/systemd/system/mysite.socket
  sdactivate gen mysite --kind service --app mysite.wsgi:application --chdir /srv/mysite \\
      > /etc/systemd/system/mysite.service
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every kind: those of a site, and the kinds' own."""
    parser.add_argument("name", metavar="NAME", help="what the site's units are called")
    parser.add_argument(
        "--kind",
        choices=list(KINDS),
        default="socket",
        metavar="KIND",
        help="what to print: "
        + "; ".join(f"{kind.name} ({kind.summary})" for kind in KINDS.values()),
    )
    parser.add_argument(
        "--systemd",
        metavar="VERSION",
        help=f"the systemd that will read it (default: this host's, else {systemd.USUAL})",
    )
    parser.add_argument(
        "--no-comments", dest="comments", action="store_false", help="leave the comments out"
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add a row of the tables as one option each, under the heading of its topic."""
    topics: dict[str, Any] = {}
    for option in known_options().values():
        if option.topic not in topics:
            topics[option.topic] = parser.add_argument_group(option.topic)
        settings: dict[str, Any] = {"dest": option.field, "default": None, "help": option.help}
        if option.flag:
            settings["action"] = "store_true"
        else:
            settings["metavar"] = option.metavar
            settings["action"] = "append" if option.many else "store"
        topics[option.topic].add_argument(f"--{option.name}", **settings)


def known_options() -> dict[str, Option]:
    """Return every option by its field: a site's first, then those of the kinds."""
    rows = [*options.SITE, *(option for kind in KINDS.values() for option in kind.options)]
    return {row.field: row for row in rows}


def values(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the options on the command line mean, by field: only those that were given.

    Raises UsageError, which names the option, for a value that means nothing.
    """
    given: dict[str, Any] = {}
    for field, option in known_options().items():
        value = getattr(args, field)
        if value is None or option.flag:
            parsed = value
        elif option.many:
            parsed = tuple(option.parse(text, f"--{option.name}") for text in value)
        else:
            parsed = option.parse(value, f"--{option.name}")
        if parsed is not None:
            given[field] = parsed
    return given


def generate(name: str, kind_name: str, given: dict[str, Any], target: Target) -> Output:
    """Return what the kind writes for the site `name`, with what was `given`.

    Raises UsageError for what can't be written.
    """
    kind = KINDS[kind_name]
    site_fields = {option.field for option in options.SITE}
    own = {option.field for option in kind.options}
    reads = site_fields if kind.reads is None else {r.replace("-", "_") for r in kind.reads}
    site = options.site(name, {key: given[key] for key in given if key in site_fields})
    output = kind.load()(site, target, **{key: given[key] for key in given if key in own})
    unread = [f"--{known_options()[key].name}" for key in given if key not in reads | own]
    if unread:
        note = f"{', '.join(unread)}: --kind {kind_name} has no use for it"
        output = output._replace(warnings=(*output.warnings, note))
    return output


def run(args: argparse.Namespace) -> int:
    """Print the kind's text, whole or not at all, and its warnings on standard error."""
    try:
        systemd.unit_name(args.name)
    except UsageError as error:
        raise UsageError(f"NAME {error}") from None
    version = systemd.parse_version(args.systemd) if args.systemd else systemd.host_version()
    output = generate(args.name, args.kind, values(args), Target(version, args.comments))
    for warning in output.warnings:
        print(f"sdactivate gen: warning: {warning}", file=sys.stderr)
    first, *rest = output.files
    text = first.text if not rest else "".join(f"# {f.name}\n{f.text}\n" for f in output.files)
    sys.stdout.write(text)
    return 0
