"""Pairs for each rule that unit files alone can break: a broken setup, and its working twin.

Nothing else is wrong with the broken one, nothing at all with the twin, and one line tells the two
apart. What needs a running system is in tests/machine/broken_sites.py. Both make docs/cases.md.
"""

from typing import NamedTuple


class Broken(NamedTuple):
    """What to add to a good pair of units so that one rule is broken, and where that is found."""

    socket: str = ""
    service: str = ""
    at: str = ""  # the line at fault, "" where one is missing
    without: tuple[str, ...] = ()  # lines of the good pair to leave out
    extra: str = ""  # another socket unit
    socket_unit: str = ""  # lines for [Unit] of either
    service_unit: str = ""
    names: tuple[str, str] = ("web.socket", "web.service")
    instead: str = ""  # what the twin has for the line at fault: nothing, or other lines
    twin: "Broken | None" = None  # where a line is missing: the setup that has it


SOCKET = """\
[Unit]
Description=web
[Socket]
ListenStream=/run/web.sock
SocketUser=root
SocketGroup=www-data
SocketMode=0660
[Install]
WantedBy=sockets.target
"""
SERVICE = """\
[Unit]
Requires=web.socket
After=web.socket
[Service]
Type=notify
User=web
ExecStart=/srv/web/bin/python -m sdactivate serve web.wsgi:application
WorkingDirectory=/srv/web
"""
_HTTP = "Environment=SDACTIVATE_PROTOCOL=http"
_SERVE = "/srv/web/bin/python -m sdactivate serve web.wsgi:application"
_WRITTEN = "# web.service, written by sdactivate."
_NOW = """\
Environment=PYTHONNOUSERSITE=1
MemoryMax=80%
TasksMax=1024
RestartSec=100ms
SystemCallFilter=~listen @keyring
InaccessiblePaths=-/run/dbus
NoExecPaths=-/tmp"""
_ADMIN = """\
[Socket]
ListenStream=/run/b.sock
SocketMode=0660
SocketGroup=web
FileDescriptorName=b
Service=web.service
"""
_ANEW = Broken(service=f"{_WRITTEN}\n{_NOW}")
_LONG = "ListenStream=/run/" + "x" * 103

