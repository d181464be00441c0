"""sdactivate launch: create the socket as root, then run the application as its own user."""

import argparse

from sdactivate.errors import UsageError, option_value

SUMMARY = "create sockets as root, then exec a server without root"
EXAMPLES = """\
examples:
  # The socket is root:www-data 0660, the application runs as mysite:
  sdactivate launch --listen /run/mysite.sock --group www-data --run-as mysite \\
      --chdir /srv/mysite -- sdactivate serve mysite.wsgi:application

  # The same, but nothing runs until a client connects:
  sdactivate launch --on-demand --listen /run/mysite.sock --group www-data --run-as mysite \\
      --chdir /srv/mysite -- sdactivate serve --idle-timeout 10min mysite.wsgi:application

  # Any server that understands LISTEN_FDS, on a port below 1024:
  sdactivate launch --listen 127.0.0.1:80 --run-as mysite -- gunicorn mysite.wsgi
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    sockets = parser.add_argument_group("the sockets")
    process = parser.add_argument_group("the command's process")
    sockets.add_argument(
        "--listen",
        action="append",
        required=True,
        metavar="ADDRESS",
        help="/path, 127.0.0.1:80, [::1]:80, vsock:CID:PORT or @abstract, with NAME= in front if "
        "the descriptor needs a name; repeat it for descriptors 3, 4, …",
    )
    sockets.add_argument("--user", help="owner of unix sockets (default: root)")
    sockets.add_argument("--group", help="group of unix sockets (default: root's)")
    sockets.add_argument("--mode", default="0660", help="mode of unix sockets (default: 0660)")
    sockets.add_argument(
        "--backlog",
        type=int,
        default=4096,
        metavar="N",
        help="connections that may wait to be accepted (default: 4096)",
    )
    process.add_argument("--run-as", metavar="USER[:GROUP]", help="user that the command runs as")
    process.add_argument("--chroot", metavar="DIR", help="root directory of the command: chroot(2)")
    process.add_argument("--chdir", metavar="DIR", help="working directory of the command")
    process.add_argument("--umask", metavar="MODE", help="umask of the command, in octal")
    process.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a resource limit of the command, such as nofile=4096 or nofile=1024:4096",
    )
    process.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="an environment variable of the command; NAME alone passes on the launcher's value",
    )
    environment = process.add_mutually_exclusive_group()
    environment.add_argument(
        "--keep-env",
        action="store_true",
        help="pass on the launcher's whole environment, which is the default without root; as root "
        "the default is PATH, locale, TZ, TERM, the service manager's variables and SDACTIVATE_*",
    )
    environment.add_argument(
        "--clear-env",
        action="store_true",
        help="pass on only PATH and LANG of the launcher's environment",
    )
    process.add_argument(
        "--keep-fd",
        action="append",
        default=[],
        type=int,
        metavar="N",
        help="a file descriptor to keep open, such as s6's notification-fd; all others are closed",
    )
    add(
        "--on-demand",
        action="store_true",
        help="drop root, wait, and start the command at the first connection",
    )
    add("command", nargs="+", metavar="COMMAND", help="the command to execute, with its arguments")


def run(args: argparse.Namespace) -> int:
    from sdactivate.launch import Launch, launch, process
    from sdactivate.launch.environment import Keep
    from sdactivate.values import parse_listen, parse_mode

    for option in ("user", "group", "run_as", "chroot", "chdir"):
        if getattr(args, option) == "":  # An unset variable in a script does this
            raise UsageError(f"--{option.replace('_', '-')} has an empty value; leave it out")
    if not 0 < args.backlog < 1 << 31:
        raise UsageError(f"--backlog {args.backlog} is not a whole number of at least 1")
    return launch(
        Launch(
            listen=[option_value("--listen", parse_listen, text) for text in args.listen],
            command=args.command,
            run_as=args.run_as or "",
            user=args.user or "",
            group=args.group or "",
            mode=option_value("--mode", parse_mode, args.mode),
            backlog=args.backlog,
            chroot=args.chroot or "",
            chdir=args.chdir or "",
            umask=None if args.umask is None else process.parse_umask(args.umask),
            limits=args.limit,
            env=args.env,
            keep_env=Keep.ALL if args.keep_env else Keep.LEAST if args.clear_env else None,
            keep=args.keep_fd,
            on_demand=args.on_demand,
        )
    )
