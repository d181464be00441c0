"""sdactivate generator: run as a systemd generator, and install it."""

import argparse
import sys
from pathlib import Path

from sdactivate.errors import Error, UsageError
from sdactivate.terminal import tell

SUMMARY = "make units of /etc/sdactivate/*.toml, as a systemd generator"

EXAMPLES = """\
examples:
  sudo sdactivate generator --install        from now on: edit /etc/sdactivate/*.toml, then
                                             systemctl daemon-reload
  sdactivate generator /tmp/units            writes the units there, to look at
"""

LINK = "etc/systemd/system-generators/sdactivate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate generator`."""
    parser.add_argument("normal", metavar="NORMAL", nargs="?", type=Path, help="where units go")
    parser.add_argument("others", metavar="EARLY LATE", nargs="*", help="given by systemd; unused")
    parser.add_argument(
        "--config",
        metavar="DIR",
        type=Path,
        default=Path("/etc/sdactivate"),
        help="where the files of sites are (default /etc/sdactivate)",
    )
    parser.add_argument(
        "--install", action="store_true", help=f"make /{LINK} a link to this generator"
    )
    parser.add_argument("--root", metavar="DIR", type=Path, default=Path("/"), help="install below")


def run(args: argparse.Namespace) -> int:
    """Write the units; 0 whatever is wrong with them, so that the boot goes on."""
    if args.install:
        return _install(args.root)
    if args.normal is None:
        raise UsageError("NORMAL is missing: the directory that units are written into")
    from sdactivate.generate import systemd_generator

    # By hand its words belong on the terminal; systemd's own call has none.
    log = _say if sys.stderr.isatty() or not args.others else systemd_generator.kernel_log
    try:
        from sdactivate.generate.output import Target

        systemd_generator.generate(args.config, args.normal, Target(comments=False), log)
    except Exception as error:  # a boot must not fail of it
        log(f"{type(error).__name__}: {error}")
    return 0


def _say(message: str) -> None:
    tell(f"sdactivate generator: {message}")


def _install(root: Path) -> int:
    """Link the generator where systemd finds it.

    Raises Error where the command is not installed beside this interpreter, or something else
    has the link's name.
    """
    from sdactivate.install import atomic_write
    from sdactivate.install.image import inside, refuse_missing

    refuse_missing(root)
    command = Path(sys.executable).parent / "sdactivate-generator"
    if not command.exists():
        raise Error(
            f"{command} is missing: install sdactivate, from its wheel or a checkout, into the "
            f"environment of {command.parent}"
        )
    folder, _, name = f"/{LINK}".rpartition("/")
    link = inside(root.resolve(), folder) / name
    atomic_write.link(link, str(command))
    print(link)
    return 0


def entry() -> int:
    """Be the command `sdactivate-generator`, which systemd calls with three directories."""
    from sdactivate import cli

    return cli.entry(["generator", *sys.argv[1:]])