OFFLINE: dict[str, list[Broken]] = {
    "SDA001": [Broken(without=("SocketMode=0660",))],
    "SDA002": [
        Broken(socket="SocketMode=0666", at="SocketMode=0666", instead="SocketMode=0600"),
        Broken(socket="SocketMode=0662", at="SocketMode=0662", instead="SocketMode=0660"),
    ],
    "SDA003": [
        Broken(socket="SocketUser=bob", at="SocketUser=bob", without=("SocketGroup=www-data",),
               twin=Broken(socket="SocketUser=bob"))
    ],
    "SDA004": [
        Broken(socket=f"ListenStream=\n{_LONG}", at=_LONG, instead=_LONG[:-1])
    ],
    "SDA005": [Broken(socket="ListenStream=@web", at="ListenStream=@web",
                      instead="ListenStream=/run/web-b.sock")],
    "SDA006": [
        Broken(socket=f"{line}", service=_HTTP, at=line, instead="ListenStream=/run/web-b.sock")
        for line in ("ListenStream=127.0.0.1:80", "ListenStream=[::1]:8000")
    ],
    "SDA007": [
        Broken(socket="SocketUser=web", at="SocketUser=web", instead="SocketUser=root"),
        Broken(socket="SocketUser=web", service="User=\nDynamicUser=yes", at="SocketUser=web"),
    ],
    "SDA008": [
        Broken(socket="ListenStream=\nListenStream=/tmp/web.sock", at="ListenStream=/tmp/web.sock",
               instead="ListenStream=/run/web/s"),
        Broken(socket="ListenStream=\nListenStream=/var/tmp/a/web.sock", service="PrivateTmp=yes",
               at="ListenStream=/var/tmp/a/web.sock", instead="ListenStream=/run/a/web.sock"),
        Broken(socket="ListenStream=\nListenStream=%T/web.sock", at="ListenStream=%T/web.sock",
               instead="ListenStream=%t/web.sock"),
    ],
    "SDA009": [
        Broken(socket="ListenStream=\nListenStream=/run/web/s", service="RuntimeDirectory=web",
               at="RuntimeDirectory=web", instead="RuntimeDirectory=web-files"),
        Broken(socket="ListenStream=\nListenStream=%t/%p/sub/s", service="RuntimeDirectory=x %N",
               at="RuntimeDirectory=x %N", instead="RuntimeDirectory=x"),
        Broken(socket="ListenStream=\nListenStream=/run/web/s",
               service="RuntimeDirectory=web\nRuntimeDirectoryPreserve=yes",
               at="RuntimeDirectory=web"),
        Broken(socket="ListenStream=\nListenStream=/var/run/web/s",
               service="RuntimeDirectory=web", at="RuntimeDirectory=web"),
    ],
    "SDA010": [Broken(socket="RemoveOnStop=yes", at="RemoveOnStop=yes", instead="RemoveOnStop=no")],
    "SDA011": [Broken(socket="FlushPending=on", at="FlushPending=on", instead="FlushPending=off")],
    "SDA012": [Broken(socket="Accept=yes", at="Accept=yes", instead="Accept=no",
                      service="# for web.socket")],
    "SDA013": [Broken(socket="MaxConnections=64", at="MaxConnections=64")],
    "SDA014": [
        Broken(socket="TriggerLimitBurst=3", at="TriggerLimitBurst=3",
               instead="TriggerLimitBurst=200"),
        Broken(socket="TriggerLimitIntervalSec=1min", at="TriggerLimitIntervalSec=1min"),
    ],
    "SDA015": [Broken(socket="Backlog=16", at="Backlog=16", instead="Backlog=4096")],
    "SDA016": [
        Broken(socket="ListenStream=\nListenStream=/run/web/s\nDirectoryMode=0750",
               at="DirectoryMode=0750", instead="DirectoryMode=0755")
    ],
    "SDA017": [Broken(extra=_ADMIN, service="Sockets=web.socket admin.socket",
                      twin=Broken(extra=_ADMIN, service="Sockets=web.socket admin.socket",
                                  socket="FileDescriptorName=web"))],
    "SDA018": [Broken(without=("Requires=web.socket",))],
    "SDA019": [
        Broken(service=f"ExecStart=\nExecStart={line}", at=f"ExecStart={line}",
               instead=f"ExecStart={direct}")
        for line, direct in (
            ("/usr/bin/uv run python -m sdactivate serve web.wsgi",
             "/srv/web/.venv/bin/python -m sdactivate serve web.wsgi"),
            ("/bin/sh -c 'cd /srv; python -m sdactivate serve web.wsgi'",
             "/bin/sh -c 'cd /srv; exec python -m sdactivate serve web.wsgi'"),
            ("-/usr/bin/env A=b /usr/bin/timeout 9 python -m sdactivate serve web.wsgi",
             "-/usr/bin/env A=b python -m sdactivate serve web.wsgi"),
            ("/bin/bash -c 'python -m sdactivate serve web.wsgi | logger'",
             "/bin/bash -c 'python -m sdactivate serve web.wsgi'"),
            ("/srv/web/bin/gunicorn --daemon web.wsgi", "/srv/web/bin/gunicorn web.wsgi"),
            ("/srv/web/bin/gunicorn web.wsgi -D", "/srv/web/bin/gunicorn web.wsgi"),
            ("/srv/web/bin/uwsgi --ini /srv/web/uwsgi.ini --daemonize=/var/log/uwsgi.log",
             "/srv/web/bin/uwsgi --ini /srv/web/uwsgi.ini"),
        )
    ] + [Broken(service="Type=forking", at="Type=forking", instead="Type=exec")],
    "SDA020": [Broken(service="User=root", at="User=root", instead="User=web"),
               Broken(without=("User=web",))],
    "SDA021": [
        Broken(socket="ListenStream=\nListenStream=80",
               service=f"{_HTTP}\nIPAddressDeny=any\nIPAddressAllow=10.0.0.0/8",
               at="IPAddressAllow=10.0.0.0/8", instead="# in the socket unit")
    ],
    "SDA022": [
        Broken(service="ExecStart=\nExecStart=/home/bob/v/bin/python x\nProtectHome=yes",
               at="ExecStart=/home/bob/v/bin/python x",
               instead="ExecStart=/opt/bob/v/bin/python x"),
        Broken(service="WorkingDirectory=/root/site", at="WorkingDirectory=/root/site",
               instead="WorkingDirectory=/srv/site"),
        Broken(service="WorkingDirectory=/home/bob/site\nUser=\nDynamicUser=yes",
               at="WorkingDirectory=/home/bob/site", instead="WorkingDirectory=/srv/bob/site"),
    ],
    "SDA023": [
        Broken(service=f"{_WRITTEN}\nRestartSec=2", twin=_ANEW),
        Broken(service=_WRITTEN + "\n" + _NOW.replace("MemoryMax=80%\n", ""), twin=_ANEW),
    ],
    "SDA024": [
        Broken(socket="ListenStream=80", at="ListenStream=80",
               twin=Broken(socket="ListenStream=80", service=_HTTP)),
        Broken(socket="ListenStream=vsock::80", service="Environment=SDACTIVATE_PROTOCOL=auto",
               at="ListenStream=vsock::80", instead="ListenStream=/run/web-b.sock"),
        Broken(socket="ListenStream=80", service="Environment=SDACTIVATE_PROTOCOL=fastcgi",
               at="ListenStream=80",
               twin=Broken(socket="ListenStream=80",
                           service="Environment=SDACTIVATE_PROTOCOL=fastcgi "
                                   "SDACTIVATE_TRUST=10.0.0.1")),
        Broken(socket="ListenStream=80\nFileDescriptorName=scgi", at="ListenStream=80",
               twin=Broken(socket="ListenStream=80\nFileDescriptorName=scgi",
                           service="Environment=SDACTIVATE_TRUST=10.0.0.1")),
        Broken(socket="ListenStream=80", service=f"ExecStart=\nExecStart={_SERVE} --protocol=uwsgi",
               at="ListenStream=80",
               twin=Broken(socket="ListenStream=80",
                           service=f"ExecStart=\nExecStart={_SERVE} --protocol=uwsgi "
                                   "--trust=10.0.0.1")),
    ],
    "SDA025": [
        Broken(service=f"ExecStart=\nExecStart={line}\nType=notify", at="Type=notify",
               instead="Type=exec")
        for line in (
            "/srv/web/bin/uvicorn --fd 3 web.asgi:application",
            "/srv/web/bin/python -m hypercorn --bind fd://3 web.asgi:application",
            f"{_SERVE} --server daphne",
        )
    ],
    "SDA026": [
        *(
            Broken(socket_unit=f"{key}=network.target web.service",
                   at=f"{key}=network.target web.service", instead=f"{key}=network.target")
            for key in ("PartOf", "BindsTo", "Requires", "Requisite", "StopPropagatedFrom",
                        "Conflicts")
        ),
        # An empty line takes no dependency back
        Broken(socket_unit="PartOf=%N.service\nPartOf=", at="PartOf=%N.service"),
        *(
            Broken(service_unit=f"{key}=web.socket", at=f"{key}=web.socket")
            for key in ("PropagatesStopTo", "Conflicts")
        ),
        Broken(service="[Install]\nRequiredBy=web.socket\n[Service]", at="RequiredBy=web.socket"),
        *(
            Broken(service=line, at=line)
            for line in (
                "ExecStopPost=+/bin/systemctl --no-block stop web.socket",
                "ExecStartPre=!-/usr/bin/systemctl restart %p.socket",
            )
        ),
    ],
    "SDA027": [
        Broken(service=f"Type=exec\nExecStart=\nExecStart=/srv/web/bin/{line}",
               at=f"ExecStart=/srv/web/bin/{line}", instead=f"ExecStart=/srv/web/bin/{given}")
        for line, given in (
            ("uvicorn --uds /run/web.sock web.asgi:application",
             "uvicorn --fd 3 web.asgi:application"),
            ("python -m uvicorn web.asgi:application --uds=%t/%N.sock",
             "python -m uvicorn web.asgi:application --fd=3"),
            ("hypercorn --bind unix:/run/web.sock web.asgi:application",
             "hypercorn --bind fd://3 web.asgi:application"),
            ("hypercorn --bind unix:/var/run/web.sock web.asgi:application",
             "hypercorn --bind=fd://3 web.asgi:application"),
            ("hypercorn -b 127.0.0.1:8000 web.asgi:application",
             "hypercorn -b fd://3 web.asgi:application"),
            ("daphne -u /run/web.sock web.asgi:application",
             "daphne --fd 3 web.asgi:application"),
            ("daphne -p 8000 web.asgi:application",
             "daphne --fd=3 web.asgi:application"),
            ("waitress-serve --unix-socket=/run/web.sock web.wsgi:application",
             "python -m sdactivate serve --server waitress web.wsgi:application"),
            ("waitress-serve --listen=*:8000 web.wsgi:application",
             "python -m sdactivate serve --server waitress web.wsgi:application"),
        )
    ] + [
        Broken(service=f"Type=exec\nExecStart=\nExecStart={line}", at=f"ExecStart={line}",
               instead="ExecStart=/bin/bash -c '. bin/activate && exec uvicorn --fd 3 web:app'")
        for line in (
            "/bin/bash -c '. bin/activate && exec uvicorn --uds /run/web.sock web.asgi:app'",
        )
    ],
    "SDA028": [
        Broken(service=line, at=line)
        for line in (
            "ExecStartPost=+/bin/chmod 666 /run/web.sock",
            "ExecStartPre=!-/usr/bin/chown web:www-data %t/web.sock",
            "ExecStartPost=/bin/sh -c 'sleep 1; chgrp www-data /run/web.sock'",
            "ExecStartPre=/bin/rm -f /run/web.sock",
            "ExecStartPost=+/bin/chmod 777 /var/run/web.sock",
            "ExecStopPost=+/usr/bin/unlink /run/web.sock",
            "ExecStartPost=+/bin/setfacl -m u:www-data:rw /run/web.sock",
        )
    ] + [
        Broken(service="PermissionsStartOnly=yes\nExecStartPre=-/bin/rm /run/web.sock",
               at="ExecStartPre=-/bin/rm /run/web.sock"),
    ],
    "SDA029": [
        Broken(service=f"ExecStart=\nExecStart={line}", at=f"ExecStart={line}",
               instead=f"ExecStart={once}")
        for line, once in (
            ("/srv/web/bin/gunicorn -b fd://3 web.wsgi:application",
             "/srv/web/bin/gunicorn web.wsgi:application"),
            ("/srv/web/bin/python3 -m gunicorn --workers 2 --bind=fd://3 web.wsgi:application",
             "/srv/web/bin/python3 -m gunicorn --workers 2 web.wsgi:application"),
        )
    ],
    "SDA030": [
        Broken(service=f"Type=exec\nExecStart=\nExecStart={server}\n{line}", at=line)
        for server, line in (
            ("/srv/web/bin/uvicorn --fd 3 web.asgi:app", "ExecReload=/bin/kill -HUP $MAINPID"),
            ("/srv/web/bin/uvicorn --fd 3 web.asgi:app", "ExecReload=/bin/kill -s HUP ${MAINPID}"),
            ("/srv/web/bin/uvicorn --fd 3 --workers 1 a:b", "ExecReload=kill -1 $MAINPID"),
            (f"{_SERVE} --server daphne", "ExecReload=-/bin/kill --signal=SIGHUP $MAINPID"),
            ("/srv/web/bin/waitress-serve web.wsgi:app", "ExecReload=/bin/kill -HUP $MAINPID"),
        )
    ] + [
        Broken(service=f"Type=exec\nExecStart=\nExecStart={server}\n{line}", at=line,
               instead="ExecReload=/bin/touch /run/web/reload")
        for server, line in (
            ("/srv/web/bin/uwsgi --ini /srv/web/uwsgi.ini", "ExecReload=kill -HUP $MAINPID"),
        )
    ],
    "SDA031": [
        *(
            Broken(service=f"{value} {comment}", at=f"{value} {comment}",
                   instead=f"{comment}\n{value}")
            for value, comment in (
                ("Restart=always", "# whatever happens"),
                ("Restart=always", "; whatever happens"),
                ("EnvironmentFile=/etc/web.env", "#secrets"),
                ("Environment=A=b 'C=d # e'", "# f"),
                (f"ExecStart={_SERVE}", "# the site"),
            )
        ),
        Broken(socket="Backlog=4096 # many", at="Backlog=4096 # many",
               instead="# many\nBacklog=4096"),
        Broken(socket_unit="After=network.target # why not", at="After=network.target # why not",
               instead="After=network.target"),
    ],
    "SDA032": [
        Broken(names=("front.socket", "web.service"),
               twin=Broken(names=("front.socket", "web.service"), socket="Service=web.service")),
        Broken(socket="Service=site.service", at="Service=site.service",
               instead="Service=web.service"),
    ],
    "SDA033": [
        Broken(service=f"Type=exec\nExecStart=\nExecStart={line}\nWatchdogSec=30",
               at="WatchdogSec=30", instead="WatchdogSec=0")
        for line in (
            "/srv/web/bin/gunicorn web.wsgi:application",
            "/srv/web/bin/uwsgi --ini /srv/web/uwsgi.ini",
            "/srv/web/bin/uvicorn --fd 3 web.asgi:application",
            f"{_SERVE} --server hypercorn",
        )
    ],
    "SDA034": [
        Broken(service_unit="StartLimitBurst=3\nStartLimitIntervalSec=60", at="StartLimitBurst=3",
               instead="StartLimitBurst=5"),
        Broken(service="StartLimitBurst=2\nStartLimitInterval=1min", at="StartLimitBurst=2",
               instead="StartLimitBurst=60"),
        Broken(service_unit="StartLimitBurst=1", at="StartLimitBurst=1",
               instead="StartLimitBurst=1\nStartLimitIntervalSec=0"),
    ],
    "SDA035": [
        Broken(service=f"ExecStart=\nExecStart={line}\nType=exec\nTimeoutStopSec=5",
               at="TimeoutStopSec=5", instead="TimeoutStopSec=70")
        for line in (
            "/srv/web/bin/gunicorn --graceful-timeout 30 web.wsgi:application",
            "/srv/web/bin/uvicorn --fd 3 --timeout-graceful-shutdown=6 web.asgi:application",
            f"{_SERVE} --graceful-timeout 1min",
        )
    ] + [
        Broken(service=f"ExecStart=\nExecStart={_SERVE} --graceful-timeout 5min",
               at=f"ExecStart={_SERVE} --graceful-timeout 5min",
               instead=f"ExecStart={_SERVE} --graceful-timeout 50")
    ],
    "SDA036": [
        Broken(service=line, at=line)
        for line in (
            "ExecStartPre=/srv/web/bin/python manage.py migrate --noinput",
            "ExecStartPre=-/srv/web/bin/django-admin --settings web.settings migrate",
            "ExecStartPre=/srv/web/bin/alembic -c alembic.ini upgrade head",
            "ExecStartPre=/srv/web/bin/python -m flask db upgrade",
        )
    ] + [
        Broken(service=f"ExecStart=\nExecStart={line}", at=f"ExecStart={line}",
               instead="ExecStart=/bin/bash -c 'exec gunicorn web.wsgi'")
        for line in ("/bin/bash -c 'python manage.py migrate && exec gunicorn web.wsgi'",)
    ],
    "SDA037": [
        Broken(socket="SocketGroup=web", service="User=\nDynamicUser=yes", at="SocketGroup=web",
               instead="SocketGroup=www-data"),
        Broken(socket="SocketGroup=site", service="User=site\nDynamicUser=on",
               at="SocketGroup=site"),
    ],
    "SDA038": [
        # another name, another case, another section, no section, a value, words without quotes
        Broken(service="EnvironmentFiles=/etc/web.env", at="EnvironmentFiles=/etc/web.env",
               instead="EnvironmentFile=/etc/web.env"),
        Broken(service="restart=always", at="restart=always", instead="Restart=always"),
        Broken(service="After=network.target", at="After=network.target"),
        Broken(service_unit="Restart=always", at="Restart=always"),
        Broken(service="[install]\nWantedBy=multi-user.target", at="WantedBy=multi-user.target",
               twin=Broken(service="[Install]\nWantedBy=multi-user.target")),
        Broken(service="Restart=yes", at="Restart=yes", instead="Restart=always"),
        Broken(service="RestartSec=5 seconds please", at="RestartSec=5 seconds please",
               instead="RestartSec=5 seconds"),
        Broken(service="EnvironmentFile=web.env", at="EnvironmentFile=web.env",
               instead="EnvironmentFile=/etc/web.env"),
        Broken(service="Environment=TITLE=our shop", at="Environment=TITLE=our shop",
               instead='Environment="TITLE=our shop"'),
        Broken(service='Environment="A=1 B_2=3"', at='Environment="A=1 B_2=3"',
               instead='Environment="A=1" "B_2=3"'),
        Broken(socket="Backlog=many", at="Backlog=many", instead="Backlog=4096"),
        Broken(socket="PartOf=web.target", at="PartOf=web.target"),
    ],
    "SDA039": [
        Broken(service=f"ExecStart=\nExecStart=cd /srv/web && {_SERVE}",
               at=f"ExecStart=cd /srv/web && {_SERVE}", instead=f"ExecStart={_SERVE}"),
        Broken(service=f"ExecStart=\nExecStart=PORT=80 {_SERVE}",
               at=f"ExecStart=PORT=80 {_SERVE}",
               instead=f"ExecStart={_SERVE}\nEnvironment=PORT=80"),
        Broken(service="ExecStartPre=~/bin/ready", at="ExecStartPre=~/bin/ready",
               instead="ExecStartPre=/srv/web/bin/ready"),
        Broken(service="ExecStartPre=/usr/bin/printf a > /run/web/a",
               at="ExecStartPre=/usr/bin/printf a > /run/web/a",
               instead="ExecStartPre=/bin/sh -c 'printf a > /run/web/a'"),
    ],
}  # fmt: skip

