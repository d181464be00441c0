"""sdactivate generator: run as a systemd generator, and install it."""

import argparse
import sys
from pathlib import Path

from sdactivate.errors import Error, UsageError
from sdactivate.terminal import tell

SUMMARY = "write units from /etc/sdactivate/*.toml, as a systemd generator"

EXAMPLES = """\
examples:
  sudo sdactivate generator --install        once; then edit /etc/sdactivate/*.toml and run
                                             systemctl daemon-reload
  sdactivate generator /tmp/units            write the units there, to look at
"""

LINK = "etc/systemd/system-generators/sdactivate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sdactivate generator`."""
    parser.add_argument(
        "normal",
        metavar="NORMAL",
        nargs="?",
        type=Path,
        help="directory that the units are written to",
    )
    parser.add_argument(
        "others", metavar="EARLY LATE", nargs="*", help="directories that systemd passes; not used"
    )
    parser.add_argument(
        "--config",
        metavar="DIR",
        type=Path,
        default=Path("/etc/sdactivate"),
        help="directory of the sites files (default /etc/sdactivate)",
    )
    parser.add_argument(
        "--install", action="store_true", help=f"make /{LINK} a symbolic link to this generator"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="install in the image at"
    )


def run(args: argparse.Namespace) -> int:
    """Write the units. Return 0 even if some could not be written, so that the boot goes on."""
    if args.install:
        return _install(args.root)
    if args.normal is None:
        raise UsageError("NORMAL is missing: give the directory to write the units to")
    from sdactivate.generate import systemd_generator

    # When run by hand, messages go to the terminal; when systemd runs it, there is none.
    log = _say if sys.stderr.isatty() or not args.others else systemd_generator.kernel_log
    try:
        from sdactivate.generate.output import Target

        systemd_generator.generate(args.config, args.normal, Target(comments=False), log)
    except Exception as error:  # the boot must not fail because of it
        log(f"{type(error).__name__}: {error}")
    return 0


def _say(message: str) -> None:
    tell(f"sdactivate generator: {message}")


def _install(root: Path) -> int:
    """Link the generator where systemd looks for generators.

    Raises Error if the command is not installed beside this interpreter, or if something else
    exists at the link's path.
    """
    from sdactivate.install import atomic_write
    from sdactivate.install.image import inside, refuse_missing

    refuse_missing(root)
    command = Path(sys.executable).parent / "sdactivate-generator"
    if not command.exists():
        raise Error(
            f"{command} is missing: install sdactivate, from its wheel or a checkout, into the "
            f"virtual environment of {command.parent}"
        )
    folder, _, name = f"/{LINK}".rpartition("/")
    link = inside(root.resolve(), folder) / name
    atomic_write.link(link, str(command))
    print(link)
    return 0


def entry() -> int:
    """Run as the command `sdactivate-generator`, which systemd calls with three directories."""
    from sdactivate import cli

    return cli.entry(["generator", *sys.argv[1:]])
