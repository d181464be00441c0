"""sdactivate gen: print or write a site's units and other files."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sdactivate.cli.help import Narrowed
from sdactivate.errors import UsageError, option_value
from sdactivate.generate import options
from sdactivate.generate.build import ALL, Claims, chosen, known_options, make
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.output import File, Output, Target
from sdactivate.systemd import names, version
from sdactivate.terminal import tell

if TYPE_CHECKING:
    from sdactivate.generate.sites_toml import Tables

SUMMARY = "print a site's units, or write them to files"

USAGE = """\
sdactivate gen NAME [--kind KIND] [options of a site] [--out DIR [--force]]
       sdactivate gen [NAME] --from FILE [--kind KIND] [options of a site]
                      [--out DIR [--force]]"""

EXAMPLES = """\
examples:
  sdactivate gen mysite --group www-data > mysite.socket
  sdactivate gen mysite --kind all --out units --front nginx --server-name example.org \\
      --app mysite.wsgi:application --chdir /srv/mysite
  sdactivate gen --kind nginx --help                      the options for nginx
  sdactivate gen --from sites.toml --out /etc/systemd/system
"""

SITE = {
    "front": "the web server: nginx, apache, lighttpd, caddy, haproxy",
    "group": "group that may connect (default: the front's)",
    "listen": "the socket's address (default /run/NAME.sock)",
    "app": "the application: mysite.wsgi:application",
    "chdir": "working directory, and where the code is imported from",
    "python": "interpreter of the site's virtual environment",
    "env_file": "a file of environment variables",
    "credential": "a secret, as a file in $CREDENTIALS_DIRECTORY",
    "network": "allow TCP to all machines, or to this host only",
    "writable": "a path that the site may write to",
    "workers": "worker processes (default 1)",
    "threads": "concurrent requests of one worker (default 8)",
    "health": "a page that must answer before new code serves: /up",
    "server_name": "a host name of the site",
    "static": "static files that the front serves itself",
    "tls": "HTTPS; auto: get a certificate by certbot or Caddy",
    "by_hand": "a command of manage.py to run by hand: migrate",
    "worker": "a background worker: mail='celery -A mysite worker'",
}
"""The options that most sites need, each with its line in the short help."""

BRIEF = {
    "name": "the site's name, which its units are named after",
    "kind": "what to write: socket (default), service, nginx, all; see --help-all",
    "sites": "read sites from a TOML file, such as sites.toml",
    "out": "write files into DIR instead of printing them",
    **SITE,
    "help_all": "show all options, by topic",
}

OWN = frozenset({"name", "sites", "out", "force", "systemd", "user_manager", "comments"})
"""The options of the verb itself, which every kind has."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of all kinds: those of a site and those that single kinds have."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="the site's name, which its units are named after"
    )
    kinds = "; ".join(f"{kind.name}: {kind.summary}" for kind in KINDS.values())
    parser.add_argument(
        "--kind",
        choices=[*KINDS, ALL],
        metavar="KIND",
        help=f"what to write (default socket; with --from: the file's kind, else all). {kinds}; "
        "all: every file that the options call for",
    )
    parser.add_argument(
        "--from",
        dest="sites",
        metavar="FILE",
        help="read sites from a TOML or JSON file, such as sites.toml or pyproject.toml",
    )
    parser.add_argument("--out", metavar="DIR", help="write files into DIR")
    parser.add_argument(
        "--force", action="store_true", help="overwrite files in DIR that sdactivate did not write"
    )
    add_target(parser)
    add_options(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the system the files are for."""
    parser.add_argument(
        "--systemd",
        metavar="VERSION",
        help="the version of systemd that will read the units (default: this host's, else "
        f"{version.USUAL})",
    )
    parser.add_argument(
        "--user-manager",
        action="store_true",
        help="write for the calling user's service manager (systemctl --user), with the socket in "
        "%%t",
    )
    parser.add_argument(
        "--no-comments", dest="comments", action="store_false", help="write no comments"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add each row of the tables as an option, under the heading of its topic."""
    topics: dict[str, Any] = {}
    for option in known_options().values():
        if option.topic not in topics:
            topics[option.topic] = parser.add_argument_group(option.topic)
        settings: dict[str, Any] = {
            "dest": option.field,
            "default": None,
            "help": option.help.replace("%", "%%"),
        }
        if option.flag:
            settings["action"] = "store_true"
        elif option.optional:
            settings |= {"metavar": option.metavar, "nargs": "?", "const": True}
        else:
            settings["metavar"] = option.metavar
            settings["action"] = "append" if option.many or option.words else "store"
        topics[option.topic].add_argument(f"--{option.name}", **settings)


def values(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the options that were given on the command line, by field.

    Raises UsageError, which names the option, for a value that is not valid.
    """
    given: dict[str, Any] = {}
    for field, option in known_options().items():
        value = getattr(args, field)
        parsed: Any
        if value is None or value is True:
            parsed = value
        elif option.many:
            parsed = tuple(option.parse(text, f"--{option.name}") for text in value)
        elif option.words:
            parsed = option.parse(" ".join(value), f"--{option.name}")
        else:
            parsed = option.parse(value, f"--{option.name}")
        if parsed is not None:
            given[field] = parsed
    return given


def narrowed(words: Sequence[str]) -> Narrowed | None:
    """Return the options of the kind that `words` name with --kind; None if they name none."""
    for at, word in enumerate(words):
        option, _, value = word.partition("=")
        if option == "--kind" and (value := value or "".join(words[at + 1 : at + 2])) in KINDS:
            kind = KINDS[value]
            reads = {row.name for row in options.SITE} if kind.reads is None else kind.reads
            names = {name.replace("-", "_") for name in reads}
            names |= {row.field for row in kind.options}
            return Narrowed(f"--kind {kind.name}: {kind.summary}.", names | OWN)
    return None


def target(args: argparse.Namespace) -> Target:
    """Return the target system of the text.

    Raises UsageError for a version that is not valid.
    """
    if not args.systemd:
        return Target(comments=args.comments, own=args.user_manager)
    wanted = option_value("--systemd", version.parse_version, args.systemd)
    return Target(wanted, args.comments, args.user_manager)


def run(args: argparse.Namespace) -> int:
    """Write the files of the kind, all or none, and print warnings on standard error."""
    wanted, claims = target(args), Claims()
    outputs = [_made(asked, wanted, claims) for asked in sites(args)]
    # Several kinds of one site can give the same warning: print it once.
    for warning in dict.fromkeys(warning for output in outputs for warning in output.warnings):
        tell(f"sdactivate gen: warning: {warning}")
    files = [file for output in outputs for file in output.files]
    if not files:
        tell(f"sdactivate gen: warning: --kind {args.kind}: this site needs no such file")
    if args.out is None:
        sys.stdout.write(printed(files))
    else:
        from pathlib import Path

        from sdactivate.install.atomic_write import write

        for file in write(out := Path(args.out), files, args.force):
            print(out / file.name)
    return 0


class Asked(NamedTuple):
    """One site to write."""

    name: str
    kinds: tuple[str, ...]
    given: dict[str, Any]
    tables: "Tables | None" = None
    """The file that describes it, if any."""


def checked_name(text: str) -> str:
    """Return NAME as it was typed. Raises UsageError if it can't name a site."""
    return option_value("NAME", names.unit_name, text)


def sites(args: argparse.Namespace) -> Iterator[Asked]:
    """Yield the sites to write. The command line overrides the file.

    Raises UsageError for an option that is not valid.
    """
    kinds = () if args.kind is None else (args.kind,)
    given = values(args)
    if args.sites is None:
        if args.name is None:
            raise UsageError("NAME is missing: give the site's name, such as mysite")
        yield Asked(checked_name(args.name), kinds or ("socket",), given)
        return
    from pathlib import Path

    from sdactivate.generate.sites_toml import Tables

    tables = Tables(Path(args.sites))
    if not tables.names:
        raise UsageError(
            f"{tables.path}: the file has no site; add a table such as [{tables.header('mysite')}]"
        )
    if args.name is None and args.out is None and len(tables.names) > 1:
        raise UsageError(
            "--from without NAME: several sites need --out DIR; or give the NAME of one"
        )
    for name in tables.names if args.name is None else [args.name]:
        entry = tables.entry(name)
        merged = {**entry.given, **given}
        yield Asked(name, kinds or entry.kinds or (ALL,), merged, tables)


def _made(asked: Asked, wanted: Target, claims: Claims) -> Output:
    try:
        site = options.site(asked.name, asked.given)
        output = make(site, chosen(asked.kinds, asked.given), asked.given, wanted)
        claims.add(site, output.files)
        return output
    except UsageError as error:
        where = f"{asked.tables.place(asked.name)}: " if asked.tables else ""
        raise UsageError(f"{where}{error}") from None


def printed(files: list[File]) -> str:
    """Return the text of one file as it is; of several files, with each name above its text."""
    if len(files) == 1:
        return files[0].text
    return "\n".join(f"# --- {file.name}\n{file.text}" for file in files)
