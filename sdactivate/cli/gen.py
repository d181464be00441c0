"""sdactivate gen: print or write the text that a site needs."""

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

SUMMARY = "print the units of a site"

USAGE = """\
sdactivate gen NAME [--kind KIND] [options of a site] [--out DIR [--force]]
       sdactivate gen [NAME] --from FILE [--kind KIND] [options of a site]
                      [--out DIR [--force]]"""

EXAMPLES = """\
examples:
  sdactivate gen mysite --group www-data > mysite.socket
  sdactivate gen mysite --kind all --out units --front nginx --server-name example.org \\
      --app mysite.wsgi:application --chdir /srv/mysite
  sdactivate gen --kind nginx --help                      what nginx's part reads
  sdactivate gen --from sites.toml --out /etc/systemd/system
"""

SITE = {
    "front": "nginx, apache, lighttpd, caddy or haproxy in front",
    "group": "group that may connect (default: the front's)",
    "listen": "where the socket is (default /run/NAME.sock)",
    "app": "the application: mysite.wsgi:application",
    "chdir": "directory to run in and import from",
    "python": "interpreter of the site's virtual environment",
    "env_file": "a file of environment variables",
    "credential": "a secret, as a file in $CREDENTIALS_DIRECTORY",
    "network": "allow connections to other machines, or to this one",
    "writable": "a path that the site may write to",
    "workers": "worker processes (default 1)",
    "threads": "requests at a time, of one worker (default 8)",
    "health": "a page that must answer before a release serves: /up",
    "server_name": "a host name of the site",
    "static": "static files that the front serves itself",
    "tls": "HTTPS; auto: a certificate by certbot, or by Caddy",
    "by_hand": "a command of manage.py to run by hand: migrate",
    "worker": "a background worker: mail='celery -A mysite worker'",
}
"""The options that describe most sites, with the line that the short help has for each."""

BRIEF = {
    "name": "what the site's units are called",
    "kind": "socket (default), service, nginx, all; see --help-all",
    "sites": "read sites from a TOML file, such as sites.toml",
    "out": "write files into DIR instead of printing them",
    **SITE,
    "help_all": "show all options, by topic",
}

OWN = frozenset({"name", "sites", "out", "force", "systemd", "user_manager", "comments"})
"""The options of the verb itself, whatever kind it writes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every kind: those of a site, and the kinds' own."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="what the site's units are called")
    kinds = "; ".join(f"{kind.name}: {kind.summary}" for kind in KINDS.values())
    parser.add_argument(
        "--kind",
        choices=[*KINDS, ALL],
        metavar="KIND",
        help="what to write (default socket; with --from what the file says, or all). "
        f"{kinds}; all: every file that the options call for",
    )
    parser.add_argument(
        "--from",
        dest="sites",
        metavar="FILE",
        help="read sites from a file of TOML or JSON, such as sites.toml or pyproject.toml",
    )
    parser.add_argument("--out", metavar="DIR", help="write files into DIR")
    parser.add_argument(
        "--force", action="store_true", help="overwrite files in DIR that sdactivate did not write"
    )
    add_target(parser)
    add_options(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the text is written for."""
    parser.add_argument(
        "--systemd",
        metavar="VERSION",
        help=f"the systemd that will read it (default: this host's, else {version.USUAL})",
    )
    parser.add_argument(
        "--user-manager",
        action="store_true",
        help="for the calling user's own manager (systemctl --user), the socket in %%t",
    )
    parser.add_argument(
        "--no-comments", dest="comments", action="store_false", help="leave the comments out"
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
    """Return what the options on the command line mean, by field: only those that were given.

    Raises UsageError, which names the option, for a value that means nothing.
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
    """Return what the kind that `words` name reads, None where they name none."""
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
    """Return what the text is written for.

    Raises UsageError for a version that is none.
    """
    if not args.systemd:
        return Target(comments=args.comments, own=args.user_manager)
    wanted = option_value("--systemd", version.parse_version, args.systemd)
    return Target(wanted, args.comments, args.user_manager)


def run(args: argparse.Namespace) -> int:
    """Write the kind's text, whole or not at all, and its warnings on standard error."""
    wanted, claims = target(args), Claims()
    outputs = [_made(asked, wanted, claims) for asked in sites(args)]
    # Several kinds of one site warn of the same things: once is enough.
    for warning in dict.fromkeys(warning for output in outputs for warning in output.warnings):
        tell(f"sdactivate gen: warning: {warning}")
    files = [file for output in outputs for file in output.files]
    if not files:
        tell(f"sdactivate gen: warning: --kind {args.kind}: none is needed")
    if args.out is None:
        sys.stdout.write(printed(files))
    else:
        from pathlib import Path

        from sdactivate.install.atomic_write import write

        for file in write(out := Path(args.out), files, args.force):
            print(out / file.name)
    return 0


class Asked(NamedTuple):
    """One site that is asked for."""

    name: str
    kinds: tuple[str, ...]
    given: dict[str, Any]
    tables: "Tables | None" = None
    """The file that describes it, if any."""


def checked_name(text: str) -> str:
    """Return NAME, as it was typed. Raises UsageError where no site can be called so."""
    return option_value("NAME", names.unit_name, text)


def sites(args: argparse.Namespace) -> Iterator[Asked]:
    """Yield what is asked for; what is said on the command line outranks the file.

    Raises UsageError for an option that is not valid.
    """
    kinds = () if args.kind is None else (args.kind,)
    given = values(args)
    if args.sites is None:
        if args.name is None:
            raise UsageError("NAME is missing: what the site's units are called")
        yield Asked(checked_name(args.name), kinds or ("socket",), given)
        return
    from pathlib import Path

    from sdactivate.generate.sites_toml import Tables

    tables = Tables(Path(args.sites))
    if not tables.names:
        raise UsageError(
            f"{tables.path}: there is no site in it, such as [{tables.header('mysite')}]"
        )
    if args.name is None and args.out is None and len(tables.names) > 1:
        raise UsageError("--from without NAME: the files of several sites need a directory, --out")
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
    """Return the text of one file as it is, of several with their names above them."""
    if len(files) == 1:
        return files[0].text
    return "\n".join(f"# --- {file.name}\n{file.text}" for file in files)
