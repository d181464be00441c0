"""A broken setup for each rule that unit files alone can break, and nothing else broken in it."""

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
_LONG = "ListenStream=/run/" + "x" * 103

OFFLINE: dict[str, list[Broken]] = {
    "SDA001": [Broken(without=("SocketMode=0660",))],
    "SDA002": [
        Broken(socket="SocketMode=0666", at="SocketMode=0666"),
        Broken(socket="SocketMode=0662", at="SocketMode=0662"),
    ],
    "SDA003": [
        Broken(socket="SocketUser=bob", at="SocketUser=bob", without=("SocketGroup=www-data",))
    ],
    "SDA004": [
        Broken(socket=f"ListenStream=\n{_LONG}", at=_LONG)
    ],
    "SDA005": [Broken(socket="ListenStream=@web", at="ListenStream=@web")],
    "SDA006": [
        Broken(socket="ListenStream=127.0.0.1:80", service=_HTTP, at="ListenStream=127.0.0.1:80"),
        Broken(socket="ListenStream=[::1]:8000", service=_HTTP, at="ListenStream=[::1]:8000"),
    ],
    "SDA007": [
        Broken(socket="SocketUser=web", at="SocketUser=web"),
        Broken(socket="SocketUser=web", service="User=\nDynamicUser=yes", at="SocketUser=web"),
    ],
    "SDA008": [
        Broken(socket="ListenStream=\nListenStream=/tmp/web.sock", at="ListenStream=/tmp/web.sock"),
        Broken(socket="ListenStream=\nListenStream=/var/tmp/a/web.sock", service="PrivateTmp=yes",
               at="ListenStream=/var/tmp/a/web.sock"),
        Broken(socket="ListenStream=\nListenStream=%T/web.sock", at="ListenStream=%T/web.sock"),
    ],
    "SDA009": [
        Broken(socket="ListenStream=\nListenStream=/run/web/s", service="RuntimeDirectory=web",
               at="RuntimeDirectory=web"),
        Broken(socket="ListenStream=\nListenStream=%t/%p/sub/s", service="RuntimeDirectory=x %N",
               at="RuntimeDirectory=x %N"),
        Broken(socket="ListenStream=\nListenStream=/run/web/s",
               service="RuntimeDirectory=web\nRuntimeDirectoryPreserve=yes",
               at="RuntimeDirectory=web"),
        Broken(socket="ListenStream=\nListenStream=/var/run/web/s",
               service="RuntimeDirectory=web", at="RuntimeDirectory=web"),
    ],
    "SDA010": [Broken(socket="RemoveOnStop=yes", at="RemoveOnStop=yes")],
    "SDA011": [Broken(socket="FlushPending=on", at="FlushPending=on")],
    "SDA012": [Broken(socket="Accept=yes", at="Accept=yes", service="# for web.socket")],
    "SDA013": [Broken(socket="MaxConnections=64", at="MaxConnections=64")],
    "SDA014": [
        Broken(socket="TriggerLimitBurst=3", at="TriggerLimitBurst=3"),
        Broken(socket="TriggerLimitIntervalSec=1min", at="TriggerLimitIntervalSec=1min"),
    ],
    "SDA015": [Broken(socket="Backlog=16", at="Backlog=16")],
    "SDA016": [
        Broken(socket="ListenStream=\nListenStream=/run/web/s\nDirectoryMode=0750",
               at="DirectoryMode=0750")
    ],
    "SDA017": [Broken(extra="[Socket]\nListenStream=/run/b.sock\nSocketMode=0660\nSocketGroup=web\n"
                            "FileDescriptorName=b\nService=web.service\n",
                      service="Sockets=web.socket admin.socket")],
    "SDA018": [Broken(without=("Requires=web.socket",))],
    "SDA019": [
        Broken(service=f"ExecStart=\nExecStart={line}", at=f"ExecStart={line}")
        for line in (
            "/usr/bin/uv run python -m sdactivate serve web.wsgi",
            "/bin/sh -c 'cd /srv; python -m sdactivate serve web.wsgi'",
            "-/usr/bin/env A=b /usr/bin/timeout 9 python -m sdactivate serve web.wsgi",
            "/bin/bash -c 'python -m sdactivate serve web.wsgi | logger'",
        )
    ] + [
        Broken(service=f"ExecStart=\nExecStart={line}", at=f"ExecStart={line}")
        for line in (
            "/srv/web/bin/gunicorn --daemon web.wsgi",
            "/srv/web/bin/gunicorn web.wsgi -D",
            "/srv/web/bin/uwsgi --ini /srv/web/uwsgi.ini --daemonize=/var/log/uwsgi.log",
        )
    ] + [Broken(service="Type=forking", at="Type=forking")],
    "SDA020": [Broken(service="User=root", at="User=root"), Broken(without=("User=web",))],
    "SDA021": [
        Broken(socket="ListenStream=\nListenStream=80",
               service=f"{_HTTP}\nIPAddressDeny=any\nIPAddressAllow=10.0.0.0/8",
               at="IPAddressAllow=10.0.0.0/8")
    ],
    "SDA022": [
        Broken(service="ExecStart=\nExecStart=/home/bob/v/bin/python x\nProtectHome=yes",
               at="ExecStart=/home/bob/v/bin/python x"),
        Broken(service="WorkingDirectory=/root/site", at="WorkingDirectory=/root/site"),
        Broken(service="WorkingDirectory=/home/bob/site\nUser=\nDynamicUser=yes",
               at="WorkingDirectory=/home/bob/site"),
    ],
    "SDA023": [
        Broken(service=f"{_WRITTEN}\nRestartSec=2"),
        Broken(service=_WRITTEN + "\n" + _NOW.replace("MemoryMax=80%\n", "")),
    ],
    "SDA024": [
        Broken(socket="ListenStream=80", at="ListenStream=80"),
        Broken(socket="ListenStream=vsock::80", service="Environment=SDACTIVATE_PROTOCOL=auto",
               at="ListenStream=vsock::80"),
        Broken(socket="ListenStream=80", service="Environment=SDACTIVATE_PROTOCOL=fastcgi",
               at="ListenStream=80"),
        Broken(socket="ListenStream=80\nFileDescriptorName=scgi", at="ListenStream=80"),
        Broken(socket="ListenStream=80", service=f"ExecStart=\nExecStart={_SERVE} --protocol=uwsgi",
               at="ListenStream=80"),
    ],
    "SDA025": [
        Broken(service=f"ExecStart=\nExecStart={line}\nType=notify", at="Type=notify")
        for line in (
            "/srv/web/bin/uvicorn --fd 3 web.asgi:application",
            "/srv/web/bin/python -m hypercorn --bind fd://3 web.asgi:application",
            f"{_SERVE} --server daphne",
        )
    ],
    "SDA026": [
        *(
            Broken(socket_unit=f"{key}=network.target web.service",
                   at=f"{key}=network.target web.service")
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
        Broken(service=f"Type=exec\nExecStart=\nExecStart={line}", at=f"ExecStart={line}")
        for line in (
            "/srv/web/bin/uvicorn --uds /run/web.sock web.asgi:application",
            "/srv/web/bin/python -m uvicorn web.asgi:application --uds=%t/%N.sock",
            "/bin/bash -c '. bin/activate && exec uvicorn --uds /run/web.sock web.asgi:app'",
            "/srv/web/bin/hypercorn --bind unix:/run/web.sock web.asgi:application",
            "/srv/web/bin/hypercorn --bind unix:/var/run/web.sock web.asgi:application",
            "/srv/web/bin/hypercorn -b 127.0.0.1:8000 web.asgi:application",
            "/srv/web/bin/daphne -u /run/web.sock web.asgi:application",
            "/srv/web/bin/daphne -p 8000 web.asgi:application",
            "/srv/web/bin/waitress-serve --unix-socket=/run/web.sock web.wsgi:application",
            "/srv/web/bin/waitress-serve --listen=*:8000 web.wsgi:application",
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
        Broken(service=f"ExecStart=\nExecStart={line}", at=f"ExecStart={line}")
        for line in (
            "/srv/web/bin/gunicorn -b fd://3 web.wsgi:application",
            "/srv/web/bin/python3 -m gunicorn --workers 2 --bind=fd://3 web.wsgi:application",
        )
    ],
    "SDA030": [
        Broken(service=f"Type=exec\nExecStart=\nExecStart={server}\n{line}", at=line)
        for server, line in (
            ("/srv/web/bin/uvicorn --fd 3 web.asgi:app", "ExecReload=/bin/kill -HUP $MAINPID"),
            ("/srv/web/bin/uvicorn --fd 3 web.asgi:app", "ExecReload=/bin/kill -s HUP ${MAINPID}"),
            ("/srv/web/bin/uvicorn --fd 3 --workers 1 a:b", "ExecReload=kill -1 $MAINPID"),
            (f"{_SERVE} --server daphne", "ExecReload=-/bin/kill --signal=SIGHUP $MAINPID"),
            ("/srv/web/bin/uwsgi --ini /srv/web/uwsgi.ini", "ExecReload=kill -HUP $MAINPID"),
            ("/srv/web/bin/waitress-serve web.wsgi:app", "ExecReload=/bin/kill -HUP $MAINPID"),
        )
    ],
    "SDA031": [
        *(
            Broken(service=line, at=line)
            for line in (
                "Restart=always # whatever happens",
                "Restart=always ; whatever happens",
                "EnvironmentFile=/etc/web.env #secrets",
                "Environment=A=b 'C=d # e' # f",
                f"ExecStart={_SERVE} # the site",
            )
        ),
        Broken(socket="Backlog=4096 # many", at="Backlog=4096 # many"),
        Broken(socket_unit="After=network.target # why not", at="After=network.target # why not"),
    ],
    "SDA032": [
        Broken(names=("front.socket", "web.service")),
        Broken(socket="Service=site.service", at="Service=site.service"),
    ],
    "SDA033": [
        Broken(service=f"Type=exec\nExecStart=\nExecStart={line}\nWatchdogSec=30",
               at="WatchdogSec=30")
        for line in (
            "/srv/web/bin/gunicorn web.wsgi:application",
            "/srv/web/bin/uwsgi --ini /srv/web/uwsgi.ini",
            "/srv/web/bin/uvicorn --fd 3 web.asgi:application",
            f"{_SERVE} --server hypercorn",
        )
    ],
    "SDA034": [
        Broken(service_unit="StartLimitBurst=3\nStartLimitIntervalSec=60", at="StartLimitBurst=3"),
        Broken(service="StartLimitBurst=2\nStartLimitInterval=1min", at="StartLimitBurst=2"),
        Broken(service_unit="StartLimitBurst=1", at="StartLimitBurst=1"),
    ],
    "SDA035": [
        Broken(service=f"ExecStart=\nExecStart={line}\nType=exec\nTimeoutStopSec=5",
               at="TimeoutStopSec=5")
        for line in (
            "/srv/web/bin/gunicorn --graceful-timeout 30 web.wsgi:application",
            "/srv/web/bin/uvicorn --fd 3 --timeout-graceful-shutdown=6 web.asgi:application",
            f"{_SERVE} --graceful-timeout 1min",
        )
    ] + [
        Broken(service=f"ExecStart=\nExecStart={_SERVE} --graceful-timeout 5min",
               at=f"ExecStart={_SERVE} --graceful-timeout 5min")
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
        Broken(service=f"ExecStart=\nExecStart={line}", at=f"ExecStart={line}")
        for line in ("/bin/bash -c 'python manage.py migrate && exec gunicorn web.wsgi'",)
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
    Broken(socket="PartOf=web.service"),  # in [Socket]: systemd passes over it
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