# Near misses: each looks like a rule's business and isn't.
FINE = [
    Broken(),
    Broken(service="ExecStart=\nExecStart=/bin/sh -c 'exec python -m sdactivate serve a.b'"),
    Broken(service="ExecStart=\nExecStart=/bin/bash -c 'cd /srv && python x'"),
    Broken(service="ExecStart=\nExecStart=/usr/bin/poetry run python x"),
    Broken(service="RuntimeDirectory=webby"),
    Broken(service="IPAddressAllow=10.0.0.0/8"),  # the socket has a path
    Broken(
        socket="ListenStream=80", service=f"{_HTTP}\nIPAddressDeny=any"
    ),  # meant for what goes out
    Broken(  # as gen --network local writes it: the same
        socket="ListenStream=80", service=f"{_HTTP}\nIPAddressDeny=any\nIPAddressAllow=localhost"
    ),
    Broken(socket="TriggerLimitBurst=0"),
    Broken(socket="TriggerLimitBurst=200"),
    Broken(socket="SocketMode=0600"),
    Broken(service="WorkingDirectory=/home/bob/site\nUser=bob"),
    Broken(service="WorkingDirectory=/homework"),
    Broken(socket="DirectoryMode=0700"),  # /run itself is not made
    Broken(
        socket="ListenFIFO=\nListenDatagram=/run/web.sock\nSocketMode=0666"
    ),  # takes no connections
    Broken(without=("Requires=web.socket",), socket="ListenStream=\nListenNetlink=route"),
    Broken(service="User=\nType=oneshot"),
    Broken(service="User=\nType=dbus"),
    Broken(service="User=\nStandardInput=tty"),
    Broken(service="User=\nExecStart=\nExecStart=-/usr/sbin/php-fpm8.2 --nodaemonize"),
    Broken(
        socket="ListenStream=\nListenStream=/run/web/s",
        service="User=\nType=oneshot\nRuntimeDirectory=web\nRuntimeDirectoryPreserve=yes",
    ),
    Broken(service=f"{_WRITTEN}\n{_NOW}"),
    Broken(service=f"{_WRITTEN}\n{_NOW}".replace("\nSystemCallFilter=~listen @keyring", "")),
    Broken(socket="ListenStream=80", service=f"{_WRITTEN}\n{_NOW}"),
    Broken(socket="ListenStream=80\nFileDescriptorName=http"),
    Broken(
        socket="ListenStream=80",
        service=f"ExecStart=\nExecStart={_SERVE} --protocol scgi --trust 10.0.0.1",
    ),
    Broken(socket="ListenStream=80", service="ExecStart=\nExecStart=/usr/bin/gunicorn web.wsgi"),
    Broken(socket="ListenStream=80", service="Environment=SDACTIVATE_SERVER=gunicorn"),
    Broken(service="ExecStart=\nExecStart=/usr/bin/uvicorn --fd 3 web.asgi:app\nType=exec"),
    Broken(service="ExecStart=\nExecStart=/usr/bin/gunicorn -k uvicorn.workers.UvicornWorker w"),
    Broken(service=f"ExecStart=\nExecStart={_SERVE} --server gunicorn"),
    # SDA026: the service stops with its socket; others with others; what does not stop it
    *(
        Broken(service_unit=f"{key}=web.socket")
        for key in ("PartOf", "BindsTo", "Requisite", "StopPropagatedFrom", "Wants")
    ),
    Broken(socket_unit="PartOf=web.target other-web.service\nConflicts=shutdown.target"),
    Broken(socket_unit="Before=web.service\nWants=web.service\nPropagatesStopTo=web.service"),
    Broken(service="ExecStartPost=/bin/systemctl reload nginx.service"),
    Broken(service="ExecStartPost=+/bin/systemctl stop web-old.socket"),
    # SDA027: measured to serve what they inherit, whatever they are told to bind
    *(
        Broken(service=f"ExecStart=\nExecStart={line}")
        for line in (
            "/srv/web/bin/gunicorn --bind unix:/run/web.sock web.wsgi:application",
            "/srv/web/bin/uwsgi --socket /run/web.sock --module web.wsgi",
            "/srv/web/bin/uwsgi --http-socket /run/web.sock --module web.wsgi",
            "/usr/bin/tornado --uds /run/web.sock",
        )
    ),
    *(
        Broken(service=f"Type=exec\nExecStart=\nExecStart={line}")
        for line in (
            "/srv/web/bin/uvicorn --fd 3 --host 127.0.0.1 web.asgi:application",
            "/srv/web/bin/hypercorn --bind fd://3 web.asgi:application",
            "/srv/web/bin/python -m sdactivate.servers.daphne -e systemd:domain=UNIX:index=0 a:b",
            "/srv/web/bin/uvicorn web.asgi:application",
        )
    ),
    # SDA028: another file, what its user may not do and need not, what leaves the file as it is
    *(
        Broken(service=line)
        for line in (
            "ExecStartPost=+/bin/chmod 666 /run/web.socket",
            "ExecStartPre=-/bin/rm -f /run/web.sock",
            "ExecStartPost=/usr/bin/curl --unix-socket /run/web.sock http://localhost/",
            "ExecStartPost=/bin/sh -c 'chmod o+r /run/web.ready; test -S /run/web.sock'",
            "ExecStartPost=+/usr/bin/logger chmod /run/web.sock",
        )
    ),
    # SDA030: what reloads at HUP, what is told in another way
    *(
        Broken(service=f"Type=exec\nExecStart=\nExecStart={server}\nExecReload={line}")
        for server, line in (
            ("/srv/web/bin/gunicorn web.wsgi:application", "/bin/kill -s HUP $MAINPID"),
            ("/srv/web/bin/hypercorn --bind fd://3 web.asgi:app", "/bin/kill -HUP $MAINPID"),
            ("/srv/web/bin/uvicorn --fd 3 --workers 2 web.asgi:app", "/bin/kill -HUP $MAINPID"),
            ("/srv/web/bin/uwsgi --ini web.ini", "/bin/touch /run/web/reload"),
            (f"{_SERVE} --server waitress", "/bin/kill -HUP $MAINPID"),
            (_SERVE, "/bin/kill -HUP $MAINPID"),
        )
    ),
    # SDA031: text, arguments, quotes, fragments; a comment of a section of somebody else's
    Broken(socket_unit="Description=web # 1\nDocumentation=https://web.test/#a https://web.test/b"),
    Broken(service="Environment=COLOUR=#fff \"TITLE=a # b\" 'C=d ;e'"),
    Broken(service="ExecStartPost=/usr/bin/irc #web 'a # b' ; /bin/true"),
    Broken(service="ExecStartPost=/bin/sh -c 'true # nothing'"),
    Broken(service="SyslogIdentifier=web # 1"),
    Broken(service_unit="# Restart=always # whatever"),
    # SDA032: another name, and said
    Broken(names=("front.socket", "web.service"), socket="Service=web.service"),
    Broken(names=("front.socket", "web.service"), service="Sockets=web.socket"),
    # SDA033: what reports, what may, what isn't watched
    Broken(service="WatchdogSec=30"),
    Broken(service=f"ExecStart=\nExecStart={_SERVE} --server waitress\nWatchdogSec=30"),
    Broken(service="ExecStart=\nExecStart=/bin/gunicorn w\nWatchdogSec=30\nNotifyAccess=all"),
    Broken(service="ExecStart=\nExecStart=/bin/gunicorn w\nWatchdogSec=0"),
    Broken(service="ExecStart=\nExecStart=/srv/web/bin/puma -C puma.rb\nWatchdogSec=10"),
    # SDA034
    Broken(service_unit="StartLimitBurst=10\nStartLimitIntervalSec=60"),
    Broken(service_unit="StartLimitBurst=1\nStartLimitIntervalSec=0"),
    Broken(service_unit="StartLimitBurst=3\nStartLimitIntervalSec=5"),
    # SDA035: nothing is said of the server's own, or systemd waits longer
    Broken(service="ExecStart=\nExecStart=/bin/gunicorn web.wsgi\nTimeoutStopSec=5"),
    Broken(service=f"ExecStart=\nExecStart={_SERVE} --graceful-timeout 20\nTimeoutStopSec=30"),
    Broken(service=f"ExecStart=\nExecStart={_SERVE} --graceful-timeout 9min\nTimeoutSec=infinity"),
    # SDA036: what only looks, and what has the word in its name
    Broken(service="ExecStartPre=/srv/web/bin/python manage.py migrate --check"),
    Broken(service="ExecStartPre=/srv/web/bin/python manage.py check --deploy"),
    Broken(service="ExecStartPre=/usr/bin/test -d /srv/migrate"),
    # SDA038: sections and settings of somebody else's, older names, specifiers, what is allowed
    Broken(service="X-Owner=shop\n[X-Shop]\nAnything=at all"),
    Broken(service="StartLimitInterval=10\nPermissionsStartOnly=yes\nMemoryLimit=1G"),
    Broken(service="WorkingDirectory=~\nEnvironmentFile=-/etc/web.env\nEnvironmentFile=%E/web.env"),
    Broken(service="RestartSec=1min 30s\nTimeoutStopSec=infinity\nTimeoutStartSec=1.5"),
    Broken(service="Environment=A=1 \"B=two words\" 'C=3' D= \\\n  E=5"),
    Broken(socket="FreeBind=on\nNoDelay=TRUE"),
    Broken(service='Environment="OPTIONS=--env A=1 -e B=2" "TITLE=a b=c"'),
    # SDA039: ; is systemd's own, and what a program is passed may look like a shell's
    Broken(service="ExecStartPre=/bin/true ; /bin/echo a"),
    Broken(service="ExecStartPre=/bin/bash -c 'source /etc/web.env && exec true > /dev/null'"),
    Broken(service="ExecStartPre=-+/usr/bin/test a=b"),
    # SDA037: a fixed user, another group
    Broken(socket="SocketGroup=web"),
    Broken(service="User=\nDynamicUser=yes"),
    Broken(socket="Accept=no\nBacklog=1024\nFlushPending=no\nRemoveOnStop=no"),
    Broken(
        service="ExecStart=\nExecStart=/home/b/python x\nProtectHome=yes\nBindReadOnlyPaths=/home/b"
    ),
]


