"""sdactivate serve: serve an application on the inherited sockets."""

import argparse

from sdactivate.settings import TABLE

SUMMARY = "serve an application on the inherited sockets"

USAGE = "sdactivate serve [--SETTING VALUE]... application"

EXAMPLES = """\
examples:
  as ExecStart= of a service with a socket unit (`sdactivate gen` writes both):
    sdactivate serve mysite.wsgi:application

  by hand, in a terminal:
    systemd-socket-activate -l /tmp/mysite.sock \\
        sdactivate serve mysite.wsgi:application --threads 4
    curl --unix-socket /tmp/mysite.sock http://localhost/

Every option can also be given as an environment variable, which overrides the command line:
SDACTIVATE_THREADS=4.
"""

BRIEF = {
    "application": "mysite.wsgi:application, or a file",
    "server": "native (default), waitress, gunicorn, uwsgi, ...",
    "protocol": "protocol that the front speaks (default: auto)",
    "workers": "processes that share the socket (default: 1)",
    "threads": "concurrent requests of one worker (default: 8)",
    "preload": "import before the workers fork: yes, no",
    "health": "a page that must answer before it serves: /up",
    "graceful_timeout": "how long accepted requests may take during a stop",
    "idle_timeout": "exit after this long without a request; 0: never",
    "body_bytes": "the largest request body (default: 100 MiB)",
    "trust": "TCP peers whose X-Forwarded-* headers are trusted",
    "allow_peer": "the only peers to serve: unit:nginx.service",
    "access_log": "log every request",
    "help_all": "show all options, by topic",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "application",
        help="mysite.wsgi:application, a factory as mysite:create_app(), or a file as "
        "/srv/mysite/mysite.wsgi",
    )
    group = parser.add_argument_group("settings")
    for setting in TABLE:
        value = setting.default
        shown = " ".join(value) if isinstance(value, tuple) else value
        if isinstance(shown, bool):
            shown = "yes" if shown else "no"
        group.add_argument(
            setting.option,
            metavar=setting.unit.upper() or "VALUE",
            # Repeated list options are joined, as in `gen`
            action="append" if isinstance(value, tuple) else "store",
            help=f"{setting.help} (default: {shown if shown != '' else 'none'})",
        )


def run(args: argparse.Namespace) -> int:
    from sdactivate.runtime.serve import run as serve

    options = {setting.name: getattr(args, setting.name) for setting in TABLE}
    return serve(args.application, {}, options)