def units(broken: Broken) -> dict[str, str]:
    """The files of a setup, by name."""

    def built(text: str, added: str, section: str, unit: str) -> str:
        lines = [line for line in text.splitlines() if line not in broken.without]
        lines[1:1] = unit.splitlines()
        place = lines.index(f"[{section}]") + 1
        end = next((i for i in range(place, len(lines)) if lines[i].startswith("[")), len(lines))
        return "\n".join([*lines[:end], *added.splitlines(), *lines[end:]]) + "\n"

    socket, service = broken.names
    written = built(SERVICE, broken.service, "Service", broken.service_unit)
    files = {
        socket: built(SOCKET, broken.socket, "Socket", broken.socket_unit),
        service: written.replace("web.socket", socket),
    }
    if broken.extra:
        files["admin.socket"] = broken.extra
        files["web.service"] = files["web.service"].replace("Requires=", "Requires=admin.socket ")
    return files


def twin(broken: Broken) -> dict[str, str]:
    """The files of the setup that works: with another line for the one at fault, or with what the
    broken one lacks."""
    if broken.twin is not None:
        return units(broken.twin)
    if not broken.at:
        return units(broken._replace(without=()))

    def mended(text: str) -> str:
        lines = text.splitlines()
        return "\n".join(broken.instead if line == broken.at else line for line in lines) + "\n"

    return {name: mended(text) for name, text in units(broken).items()}
