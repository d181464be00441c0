"""Deployments that others wrote, in our own words: docs/public-cases.md has their sources.

A case is files and shell. Its files are written, SETUP and `setup` are run, and a client asks.
BIN stands for the directory of the servers, UNITS for that of units. Lines of units are as long as they are.
"""

# ruff: noqa: E501

from typing import NamedTuple

BIN = "/opt/sdactivate/bin"
UNITS = "/etc/systemd/system"

EACH_TIME = (
    *("B05", "B08", "B09", "B10", "B17", "B18", "B24", "N06", "N07", "N08"),
    *("P02", "P03", "P05", "P14", "P17", "P18", "P19"),
    *("Q06", "Q10", "Q15"),
    *("L01", "L03", "L06"),
    *("R01", "R04", "R06", "R11", "S09", "S12"),
    *("W04", "W12", "W19", "W27"),
)
"""Those that the tests run each time: one of each rule that is not broken elsewhere, one of a
service's own socket, and what is nearest to them and works."""

WSGI = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served\\n"]
"""
LIFESPAN = """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
"""
ASGI = (
    LIFESPAN
    + """\
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"served\\n"})
"""
)


class Case(NamedTuple):
    """A deployment: what the doctor is asked about, what is written, and what is run."""

    id: str
    name: str
    files: dict[str, str]
    setup: str = ""
    """Run with the files in place: accounts, owners; then what starts it all."""
    front: str = "nginx"
    """The unit of the front without its suffix."""
    url: str = "http://localhost/"
    headers: tuple[str, ...] = ()
    body: int = 0
    """So many bytes are sent with each request."""
    follows: bool = False
    """Whether the client goes where it is redirected to; the status is that of the last answer."""
    works: str = "200"
    """The status that a client gets where all is well."""
    answer: str = "200"
    """The status that a client gets, or "000" where there is no answer within five seconds."""
    until: str = ""
    """Shell that ends with 0 once all is as broken as it gets; a service that fails has failed."""
    by_url: bool = False
    """Whether the doctor has to be told the page: nothing else on the machine has the cause."""
    finds: str = ""
    """The rule of the first finding, "" where it depends on the moment."""
    says: str = ""
    """A part of what it says."""
    fix: str = ""
    """A part of the fix that it gives."""
    done: str = ""
    """Shell that does what the fix says, where it is not a command or lines for a unit."""


def nginx(passes: str, more: str = "", at: str = "/etc/nginx/sites-enabled/site") -> dict[str, str]:
    """nginx's part: one server, which passes everything on."""
    text = f"""
server {{
    listen 80;
    server_name localhost;
    {more}
    location / {{
        {passes}
    }}
}}
"""
    return {at: text}


def proxy(path: str, more: str = "", name: str = "site") -> dict[str, str]:
    """nginx's part for a server that speaks HTTP, with Debian's own parameters."""
    passes = f"include proxy_params;\n        proxy_pass http://{path};"
    return nginx(passes, more, f"/etc/nginx/sites-enabled/{name}")


def unit(name: str, text: str) -> dict[str, str]:
    """A unit, with a description and a place in the boot."""
    kind = "sockets" if name.endswith(".socket") else "multi-user"
    install = f"[Install]\nWantedBy={kind}.target\n"
    return {f"{UNITS}/{name}": f"[Unit]\nDescription={name}\n{text.strip()}\n\n{install}"}


BROKEN: tuple[Case, ...] = (
    Case(
        "B01",
        "shelf",
        unit("shelf.socket", "[Socket]\nListenStream=/run/shelf/web.sock")
        | unit(
            "shelf.service",
            f"""
Requires=shelf.socket
After=network.target
[Service]
PIDFile=/run/shelf/pid
User=shelf
Group=shelf
RuntimeDirectory=shelf
WorkingDirectory=/srv/shelf
ExecStart={BIN}/gunicorn --pid /run/shelf/pid --bind unix:/run/shelf/web.sock web
ExecReload=/bin/kill -s HUP $MAINPID
PrivateTmp=true
""",
        )
        | {"/srv/shelf/web.py": WSGI}
        | proxy("unix:/run/shelf/web.sock"),
        """
useradd --system shelf
systemctl start shelf.socket nginx
curl -s --retry 5 http://localhost/ >/dev/null
systemctl restart shelf.service
""",
        answer="502",
        finds="SDA009",
        says="removes /run/shelf and /run/shelf/",
        fix="ListenStream=/run/shelf.sock",
        done=f"""
sed -i s,/run/shelf/web.sock,/run/shelf.sock, {UNITS}/shelf.* /etc/nginx/sites-enabled/site
systemctl daemon-reload
systemctl stop shelf.service
systemctl restart shelf.socket
systemctl reload nginx
curl -s http://localhost/ >/dev/null
systemctl restart shelf.service
""",
    ),
    Case(
        "B02",
        "quay",
        unit("quay.socket", "[Socket]\nListenStream=/run/quay.sock")
        | unit(
            "quay.service",
            f"""
[Service]
Type=forking
PIDFile=/srv/quay/run/pid
User=quay
WorkingDirectory=/srv/quay
ExecStart={BIN}/gunicorn --daemon -p /srv/quay/run/pid web
""",
        )
        | {"/srv/quay/web.py": WSGI}
        | proxy("unix:/run/quay.sock"),
        """
useradd --system quay
install -d -o quay /srv/quay/run
systemctl start quay.socket nginx
""",
        answer="000",
        finds="SDA019",
        says="with --daemon the server forks",
        fix="remove --daemon",
        done=f"""
sed -i 's/--daemon//; s/Type=forking/Type=notify/; /PIDFile/d' {UNITS}/quay.service
systemctl daemon-reload
systemctl stop quay.socket quay.service
systemctl start quay.socket
""",
    ),
    Case(
        "B03",
        "uwsgi-app@wiki",
        {
            f"{UNITS}/uwsgi-app@.socket": """[Unit]
Description=Socket for uWSGI app %i

[Socket]
ListenStream=/run/uwsgi/%i.socket
SocketGroup=www-data
SocketMode=0660

[Install]
WantedBy=sockets.target
""",
            f"{UNITS}/uwsgi-app@.service": f"""[Unit]
Description=%i uWSGI app

[Service]
ExecStart={BIN}/uwsgi --ini /etc/uwsgi/apps-available/%i.ini --socket /var/run/uwsgi/%i.socket
User=%i
Group=www-data
KillSignal=SIGQUIT
Type=notify
NotifyAccess=all
""",
            "/etc/uwsgi/apps-available/wiki.ini": """[uwsgi]
chdir = /srv/wiki
module = web
master = true
processes = 2
""",
            "/srv/wiki/web.py": WSGI,
        }
        | nginx("include uwsgi_params; uwsgi_pass unix:/run/uwsgi/wiki.socket;"),
        "useradd --system wiki; systemctl start uwsgi-app@wiki.socket nginx",
        answer="502",
        finds="SDA027",
        says="treats /var/run/uwsgi/wiki.socket and the inherited ",
        fix="remove /var/run/uwsgi/wiki.socket and its option",
        done=f"""
sed -i 's,--socket /var/run/uwsgi/%i.socket,,' {UNITS}/uwsgi-app@.service
systemctl daemon-reload
systemctl reset-failed
systemctl restart uwsgi-app@wiki.socket
""",
    ),
    Case(
        "B04",
        "lists",
        unit(
            "lists.service",
            f"""
[Service]
User=lists
Group=lists
ExecStart={BIN}/uwsgi --ini /etc/lists.ini
KillSignal=SIGQUIT
Type=notify
""",
        )
        | {
            "/etc/lists.ini": """[uwsgi]
chdir = /srv/lists
module = web
master = true
socket = /tmp/lists.sock
chmod-socket = 666
vacuum = true
""",
            "/srv/lists/web.py": WSGI,
            "/etc/apache2/sites-enabled/lists.conf": """
<VirtualHost *:80>
    ServerName localhost
    ProxyPass / unix:/tmp/lists.sock|uwsgi://lists/
</VirtualHost>
""",
        },
        """
useradd --system lists
a2enmod -q proxy proxy_uwsgi >/dev/null
rm -f /etc/apache2/sites-enabled/000-default.conf
systemctl start lists apache2
""",
        front="apache2",
        answer="503",
        finds="SDA106",
        says="they have another view of the file system (PrivateTmp=",
        fix="RuntimeDirectory=lists in [Service], and socket = /run/lists/web.sock",
        done=f"""
sed -i '/^User=/i RuntimeDirectory=lists' {UNITS}/lists.service
sed -i s,/tmp/lists.sock,/run/lists/web.sock, /etc/lists.ini /etc/apache2/sites-enabled/lists.conf
systemctl daemon-reload
systemctl restart lists.service
systemctl reload apache2.service
""",
    ),
    Case(
        "B05",
        "mirror",
        unit(
            "mirror.service",
            f"""
[Service]
User=mirror
RuntimeDirectory=mirror
WorkingDirectory=/srv/mirror
ExecStart={BIN}/waitress-serve --unix-socket=/run/mirror/web.sock web:application
Restart=on-failure
""",
        )
        | {"/srv/mirror/web.py": WSGI}
        | proxy("unix:/run/mirror/web.sock"),
        "useradd --system mirror; systemctl start mirror nginx",
        answer="502",
        finds="SDA102",
        says="others have ---, which lacks w (mirror:mirror rw-------)",
        fix="--unix-socket-perms=660 in ExecStart= of mirror.service, and Group=www-data",
        done=f"""
sed -i 's/--unix-socket=/--unix-socket-perms=660 &/; /^User=/a Group=www-data' {UNITS}/mirror.service
systemctl daemon-reload
systemctl restart mirror.service
""",
    ),
    Case(
        "B06",
        "paste",
        unit(
            "paste.service",
            f"""
After=network.target
[Service]
User=paste
Group=paste
WorkingDirectory=/home/paste
ExecStart={BIN}/gunicorn --workers 2 --bind unix:/home/paste/gunicorn.sock web
""",
        )
        | {"/home/paste/web.py": WSGI}
        | proxy("unix:/home/paste/gunicorn.sock"),
        """
useradd --home-dir /home/paste paste
chown -R paste: /home/paste
chmod 750 /home/paste
systemctl start paste nginx
""",
        answer="502",
        finds="SDA102",
        says="/home/paste: others have ---, which lacks x",
        fix="set paste.service to create its socket in a directory of its own",
        done=f"""
sed -i 's,unix:/home/paste/gunicorn.sock,unix:/run/paste/web.sock,' {UNITS}/paste.service /etc/nginx/sites-enabled/site
sed -i '/^User=/i RuntimeDirectory=paste' {UNITS}/paste.service
systemctl daemon-reload
systemctl restart paste.service
systemctl reload nginx.service
""",
    ),
    Case(
        "B07",
        "ticker",
        unit(
            "ticker.service",
            f"""
[Service]
User=ticker
WorkingDirectory=/srv/ticker
ExecStart={BIN}/gunicorn --bind unix:/tmp/ticker.sock web
""",
        )
        | {
            "/srv/ticker/web.py": WSGI,
            "/etc/haproxy/haproxy.cfg": """
global
    log /dev/log local0
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
    daemon

defaults
    mode http
    log global
    option httplog
    timeout connect 3s
    timeout client 30s
    timeout server 30s

frontend web
    bind *:80
    default_backend ticker

backend ticker
    server ticker1 unix@/tmp/ticker.sock
""",
        },
        "useradd --system ticker; systemctl start ticker haproxy",
        front="haproxy",
        answer="503",
        finds="SDA126",
        says="connects to /tmp/ticker.sock in its chroot /var/lib/haproxy",
        fix="install -d -o ticker /var/lib/haproxy/ticker, set ticker.service to create its socket there",
        done=f"""
install -d -o ticker /var/lib/haproxy/ticker
sed -i s,unix:/tmp/ticker.sock,unix:/var/lib/haproxy/ticker/web.sock, {UNITS}/ticker.service
sed -i s,unix@/tmp/ticker.sock,unix@/ticker/web.sock, /etc/haproxy/haproxy.cfg
systemctl daemon-reload
systemctl restart ticker.service
systemctl reload haproxy.service
""",
    ),
    Case(
        "B08",
        "board",
        unit(
            "board.service",
            f"""
[Service]
User=board
Group=www-data
RuntimeDirectory=board
WorkingDirectory=/srv/board
ExecStart={BIN}/daphne -u /run/board/daphne.sock web:application
Restart=always
""",
        )
        | {"/srv/board/web.py": ASGI}
        | nginx("include uwsgi_params; uwsgi_pass unix:/run/board/daphne.sock;"),
        "useradd --system board; systemctl start board nginx",
        answer="502",
        until="ss -xl state listening | grep -q /run/board/daphne.sock",
        finds="SDA140",
        says="nginx uses uwsgi for /run/board/daphne.sock",
        fix="write proxy_pass http://unix:/run/board/daphne.sock",
        done="""
sed -i 's,include uwsgi_params; uwsgi_pass ,include proxy_params; proxy_pass http://,' /etc/nginx/sites-enabled/site
systemctl reload nginx.service
""",
    ),
    Case(
        "B09",
        "jobs",
        unit(
            "jobs.service",
            f"""
[Service]
User=jobs
Group=www-data
RuntimeDirectory=jobs
ExecStart={BIN}/uwsgi --ini /srv/jobs/server.ini
Type=notify
KillSignal=SIGQUIT
""",
        )
        | {
            "/srv/jobs/server.ini": """[uwsgi]
chdir = /srv/jobs
module = web
master = true
processes = 2
socket = /run/jobs/web.sock
chmod-socket = 660
""",
            "/srv/jobs/web.py": WSGI,
        }
        | nginx("include uwsgi_params; uwsgi_pass unix:/run/jobs/web.sock;"),
        "useradd --system jobs; systemctl start jobs nginx",
        headers=("Cookie: session=" + 6000 * "x",),
        answer="502",
        finds="SDA142",
        says="at most 4096 bytes of request header",
        fix="buffer-size = 32768",
        done="""
echo buffer-size = 32768 >>/srv/jobs/server.ini
systemctl restart jobs.service
""",
    ),
    Case(
        "B10",
        "wall",
        unit(
            "wall.service",
            f"""
[Service]
User=wall
Group=www-data
RuntimeDirectory=wall
ExecStart={BIN}/uwsgi --ini /srv/wall/wall.ini
KillSignal=SIGQUIT
Restart=always
""",
        )
        | {
            "/srv/wall/wall.ini": """[uwsgi]
chdir = /srv/wall
wsgi-file = web.py
master = true
processes = 2
socket = /run/wall/web.sock
chmod-socket = 660
""",
            "/srv/wall/web.py": f"log = open('/var/log/wall.log', 'a')\n{WSGI}",
        }
        | nginx("include uwsgi_params; uwsgi_pass unix:/run/wall/web.sock;"),
        """
useradd --system wall
touch /var/log/wall.log
systemctl start wall nginx
""",
        answer="500",
        finds="SDA141",
        says="Permission denied: '/var/log/wall.log'",
        fix="chown wall /var/log/wall.log",
        done="""
chown wall /var/log/wall.log
systemctl restart wall.service
""",
    ),
    Case(
        "B11",
        "hello",
        unit(
            "hello.service",
            f"""
[Service]
User=hello
Group=www-data
RuntimeDirectory=hello
WorkingDirectory=/srv/hello
ExecStart={BIN}/gunicorn --workers 3 --bind unix:/run/hello/web.sock -m 007 wsgi:application
""",
        )
        | {
            "/srv/hello/wsgi.py": "from project import application\n",
            "/srv/hello/project.py": f"""from wsgiref.simple_server import make_server

{WSGI}

make_server("127.0.0.1", 5000, application).serve_forever()
""",
        }
        | proxy("unix:/run/hello/web.sock"),
        "useradd --system hello; systemctl start hello nginx",
        answer="502",
        until="journalctl -u hello | grep -q 'exited with code 3'",
        # SDA141 while gunicorn ends, SDA110 once it has
        says="Address already in use (/srv/hello/project.py, line 9",
        fix='under if __name__ == "__main__"',
        done="""
sed -i 's/^make_server/if __name__ == "__main__": &/' /srv/hello/project.py
systemctl restart hello.service
""",
    ),
    Case(
        "B12",
        "bench",
        unit(
            "bench.service",
            f"""
[Service]
User=bench
ExecStart={BIN}/uwsgi --master --listen 20000 -s 127.0.0.1:8080 --chdir /srv/bench -w web
""",
        )
        | {"/srv/bench/web.py": WSGI}
        | nginx("include uwsgi_params; uwsgi_pass 127.0.0.1:8080;"),
        "useradd --system bench; systemctl start bench nginx",
        answer="502",
        finds="SDA110",
        says="Listen queue size is greater than the system max",
        fix="set listen = 4096 or less",
        done=f"""
sed -i 's/--listen 20000/--listen 4096/' {UNITS}/bench.service
systemctl daemon-reload
systemctl restart bench.service
""",
    ),
    Case(
        "B13",
        "ledger",
        unit(
            "ledger.service",
            f"""
[Service]
User=ledger
Group=www-data
RuntimeDirectory=ledger
WorkingDirectory=/srv/ledger
ExecStart={BIN}/gunicorn --pid /srv/ledger/run/ledger.pid --bind unix:/run/ledger/web.sock web
""",
        )
        | {"/srv/ledger/web.py": WSGI, "/srv/ledger/run/ledger.pid": "1\n"}
        | proxy("unix:/run/ledger/web.sock"),
        """
useradd --system ledger
chown -R ledger: /srv/ledger/run
systemctl start ledger nginx
""",
        answer="502",
        finds="SDA110",
        says="pid file '/srv/ledger/run/ledger.pid' is stale",
        fix="rm /srv/ledger/run/ledger.pid",
        done="""
rm /srv/ledger/run/ledger.pid
systemctl restart ledger.service
""",
    ),
    Case(
        "B14",
        "radio",
        unit(
            "radio.service",
            """
[Service]
User=radio
Group=www-data
WorkingDirectory=/srv/radio
ExecStart=gunicorn --bind 127.0.0.1:8000 web:application
""",
        )
        | {"/srv/radio/web.py": WSGI}
        | proxy("127.0.0.1:8000"),
        f"""
useradd --system radio
mkdir /srv/radio/venv && ln -s {BIN} /srv/radio/venv/bin
systemctl start radio || true
systemctl start nginx
""",
        answer="502",
        finds="SDA110",
        says="gunicorn: No such file or directory (ExecStart=gunicorn",
        fix="correct the path",
        done=f"""
sed -i s,=gunicorn,=/srv/radio/venv/bin/gunicorn, {UNITS}/radio.service
systemctl daemon-reload
systemctl restart radio.service
""",
    ),
    Case(
        "B15",
        "panel-web",
        unit(
            "panel-web.service",
            f"""
[Service]
Type=simple
User=panel
Group=panel
WorkingDirectory=/opt/panel
ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 web -w 3 --timeout=120 --log-level=error
Restart=on-failure
RestartSec=5
""",
        )
        | {"/opt/panel/web.py": WSGI}
        | proxy("127.0.0.1:8000"),
        "systemctl start panel-web nginx || true",
        answer="502",
        until="journalctl -u panel-web | grep -q 'Failed with result'",
        finds="SDA110",
        says="User= names a user that doesn't exist",
        fix="create the user (useradd --system NAME)",
        done="""
useradd --system panel
systemctl restart panel-web.service
""",
    ),
    Case(
        "B16",
        "course",
        unit(
            "course.service",
            """
[Service]
User=course
Group=course
WorkingDirectory=/srv/course/code
ExecStart=/srv/course/start
""",
        )
        | {
            "/srv/course/start": f"""#!/bin/bash
cd /srv/course/code
export DJANGO_SETTINGS_MODULE=settings
exec {BIN}/gunicorn wsgi:application --bind=unix:/srv/course/run/course.sock --log-level=error
""",
            "/srv/course/code/settings.py": """import os

SECRET_KEY = os.environ["COURSE_SECRET"]
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
""",
            "/srv/course/code/urls.py": """from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse("served"))]
""",
            "/srv/course/code/wsgi.py": """from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
""",
            "/srv/course/env": "COURSE_SECRET=not-so-secret\n",
        }
        | proxy("unix:/srv/course/run/course.sock"),
        """
useradd --system course
chmod 755 /srv/course/start
install -d -o course /srv/course/run
systemctl start course nginx
""",
        answer="502",
        finds="SDA110",
        says="KeyError: 'COURSE_SECRET' (/srv/course/code/settings.py",
        fix="EnvironmentFile= in the service",
        done=f"""
sed -i '/^User=/i EnvironmentFile=/srv/course/env' {UNITS}/course.service
systemctl daemon-reload
systemctl restart course.service
""",
    ),
    Case(
        "B17",
        "shop",
        unit(
            "shop.service",
            f"""
[Service]
User=shop
Group=www-data
RuntimeDirectory=shop
WorkingDirectory=/srv/shop
Environment=DJANGO_SETTINGS_MODULE=settings
ExecStart={BIN}/gunicorn --bind unix:/run/shop/web.sock -m 007 wsgi:application
""",
        )
        | {
            "/srv/shop/settings.py": """SECRET_KEY = "not-so-secret"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = "urls"
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
SECURE_SSL_REDIRECT = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
""",
            "/srv/shop/urls.py": """from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse("served"))]
""",
            "/srv/shop/wsgi.py": """from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
""",
            "/etc/nginx/sites-enabled/shop": """
upstream app {
    server unix:/run/shop/web.sock;
}
server {
    listen 80;
    server_name localhost;
    return 301 https://$host$request_uri;
}
server {
    listen 443 ssl;
    server_name localhost;
    ssl_certificate /etc/ssl/shop.pem;
    ssl_certificate_key /etc/ssl/shop.key;

    location / {
        try_files $uri @proxy_to_app;
    }
    location @proxy_to_app {
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header Host $http_host;
        proxy_redirect off;
        proxy_pass http://app;
    }
}
""",
        },
        """
useradd --system shop
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \\
    -keyout /etc/ssl/shop.key -out /etc/ssl/shop.pem 2>/dev/null
systemctl start shop nginx
""",
        url="https://localhost/",
        answer="301",
        finds="SDA144",
        says="does not tell the application",
        fix="proxy_set_header X-Forwarded-Proto $scheme;",
        done="""
sed -i 's/proxy_redirect off;/& proxy_set_header X-Forwarded-Proto $scheme;/' /etc/nginx/sites-enabled/shop
systemctl reload nginx.service
""",
    ),
    Case(
        "B18",
        "reel",
        unit(
            "reel.socket",
            "[Socket]\nListenStream=/run/reel.sock\nSocketGroup=www-data\nSocketMode=0660",
        )
        | unit(
            "reel.service",
            f"""
Requires=reel.socket
[Service]
User=reel
WorkingDirectory=/home/reel/app
ExecStart={BIN}/gunicorn web
""",
        )
        | {"/home/reel/app/web.py": WSGI, "/home/reel/app/staticfiles/site.css": "body {}\n"}
        | proxy("unix:/run/reel.sock", "location /static/ { alias /home/reel/app/staticfiles/; }"),
        """
useradd --home-dir /home/reel reel
chown -R reel: /home/reel
chmod 750 /home/reel
systemctl start reel.socket nginx
""",
        url="http://localhost/static/site.css",
        answer="403",
        finds="SDA143",
        says="/home/reel: others have ---, which lacks x",
        fix="move the files elsewhere, such as /var/www/reel",
        done="""
install -d /var/www/reel
cp -r /home/reel/app/staticfiles/. /var/www/reel
sed -i s,/home/reel/app/staticfiles/,/var/www/reel/, /etc/nginx/sites-enabled/site
systemctl reload nginx.service
""",
    ),
    Case(
        "B19",
        "uwsgi-emperor",
        unit(
            "uwsgi-emperor.service",
            f"""
[Service]
ExecStartPre=/usr/bin/install -d -m 1777 /run/uwsgi
ExecStart={BIN}/uwsgi --emperor /etc/uwsgi.d --emperor-tyrant
KillSignal=SIGQUIT
Restart=always
Type=notify
NotifyAccess=all
""",
        )
        | {
            "/etc/uwsgi.d/search.ini": """[uwsgi]
uid = search
gid = search
chdir = /srv/search
module = web
master = true
socket = /run/uwsgi/search.sock
chmod-socket = 666
""",
            "/srv/search/web.py": WSGI,
        }
        | nginx("include uwsgi_params; uwsgi_pass unix:/run/uwsgi/search.sock;"),
        """
useradd --system search
systemctl start uwsgi-emperor nginx
""",
        answer="502",
        finds="SDA141",
        says="starts none whose file belongs to root",
        fix="chown search: /etc/uwsgi.d/search.ini",
    ),
    Case(
        "B20",
        "meta",
        unit(
            "meta.service",
            f"""
[Service]
User=meta
Group=www-data
RuntimeDirectory=uwsgi/app/meta
ExecStart={BIN}/uwsgi --ini /etc/uwsgi/apps-available/meta.ini
KillSignal=SIGQUIT
Type=notify
""",
        )
        | {
            "/etc/uwsgi/apps-available/meta.ini": """[uwsgi]
chdir = /usr/local/meta
module = web
master = true
socket = /run/uwsgi/app/meta/socket
chmod-socket = 660
""",
            "/usr/local/meta/web.py": WSGI,
        }
        | nginx("include uwsgi_params; uwsgi_pass unix:///usr/local/meta/run/socket;"),
        "useradd --system meta; systemctl start meta nginx",
        answer="502",
        finds="SDA126",
        says="where nothing listens; meta.service listens on /run/uwsgi/app/meta/socket",
        fix="write /run/uwsgi/app/meta/socket instead",
        done="""
sed -i s,unix:///usr/local/meta/run/socket,unix:/run/uwsgi/app/meta/socket, /etc/nginx/sites-enabled/site
systemctl reload nginx.service
""",
    ),
    Case(
        "B21",
        "music",
        unit(
            "music.service",
            f"""
[Service]
User=music
ExecStart={BIN}/python /srv/music/music.fcgi
""",
        )
        | {
            "/srv/music/music.fcgi": f"""from flup.server.fcgi import WSGIServer
{WSGI}
WSGIServer(application, bindAddress="/tmp/music-fcgi.sock").run()
""",
        }
        | nginx("""include fastcgi_params;
        fastcgi_param PATH_INFO $fastcgi_script_name;
        fastcgi_param SCRIPT_NAME "";
        fastcgi_pass unix:/tmp/music-fcgi.sock;"""),
        "useradd --system music; systemctl start music nginx",
        answer="502",
        finds="SDA102",
        says="others have r-x, which lacks w",
        fix="in [Service] of music.service: Group=www-data, UMask=0007",
    ),
    Case(
        "B22",
        "zine",
        unit(
            "zine.service",
            f"""
[Service]
User=zine
Group=zine
WorkingDirectory=/srv/zine
ExecStart={BIN}/gunicorn --pid /run/zine/zine.pid --bind 127.0.0.1:8001 web
Restart=on-failure
""",
        )
        | {"/srv/zine/web.py": WSGI}
        | proxy("127.0.0.1:8001"),
        "useradd --system zine; systemctl start zine nginx",
        answer="502",
        until="journalctl -u zine | grep -q 'create pidfile'",
        finds="SDA110",
        says="/run/zine doesn't exist. Can't create pidfile.",
        fix="in [Service] of zine.service: RuntimeDirectory=zine",
    ),
    Case(
        "B23",
        "party",
        unit(
            "party.service",
            f"""
[Service]
User=party
WorkingDirectory=/srv/party
ExecStart={BIN}/gunicorn --umask 007 --bind unix:/dev/shm/party.sock web
""",
        )
        | {
            "/srv/party/web.py": WSGI,
            "/etc/caddy/Caddyfile": "http://localhost {\n\treverse_proxy unix//dev/shm/party.sock\n}\n",
        },
        "useradd --system --user-group party; systemctl start party caddy",
        front="caddy",
        answer="502",
        finds="SDA102",
        says="others have ---, which lacks w (party:party rwxrwx---)",
        fix="usermod -aG party caddy",
    ),
    Case(
        "B24",
        "zones",
        unit(
            "zones.service",
            """
[Service]
User=zones
Group=www-data
RuntimeDirectory=zones
WorkingDirectory=/srv/zones
Environment=PATH=/srv/zones/venv/bin
ExecStart=/srv/zones/venv/bin/gunicorn --bind unix:/run/zones/web.sock -m 007 web
""",
        )
        | {
            "/srv/zones/web.py": """import subprocess
import traceback


def application(environ, start_response):
    status = "200 OK"
    try:
        subprocess.run(["git", "--version"], check=True)
    except Exception:
        traceback.print_exc()
        status = "500 Internal Server Error"
    start_response(status, [("Content-Type", "text/plain")])
    return [status.encode()]
""",
        }
        | proxy("unix:/run/zones/web.sock"),
        f"""
useradd --system zones
mkdir /srv/zones/venv /srv/zones/venv/bin
for name in python python3 gunicorn; do ln -s {BIN}/$name /srv/zones/venv/bin; done
systemctl start zones nginx
""",
        url="http://localhost/version",
        answer="500",
        finds="SDA145",
        says="No such file or directory: 'git'",
        fix="Environment=PATH=/srv/zones/venv/bin:",
    ),
)


def service(name: str, command: str, user: str = "", more: str = "") -> dict[str, str]:
    """A service: its command, its user (its own name where none is given), further lines."""
    lines = f"User={user or name}\n{more.strip()}\nExecStart={command}"
    return unit(f"{name}.service", f"After=network.target\n[Service]\n{lines}")


def user(*names: str) -> str:
    """Shell that makes the users."""
    return "\n".join(f"useradd --system --user-group {name}" for name in names) + "\n"


def apache(*lines: str) -> dict[str, str]:
    """Apache's part: one virtual host of these lines."""
    text = "\n    ".join(("ServerName localhost", "ProxyPreserveHost On", *lines))
    return {
        "/etc/apache2/sites-enabled/site.conf": f"<VirtualHost *:80>\n    {text}\n</VirtualHost>\n"
    }


APACHE = """
a2enmod -q proxy proxy_http proxy_uwsgi headers >/dev/null
rm -f /etc/apache2/sites-enabled/000-default.conf
echo ServerName localhost >/etc/apache2/conf-enabled/name.conf
"""
UWSGI = "include uwsgi_params; uwsgi_pass {};"
CERTIFICATE = """
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \\
    -keyout /etc/ssl/site.key -out /etc/ssl/site.pem 2>/dev/null
"""
DJANGO = {
    "settings.py": 'SECRET_KEY = "not-so-secret"\nALLOWED_HOSTS = ["localhost"]\nROOT_URLCONF = "urls"\n',
    "urls.py": """from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse("served"))]
""",
    "wsgi.py": """import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
application = get_wsgi_application()
""",
    "asgi.py": """import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
application = get_asgi_application()
""",
}


def django(directory: str) -> dict[str, str]:
    """A site of Django's in a directory."""
    return {f"{directory}/{name}": text for name, text in DJANGO.items()}


def instance(name: str, socket: str, command: str, more: str) -> dict[str, str]:
    """A template of a socket and a service, as uWSGI's documentation has them."""
    return {
        f"{UNITS}/{name}@.socket": f"""[Unit]
Description=Socket for uWSGI app %i

[Socket]
{socket}

[Install]
WantedBy=sockets.target
""",
        f"{UNITS}/{name}@.service": f"""[Unit]
Description=%i uWSGI app
After=syslog.target
Requires={name}@%i.socket

[Service]
{more.strip()}
ExecStart={command}
""",
    }


NOTIFY = "Type=notify\nNotifyAccess=all\nKillSignal=SIGQUIT\n"

WORKING: tuple[Case, ...] = (
    Case(
        "W01",
        "bindery",
        unit(
            "bindery.socket",
            "[Socket]\nListenStream=/run/bindery.sock\nSocketUser=www-data\n"
            "SocketGroup=www-data\nSocketMode=0660",
        )
        | unit(
            "bindery.service",
            f"""
Requires=bindery.socket
After=network.target
[Service]
Type=notify
NotifyAccess=main
User=bindery
Group=bindery
RuntimeDirectory=bindery
WorkingDirectory=/srv/bindery
ExecStart={BIN}/gunicorn web
ExecReload=/bin/kill -s HUP $MAINPID
KillMode=mixed
TimeoutStopSec=60
PrivateTmp=true
""",
        )
        | {"/srv/bindery/web.py": WSGI}
        | proxy("unix:/run/bindery.sock"),
        user("bindery") + "systemctl enable -q --now bindery.socket; systemctl start nginx",
    ),
    Case(
        "W02",
        "gunicorn",
        unit("gunicorn.socket", "[Socket]\nListenStream=/run/gunicorn.sock")
        | unit(
            "gunicorn.service",
            f"""
Requires=gunicorn.socket
After=network.target
[Service]
User=sam
Group=www-data
WorkingDirectory=/home/sam/projectdir
ExecStart={BIN}/gunicorn --access-logfile - --workers 3 --bind unix:/run/gunicorn.sock wsgi:application
""",
        )
        | django("/home/sam/projectdir")
        | proxy("unix:/run/gunicorn.sock", "location /static/ { root /home/sam/projectdir; }"),
        """
useradd --home-dir /home/sam sam
chown -R sam: /home/sam
chmod 755 /home/sam
systemctl enable -q --now gunicorn.socket
systemctl start nginx
""",
        finds="SDA001",
        says="SocketMode= is not set, so it is 0666: every user of this host can connect",
    ),
    Case(
        "W03",
        "flaskapp",
        service(
            "flaskapp",
            f"{BIN}/gunicorn --workers 3 --bind unix:flaskapp.sock -m 007 web:application",
            "sam",
            "Group=www-data\nWorkingDirectory=/home/sam/flaskapp\nEnvironment=PATH=/opt/sdactivate/bin",
        )
        | {"/home/sam/flaskapp/web.py": WSGI}
        | proxy("unix:/home/sam/flaskapp/flaskapp.sock"),
        """
useradd --home-dir /home/sam sam
chown -R sam: /home/sam
chmod 755 /home/sam
systemctl start flaskapp nginx
""",
    ),
    Case(
        "W04",
        "flaskuw",
        service(
            "flaskuw",
            f"{BIN}/uwsgi --ini flaskuw.ini",
            "sam",
            "Group=www-data\nWorkingDirectory=/home/sam/flaskuw\nEnvironment=PATH=/opt/sdactivate/bin",
        )
        | {
            "/home/sam/flaskuw/web.py": WSGI,
            "/home/sam/flaskuw/flaskuw.ini": """[uwsgi]
module = web:application

master = true
processes = 5

socket = flaskuw.sock
chmod-socket = 660
vacuum = true

die-on-term = true
""",
        }
        | nginx(UWSGI.format("unix:/home/sam/flaskuw/flaskuw.sock")),
        """
useradd --home-dir /home/sam sam
chown -R sam: /home/sam
chmod 755 /home/sam
systemctl start flaskuw nginx
""",
    ),
    Case(
        "W05",
        "uwsgi",
        unit(
            "uwsgi.service",
            f"""
[Service]
ExecStartPre=/bin/bash -c 'mkdir -p /run/uwsgi; chown sam:www-data /run/uwsgi'
ExecStart={BIN}/uwsgi --emperor /etc/uwsgi/sites
Restart=always
KillSignal=SIGQUIT
Type=notify
NotifyAccess=all
""",
        )
        | {
            "/etc/uwsgi/sites/first.ini": """[uwsgi]
uid = sam
chdir = /home/sam/first
module = wsgi:application

master = true
processes = 2

socket = /run/uwsgi/first.sock
chown-socket = sam:www-data
chmod-socket = 660
vacuum = true
""",
        }
        | django("/home/sam/first")
        | nginx(UWSGI.format("unix:/run/uwsgi/first.sock")),
        """
useradd --home-dir /home/sam sam
chown -R sam: /home/sam
systemctl start uwsgi nginx
""",
    ),
    Case(
        "W06",
        "emperor.uwsgi",
        unit(
            "emperor.uwsgi.service",
            f"""
After=syslog.target
[Service]
ExecStart={BIN}/uwsgi --ini /etc/uwsgi/emperor.ini
RuntimeDirectory=uwsgi
Restart=always
KillSignal=SIGQUIT
Type=notify
StandardError=journal
NotifyAccess=all
""",
        )
        | {
            "/etc/uwsgi/emperor.ini": """[uwsgi]
emperor = /etc/uwsgi/vassals
uid = www-data
gid = www-data
""",
            "/etc/uwsgi/vassals/app.ini": """[uwsgi]
chdir = /srv/app
module = web
master = true
socket = /run/uwsgi/app.sock
""",
            "/srv/app/web.py": WSGI,
        }
        | nginx(UWSGI.format("unix:/run/uwsgi/app.sock")),
        """
install -d -o www-data -g www-data /run/uwsgi
sed -i '/RuntimeDirectory/d' /etc/systemd/system/emperor.uwsgi.service
systemctl daemon-reload
systemctl start emperor.uwsgi nginx
""",
    ),
    Case(
        "W07",
        "uwsgi-app@notes",
        instance(
            "uwsgi-app",
            "ListenStream=/run/uwsgi/%i.socket\nSocketUser=root\nSocketGroup=www-data\nSocketMode=0660",
            f"{BIN}/uwsgi --ini /etc/uwsgi/apps-available/%i.ini",
            "User=%i\nGroup=www-data\nSuccessExitStatus=15 17 29 30\n" + NOTIFY,
        )
        | {
            "/etc/uwsgi/apps-available/notes.ini": "[uwsgi]\nchdir = /srv/notes\nmodule = web\nmaster = true\n",
            "/srv/notes/web.py": WSGI,
        }
        | nginx(UWSGI.format("unix:/run/uwsgi/notes.socket")),
        user("notes") + "systemctl enable -q --now uwsgi-app@notes.socket; systemctl start nginx",
    ),
    Case(
        "W08",
        "tutorial",
        service(
            "tutorial",
            f"{BIN}/uwsgi --ini /srv/tutorial/tutorial_uwsgi.ini",
            more="Group=www-data\n" + NOTIFY,
        )
        | {
            "/srv/tutorial/tutorial_uwsgi.ini": """# tutorial_uwsgi.ini file
[uwsgi]
chdir           = /srv/tutorial
module          = wsgi
master          = true
processes       = 2
socket          = /srv/tutorial/run/tutorial.sock
chmod-socket    = 664
vacuum          = true
""",
            "/etc/nginx/sites-enabled/tutorial.conf": """
upstream django {
    server unix:///srv/tutorial/run/tutorial.sock;
}
server {
    listen      80;
    server_name localhost;
    charset     utf-8;
    client_max_body_size 75M;

    location /static {
        alias /srv/tutorial/static;
    }
    location / {
        uwsgi_pass  django;
        include     /etc/nginx/uwsgi_params;
    }
}
""",
        }
        | django("/srv/tutorial"),
        user("tutorial")
        + """
install -d /srv/tutorial/static
install -d -o tutorial /srv/tutorial/run
systemctl start tutorial nginx
""",
    ),
    Case(
        "W09",
        "polls",
        service("polls", f"{BIN}/gunicorn wsgi", more="WorkingDirectory=/srv/polls\nGroup=polls")
        | django("/srv/polls")
        | proxy("127.0.0.1:8000"),
        user("polls") + "systemctl start polls nginx",
    ),
    Case(
        "W10",
        "pollsuw",
        service(
            "pollsuw",
            f"{BIN}/uwsgi --chdir=/srv/pollsuw --module=wsgi:application "
            "--env DJANGO_SETTINGS_MODULE=settings --master --pidfile=/tmp/project-master.pid "
            "--socket=127.0.0.1:49152 --processes=2 --harakiri=20 --max-requests=5000 --vacuum",
            more="KillSignal=SIGQUIT",
        )
        | django("/srv/pollsuw")
        | nginx(UWSGI.format("127.0.0.1:49152")),
        user("pollsuw") + "systemctl start pollsuw nginx",
    ),
    Case(
        "W11",
        "chat",
        service(
            "chat",
            f"{BIN}/daphne -b 127.0.0.1 -p 8001 asgi:application",
            more="WorkingDirectory=/srv/chat\nRestart=on-failure",
        )
        | django("/srv/chat")
        | proxy("127.0.0.1:8001"),
        user("chat") + "systemctl start chat nginx",
    ),
    Case(
        "W12",
        "rocket",
        service(
            "rocket",
            f"{BIN}/uvicorn --uds /tmp/rocket.sock web:application",
            more="WorkingDirectory=/srv/rocket",
        )
        | {
            "/srv/rocket/web.py": ASGI,
            "/etc/nginx/sites-enabled/rocket": """
map $http_upgrade $connection_upgrade {
  default upgrade;
  '' close;
}
server {
  listen 80;
  client_max_body_size 4G;
  server_name localhost;
  location / {
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_redirect off;
    proxy_buffering off;
    proxy_pass http://uvicorn;
  }
}
upstream uvicorn {
  server unix:/tmp/rocket.sock;
}
""",
        },
        user("rocket") + "systemctl start rocket nginx",
    ),
    Case(
        "W13",
        "quasar",
        service(
            "quasar",
            f"{BIN}/hypercorn --bind 127.0.0.1:8000 asgi:application",
            more="WorkingDirectory=/srv/quasar",
        )
        | django("/srv/quasar")
        | proxy("127.0.0.1:8000"),
        user("quasar") + "systemctl start quasar nginx",
    ),
    Case(
        "W14",
        "hellof",
        service(
            "hellof", f"{BIN}/gunicorn -w 4 web:application", more="WorkingDirectory=/srv/hellof"
        )
        | {"/srv/hellof/web.py": WSGI}
        | apache(
            "ProxyPass / http://127.0.0.1:8000/",
            "RequestHeader set X-Forwarded-Proto http",
            "RequestHeader set X-Forwarded-Prefix /",
        ),
        user("hellof") + APACHE + "systemctl start hellof apache2",
        front="apache2",
    ),
    Case(
        "W15",
        "hellow",
        service(
            "hellow",
            f"{BIN}/waitress-serve --host 127.0.0.1 web:application",
            more="WorkingDirectory=/srv/hellow",
        )
        | {"/srv/hellow/web.py": WSGI}
        | nginx("""proxy_pass http://127.0.0.1:8080/;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $host;
        proxy_set_header X-Forwarded-Prefix /;"""),
        user("hellow") + "systemctl start hellow nginx",
    ),
    Case(
        "W16",
        "hellou",
        service(
            "hellou",
            f"{BIN}/uwsgi --http 127.0.0.1:8000 --master -p 4 -w web:application",
            more="WorkingDirectory=/srv/hellou\nKillSignal=SIGQUIT",
        )
        | {"/srv/hellou/web.py": WSGI}
        | proxy("127.0.0.1:8000/"),
        user("hellou") + "systemctl start hellou nginx",
    ),
    Case(
        "W17",
        "fcgilight",
        service(
            "fcgilight",
            f"{BIN}/python /srv/fcgilight/app.fcgi",
            more="Group=www-data\nUMask=0007\nRuntimeDirectory=fcgilight",
        )
        | {
            "/srv/fcgilight/app.fcgi": f"""from flup.server.fcgi import WSGIServer
{WSGI}
WSGIServer(application, bindAddress="/run/fcgilight/fcgi.sock").run()
""",
            "/etc/lighttpd/conf-enabled/90-app.conf": """server.modules += ( "mod_fastcgi" )
fastcgi.server = ("/" =>
    ((
        "socket" => "/run/fcgilight/fcgi.sock",
        "check-local" => "disable",
        "fix-root-scriptname" => "enable",
        "max-procs" => 1
    ))
)
""",
        },
        user("fcgilight") + "systemctl start fcgilight; sleep 1; systemctl start lighttpd",
        front="lighttpd",
    ),
    Case(
        "W18",
        "fcginginx",
        service(
            "fcginginx",
            f"{BIN}/python /srv/fcginginx/app.fcgi",
            "www-data",
            "RuntimeDirectory=fcginginx",
        )
        | {
            "/srv/fcginginx/app.fcgi": f"""from flup.server.fcgi import WSGIServer
{WSGI}
WSGIServer(application, bindAddress="/run/fcginginx/fcgi.sock").run()
""",
        }
        | nginx("""include fastcgi_params;
        fastcgi_param PATH_INFO $fastcgi_script_name;
        fastcgi_param SCRIPT_NAME "";
        fastcgi_pass unix:/run/fcginginx/fcgi.sock;"""),
        "systemctl start fcginginx nginx",
    ),
    Case(
        "W19",
        "racks",
        service(
            "racks",
            f"{BIN}/gunicorn --pid /var/tmp/racks.pid --pythonpath /opt/racks --config /opt/racks/gunicorn.py wsgi",
            more="Type=simple\nGroup=racks\nPIDFile=/var/tmp/racks.pid\nWorkingDirectory=/opt/racks\n"
            "Restart=on-failure\nRestartSec=30\nPrivateTmp=true",
        )
        | {
            "/opt/racks/gunicorn.py": "bind = '127.0.0.1:8001'\nworkers = 2\nthreads = 3\ntimeout = 120\n"
        }
        | django("/opt/racks")
        | {
            "/opt/racks/static/site.css": "body {}\n",
            "/etc/nginx/sites-enabled/racks": """
server {
    listen [::]:443 ssl ipv6only=off;
    server_name localhost;

    ssl_certificate /etc/ssl/site.pem;
    ssl_certificate_key /etc/ssl/site.key;

    client_max_body_size 25m;

    location /static/ {
        alias /opt/racks/static/;
    }

    location / {
        proxy_pass http://127.0.0.1:8001;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
    }
}

server {
    listen [::]:80 ipv6only=off;
    server_name _;
    return 301 https://$host$request_uri;
}
""",
        },
        user("racks") + CERTIFICATE + "systemctl start racks nginx",
        url="https://localhost/",
    ),
    Case(
        "W20",
        "racksap",
        service(
            "racksap",
            f"{BIN}/gunicorn --bind 127.0.0.1:8001 --workers 2 wsgi",
            more="WorkingDirectory=/opt/racksap",
        )
        | django("/opt/racksap")
        | {"/opt/racksap/static/site.css": "body {}\n"}
        | apache(
            "Alias /static /opt/racksap/static",
            "<Directory /opt/racksap/static>\n    Require all granted\n    </Directory>",
            "<Location /static>\n    ProxyPass !\n    </Location>",
            'RequestHeader set "X-Forwarded-Proto" expr=%{REQUEST_SCHEME}',
            "ProxyPass / http://127.0.0.1:8001/",
            "ProxyPassReverse / http://127.0.0.1:8001/",
        ),
        user("racksap") + APACHE + "systemctl start racksap apache2",
        front="apache2",
    ),
    Case(
        "W21",
        "uwsgi@metasearch",
        {
            f"{UNITS}/uwsgi@.service": f"""[Unit]
Description=uWSGI service unit
After=syslog.target

[Service]
ExecStart={BIN}/uwsgi --ini /etc/uwsgi/%I.ini
ExecReload=/bin/kill -HUP $MAINPID
ExecStop=/bin/kill -INT $MAINPID
Restart=always
Type=notify
StandardError=journal
NotifyAccess=all
KillSignal=SIGQUIT

[Install]
WantedBy=multi-user.target
""",
            "/etc/uwsgi/metasearch.ini": """[uwsgi]
uid = metasearch
gid = metasearch
env = LANG=C.UTF-8
chdir = /usr/local/metasearch/src
disable-logging = true
chmod-socket = 666
single-interpreter = true
master = true
lazy-apps = true
workers = 2
threads = 4
module = web
socket = /usr/local/metasearch/run/socket
buffer-size = 8192
""",
            "/usr/local/metasearch/src/web.py": WSGI,
        }
        | nginx(UWSGI.format("unix:///usr/local/metasearch/run/socket")),
        user("metasearch")
        + """
install -d -o metasearch /usr/local/metasearch/run
systemctl start uwsgi@metasearch nginx
""",
    ),
    Case(
        "W22",
        "listsweb",
        service(
            "listsweb",
            f"{BIN}/gunicorn --workers 2 --bind 127.0.0.1:8005 wsgi:application",
            more="Group=listsweb\nWorkingDirectory=/opt/listsweb\nKillMode=mixed",
        )
        | django("/opt/listsweb")
        | proxy("127.0.0.1:8005", "location /static/ { alias /opt/listsweb/web/static/; }"),
        user("listsweb") + "install -d /opt/listsweb/web/static; systemctl start listsweb nginx",
    ),
    Case(
        "W23",
        "booksite",
        service(
            "booksite",
            f"{BIN}/gunicorn --workers=4 --log-file=/var/log/booksite/gunicorn.log --bind=127.0.0.1:8000 wsgi:application",
            more="Group=booksite\nEnvironment=PYTHONPATH=/etc/opt/booksite:/opt/booksite\n"
            "Environment=DJANGO_SETTINGS_MODULE=settings\nWorkingDirectory=/var/opt/booksite",
        )
        | django("/opt/booksite")
        | proxy("127.0.0.1:8000"),
        user("booksite")
        + """
install -d -o booksite /var/log/booksite /var/opt/booksite
systemctl start booksite nginx
""",
    ),
    Case(
        "W24",
        "radar",
        service(
            "radar",
            f"{BIN}/gunicorn web:application -w 4 -b localhost:5555",
            more="WorkingDirectory=/srv/radar\nRestart=always",
        )
        | {
            "/srv/radar/web.py": WSGI,
            "/etc/caddy/Caddyfile": "http://localhost {\n\treverse_proxy localhost:5555\n}\n",
        },
        user("radar") + "systemctl start radar caddy",
        front="caddy",
    ),
    Case(
        "W25",
        "ledgerapi",
        service(
            "ledgerapi",
            f"{BIN}/gunicorn --workers=2 --bind unix:/run/ledgerapi/app.sock -m 007 web:application",
            more="Group=ledgerapi\nRuntimeDirectory=ledgerapi\nWorkingDirectory=/srv/ledgerapi",
        )
        | {
            "/srv/ledgerapi/web.py": WSGI,
            "/etc/caddy/Caddyfile": "http://localhost {\n\treverse_proxy unix//run/ledgerapi/app.sock\n}\n",
        },
        user("ledgerapi") + "usermod -aG ledgerapi caddy; systemctl start ledgerapi caddy",
        front="caddy",
    ),
    Case(
        "W26",
        "uwsgi@arch",
        instance(
            "uwsgi",
            "ListenStream=/run/uwsgi/%I.sock\nSocketUser=root\nSocketGroup=www-data\nSocketMode=0660",
            f"{BIN}/uwsgi --ini /etc/uwsgi/%I.ini",
            "DynamicUser=yes\nSupplementaryGroups=www-data\n" + NOTIFY,
        )
        | {
            "/etc/uwsgi/arch.ini": "[uwsgi]\nchdir = /srv/http/arch\nmodule = web\nmaster = true\nstrict = true\n",
            "/srv/http/arch/web.py": WSGI,
        }
        | nginx(UWSGI.format("unix:/run/uwsgi/arch.sock")),
        "systemctl enable -q --now uwsgi@arch.socket; systemctl start nginx",
    ),
    Case(
        "W27",
        "uwsgi",
        unit(
            "uwsgi.service",
            f"""
After=syslog.target
[Service]
EnvironmentFile=-/etc/sysconfig/uwsgi
ExecStartPre=/bin/mkdir -p /run/uwsgi
ExecStart={BIN}/uwsgi --ini /etc/uwsgi.ini
ExecReload=/bin/kill -HUP $MAINPID
KillSignal=SIGINT
Restart=always
Type=notify
NotifyAccess=all
""",
        )
        | {
            "/etc/uwsgi.ini": """[uwsgi]
emperor = /etc/uwsgi.d
emperor-tyrant = true
cap = setgid,setuid
""",
            "/etc/uwsgi.d/fedora.ini": """[uwsgi]
uid = fedora
gid = fedora
chdir = /srv/fedora
module = web
master = true
socket = /srv/fedora/run/fedora.sock
chmod-socket = 666
""",
            "/srv/fedora/web.py": WSGI,
        }
        | nginx(UWSGI.format("unix:/srv/fedora/run/fedora.sock")),
        user("fedora")
        + """
chown fedora: /etc/uwsgi.d/fedora.ini
install -d -o fedora /srv/fedora/run
systemctl start uwsgi nginx
""",
    ),
    Case(
        "W28",
        "echo",
        service(
            "echo",
            f"{BIN}/gunicorn --bind 127.0.0.1:8080 web:application",
            more="WorkingDirectory=/srv/echo",
        )
        | {
            "/srv/echo/web.py": WSGI,
            "/etc/haproxy/haproxy.cfg": """
global
    chroot /var/lib/haproxy
    user haproxy
    group haproxy

defaults
    mode http
    timeout connect 10s
    timeout client 30s
    timeout server 30s

frontend web
    bind *:80
    default_backend echo

backend echo
    balance leastconn
    server echo-test_0 127.0.0.1:8080
""",
        },
        user("echo") + "systemctl start echo haproxy",
        front="haproxy",
    ),
    Case(
        "W29",
        "translate",
        service(
            "translate",
            f"{BIN}/uwsgi --ini /etc/uwsgi/apps-enabled/translate.ini",
            more="Group=www-data\nRuntimeDirectory=uwsgi/app/translate\n" + NOTIFY,
        )
        | {
            "/etc/uwsgi/apps-enabled/translate.ini": """[uwsgi]
plugins       =
master        = true
protocol      = uwsgi
socket        = /run/uwsgi/app/translate/socket
chmod-socket  = 660
wsgi-file     = /srv/translate/wsgi.py
python-path   = /srv/translate
buffer-size   = 8192
reload-on-rss = 250
workers       = 4
enable-threads = true
close-on-exec = true
umask = 0022
""",
        }
        | django("/srv/translate")
        | apache("ProxyPass / unix:/run/uwsgi/app/translate/socket|uwsgi://localhost/"),
        user("translate") + APACHE + "systemctl start translate apache2",
        front="apache2",
    ),
    Case(
        "W30",
        "tickets-web",
        service(
            "tickets-web",
            f"{BIN}/gunicorn wsgi --name tickets --workers 2 --max-requests 1200 --max-requests-jitter 50 --log-level=info --bind=127.0.0.1:8345",
            "tickets",
            "Group=tickets\nWorkingDirectory=/srv/tickets\nRestart=on-failure\nRestartSec=3",
        )
        | django("/srv/tickets")
        | {
            "/etc/nginx/sites-enabled/tickets": """
server {
    listen 443 ssl default_server;
    listen [::]:443 ipv6only=on ssl default_server;
    server_name localhost;

    ssl_certificate /etc/ssl/site.pem;
    ssl_certificate_key /etc/ssl/site.key;

    add_header X-Content-Type-Options nosniff;

    location / {
        proxy_pass http://localhost:8345;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto https;
        proxy_set_header Host $http_host;
    }

    location /media/ {
        alias /var/tickets/data/media/;
        expires 7d;
        access_log off;
    }
}
""",
        },
        user("tickets")
        + CERTIFICATE
        + """
install -d -o tickets /var/tickets /var/tickets/data /var/tickets/data/media
systemctl start tickets-web nginx
""",
        url="https://localhost/",
    ),
)
HELD_OUT: tuple[Case, ...] = (
    Case(
        "H01",
        "mailadmin",
        service(
            "mailadmin",
            f"{BIN}/uwsgi --ini /etc/uwsgi/apps-enabled/mailadmin.ini",
            more="Group=mailadmin\nRuntimeDirectory=uwsgi/app/mailadmin\n" + NOTIFY,
        )
        | {
            "/etc/uwsgi/apps-enabled/mailadmin.ini": """[uwsgi]
uid = %n
gid = %n
chdir = /srv/mailadmin
module = web
master = true
socket = /run/uwsgi/app/%n/socket
chmod-socket = 660
""",
            "/srv/mailadmin/web.py": WSGI,
        }
        | nginx(UWSGI.format("unix:/run/uwsgi/app/mailadmin/socket")),
        user("mailadmin") + "systemctl start mailadmin nginx",
        answer="502",
        finds="SDA102",
        says="others have ---, which lacks w (mailadmin:mailadmin rw-rw----)",
        fix="usermod -aG mailadmin www-data",
    ),
    Case(
        "H02",
        "hyper",
        service(
            "hyper",
            f"{BIN}/hypercorn -b unix:/tmp/hyper.sock -w 2 web:application",
            more="WorkingDirectory=/srv/hyper",
        )
        | {"/srv/hyper/web.py": ASGI}
        | proxy("unix:/tmp/hyper.sock"),
        user("hyper") + "systemctl start hyper nginx",
        answer="502",
        until="journalctl -u hyper | grep -q 'Running on'",
        finds="SDA102",
        says="others have r-x, which lacks w (hyper:hyper rwxr-xr-x)",
        fix="UMask=0007",
    ),
    Case(
        "H03",
        "nature",
        service(
            "nature",
            "/home/geo/nature/venv/bin/gunicorn web:application --bind 127.0.0.1:8000",
            "geo",
            "WorkingDirectory=/home/geo/nature",
        )
        | {
            "/home/geo/nature/web.py": WSGI,
            "/home/geo/nature/venv/pyvenv.cfg": "home = /usr/bin\nversion = 3.7.3\n",
            "/home/geo/nature/venv/bin/gunicorn": """#!/home/geo/nature/venv/bin/python3
import sys
from gunicorn.app.wsgiapp import run

sys.exit(run())
""",
            "/home/geo/nature/venv/lib/python3.7/site-packages/gunicorn/__init__.py": "",
        },
        """
useradd --home-dir /home/geo geo
ln -s /usr/bin/python3 /home/geo/nature/venv/bin/python3
chmod 755 /home/geo /home/geo/nature/venv/bin/gunicorn
systemctl start nature
""",
        url="http://localhost:8000/",
        answer="000",
        finds="SDA110",
        says="No module named 'gunicorn'",
        fix="/home/geo/nature/venv was created with python3.7",
        done=f"""
python3 -m venv --clear /home/geo/nature/venv
cp -r {BIN}/../lib/python3.*/site-packages/. /home/geo/nature/venv/lib/python3.*/site-packages/
sed 's,^#!.*,#!/home/geo/nature/venv/bin/python3,' {BIN}/gunicorn >/home/geo/nature/venv/bin/gunicorn
chmod 755 /home/geo/nature/venv/bin/gunicorn
systemctl restart nature
""",
    ),
    Case(
        "H04",
        "learn",
        service(
            "learn",
            f"{BIN}/daphne -u /srv/learn/run/daphne.sock web:application",
            more="WorkingDirectory=/srv/learn\nGroup=www-data",
        )
        | {"/srv/learn/web.py": ASGI}
        | proxy("unix:/srv/learn/run/daphne.sock"),
        user("learn")
        + """
install -d -o learn /srv/learn/run
systemd-run -q --unit=other --uid=learn sleep 600
ln -s "$(systemctl show --value -p MainPID other)" /srv/learn/run/daphne.sock.lock
systemctl start learn nginx
""",
        answer="502",
        finds="SDA110",
        says="Couldn't listen on any:b'/srv/learn/run/daphne.sock': Cannot acquire lock",
        fix="rm /srv/learn/run/daphne.sock.lock",
        done="""
rm /srv/learn/run/daphne.sock.lock
systemctl restart learn
""",
    ),
)

# -- the second collection -------------------------------------------------------------------------

SLOW = """
import time

def application(environ, start_response):
    time.sleep(2.5)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served\\n"]
"""
COOKIES = """
def application(environ, start_response):
    token = ("Set-Cookie", "token=" + "x" * 3000)
    start_response("200 OK", [("Content-Type", "text/plain"), token, token, token])
    return [b"served\\n"]
"""
COUNTS = """
import sqlite3

def application(environ, start_response):
    with sqlite3.connect("/srv/registry/data/hits.db") as database:
        database.execute("insert into hits values (1)")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served\\n"]
"""
LOGIN = (
    """
import os

USER, PASSWORD = os.environ["PANEL_USER"], os.environ["PANEL_PASSWORD"]
"""
    + WSGI
)
SOCKETS = """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
    else:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"not here\\n"})
"""
MONEY = {
    "/srv/money/money/__init__.py": "",
    "/srv/money/money/settings.py": """
import os

SECRET_KEY = "not a secret"
DEBUG = False
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost 127.0.0.1").split()
ROOT_URLCONF = "money.urls"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
""",
    "/srv/money/money/urls.py": """
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse(request.get_host()))]
""",
    "/srv/money/money/wsgi.py": """
import os
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "money.settings")
application = get_wsgi_application()
""",
}


def _service(name: str, lines: str) -> dict[str, str]:
    """A service that runs as a user of its own, from /srv/NAME."""
    start = f"User={name}\nGroup={name}\n"
    if "WorkingDirectory=" not in lines:
        start += f"WorkingDirectory=/srv/{name}\n"
    return unit(f"{name}.service", f"After=network.target\n[Service]\n{start}{lines.strip()}\n")


def _server(name: str, passes: str, more: str = "") -> dict[str, str]:
    return nginx(passes, more, f"/etc/nginx/sites-enabled/{name}")


def _ready(name: str, more: str = "") -> str:
    return f"useradd --system {name}\n{more}\nsystemctl start nginx {name}\n"


_TCP = f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 web"
_TO_TCP = "include proxy_params;\n        proxy_pass http://127.0.0.1:8000;"
SECOND: tuple[Case, ...] = (
    Case(
        "N01",
        "plugs",
        _service("plugs", f"WorkingDirectory=/srv/plugs/site-package\n{_TCP}\nRestart=on-failure")
        | {"/srv/plugs/site-packages/web.py": WSGI}
        | _server("plugs", _TO_TCP),
        _ready("plugs"),
        answer="502",
        until="systemctl show -p NRestarts plugs | grep -qv =0",
        finds="SDA113",
        says="plugs can't enter /srv/plugs/site-package",
        fix="did you mean /srv/plugs/site-packages?",
        done=f"sed -i s,site-package$,site-packages, {UNITS}/plugs.service; "
        "systemctl daemon-reload; systemctl restart plugs",
    ),
    Case(
        "N02",
        "games",
        _service(
            "games",
            "WorkingDirectory=/root/games  # where games.py lies\n"
            'Environment="PATH=/opt/sdactivate/bin"\n'
            f"ExecStart={BIN}/gunicorn -w 4 -b 127.0.0.1:8000 games:application",
        )
        | {"/root/games/games.py": WSGI}
        | _server("games", _TO_TCP),
        "useradd --system gamers; chmod 700 /root\n"
        f"sed -i 's/^User=.*/User=gamers/; s/^Group=.*/Group=gamers/' {UNITS}/games.service\n"
        "systemctl daemon-reload; systemctl start nginx games",
        answer="502",
        until="systemctl is-failed games",
        finds="SDA022",
        says="/root/games: gamers can't search /root",
        fix="move the application and its virtual environment to /srv/games",
        done="mv /root/games /srv/games; "
        f"sed -i 's,^WorkingDirectory=.*,WorkingDirectory=/srv/games,' {UNITS}/games.service; "
        "systemctl daemon-reload; systemctl restart games",
    ),
    Case(
        "N03",
        "photos",
        _service("photos", _TCP) | {"/srv/photos/web.py": WSGI} | _server("photos", _TO_TCP),
        _ready("photos"),
        answer="413",
        body=2_000_000,
        finds="SDA148",
        says="the longest had 2000000 bytes",
        fix="client_max_body_size 10m;` in the server of /etc/nginx/sites-enabled/photos",
        done="sed -i '/proxy_params/i client_max_body_size 20M;' /etc/nginx/sites-enabled/photos; "
        "systemctl reload nginx",
    ),
    Case(
        "N04",
        "money",
        {
            path: text.replace("localhost 127.0.0.1", "localhost www.papers.test")
            for path, text in MONEY.items()
        }
        | _service("money", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 money.wsgi")
        | {
            "/etc/nginx/sites-enabled/money": """
upstream papers_container {
    server 127.0.0.1:8000;
}
server {
    listen 80;
    server_name localhost;
    location / {
        proxy_pass http://papers_container;
    }
}
"""
        },
        _ready("money"),
        answer="400",
        finds="SDA149",
        says="the application is asked for 'papers_container'",
        fix="proxy_set_header Host $host;",
        done="sed -i '/proxy_pass/i proxy_set_header Host $host;' /etc/nginx/sites-enabled/money; "
        "systemctl reload nginx",
    ),
    Case(
        "N05",
        "money",
        MONEY
        | _service("money", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 money.wsgi")
        | {
            path: text.replace("server_name localhost", "server_name money.test")
            for path, text in _server("money", _TO_TCP).items()
        },
        _ready("money", "rm -f /etc/nginx/sites-enabled/default"),
        headers=("Host: money.test",),
        answer="400",
        finds="SDA150",
        says="the front asks for 'money.test'",
        fix="add 'money.test' to ALLOWED_HOSTS",
        done=f"mkdir -p {UNITS}/money.service.d; printf "
        "'[Service]\\nEnvironment=DJANGO_ALLOWED_HOSTS=money.test\\n' "
        f">{UNITS}/money.service.d/hosts.conf; systemctl daemon-reload; systemctl restart money",
    ),
    Case(
        "N06",
        "chat",
        _service("chat", f"ExecStart={BIN}/uvicorn --port 8000 web:application")
        | {"/srv/chat/web.py": SOCKETS}
        | _server("chat", _TO_TCP),
        _ready("chat"),
        headers=(
            *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        answer="404",
        works="101",
        finds="SDA152",
        says="does not pass on Upgrade (/etc/nginx/sites-enabled/chat, line 8)",
        fix="proxy_set_header Upgrade $http_upgrade;",
        done="sed -i '/proxy_params/a proxy_http_version 1.1; proxy_set_header Upgrade "
        "$http_upgrade; proxy_set_header Connection upgrade;' /etc/nginx/sites-enabled/chat; "
        "systemctl reload nginx",
    ),
    Case(
        "N07",
        "login",
        _service("login", _TCP) | {"/srv/login/web.py": COOKIES} | _server("login", _TO_TCP),
        _ready("login"),
        answer="502",
        until="ss -tln | grep -q :8000",
        finds="SDA153",
        says="the header of a response, usually because of its cookies, was larger than the buffer",
        fix="proxy_buffer_size 128k;",
        done="sed -i '/proxy_params/a proxy_buffer_size 128k; proxy_buffers 4 256k;' "
        "/etc/nginx/sites-enabled/login; systemctl reload nginx",
    ),
    Case(
        "N08",
        "shares",
        _service("shares", f"{_TCP} --timeout 120")
        | {"/srv/shares/web.py": SLOW}
        | _server("shares", _TO_TCP, "proxy_read_timeout 1s;"),
        _ready("shares"),
        answer="504",
        finds="SDA153",
        says="a response took longer than nginx waits (proxy_read_timeout is 1s)",
        fix="a longer proxy_read_timeout",
        done="sed -i 's/proxy_read_timeout 1s/proxy_read_timeout 120s/' "
        "/etc/nginx/sites-enabled/shares; systemctl reload nginx",
    ),
    Case(
        "N09",
        "registry",
        _service("registry", _TCP)
        | {"/srv/registry/web.py": COUNTS, "/srv/registry/data/README": "the database\n"}
        | _server("registry", _TO_TCP),
        _ready(
            "registry",
            'python3 -c \'import sqlite3; sqlite3.connect("/srv/registry/data/hits.db")'
            '.execute("create table hits (n)")\'\n'
            "chown registry /srv/registry/data/hits.db",
        ),
        answer="500",
        finds="SDA145",
        says="OperationalError: ",
        fix="chown registry DIRECTORY",
        done="chown registry /srv/registry/data",
    ),
    Case(
        "N10",
        "panel",
        _service("panel", f'Environment="PANEL_USER=root PANEL_PASSWORD=secret"\n{_TCP}')
        | {"/srv/panel/web.py": LOGIN}
        | _server("panel", _TO_TCP),
        _ready("panel"),
        answer="502",
        until="systemctl is-failed panel",
        finds="SDA038",
        says="PANEL_PASSWORD is not set",
        fix="quotes around each",
        done="sed -i 's/root PANEL_PASSWORD/root\" \"PANEL_PASSWORD/' "
        f"{UNITS}/panel.service; systemctl daemon-reload; systemctl restart panel",
    ),
    Case(
        "N11",
        "sight",
        _service("sight", f"ExecStart={BIN}/uvicorn --port 8000 web:application &")
        | {"/srv/sight/web.py": ASGI}
        | _server("sight", _TO_TCP),
        _ready("sight"),
        answer="502",
        until="systemctl is-failed sight",
        finds="SDA039",
        says="& is passed to the program as an argument",
        fix="one program and its arguments",
        done=f"sed -i 's/ &$//' {UNITS}/sight.service; systemctl daemon-reload; "
        "systemctl restart sight",
    ),
    Case(
        "N12",
        "lake",
        _service("lake", "ExecStart=/usr/bin/env gunicorn --bind 127.0.0.1:8000 web")
        | {"/srv/lake/web.py": WSGI}
        | _server("lake", _TO_TCP),
        _ready("lake"),
        answer="502",
        until="systemctl is-failed lake",
        finds="SDA110",
        says="env: ",
        fix="write the absolute path of gunicorn in ExecStart=",
        done=f"sed -i s,/usr/bin/env.gunicorn,{BIN}/gunicorn, {UNITS}/lake.service; "
        "systemctl daemon-reload; systemctl restart lake",
    ),
    Case(
        "N13",
        "weather",
        _service("weather", _TCP)
        | {"/srv/weather/web.py": WSGI}
        | _server("weather", _TO_TCP.replace("8000", "5000")),
        _ready("weather"),
        answer="502",
        finds="SDA126",
        says="nginx connects to port 5000",
        fix="write 127.0.0.1:8000 instead of port 5000",
        done="sed -i s/5000/8000/ /etc/nginx/sites-enabled/weather; systemctl reload nginx",
    ),
    Case(
        "N14",
        "diary",
        {
            path: text.replace("[Service]", "Requires=database.service\n[Service]")
            for path, text in _service("diary", f"{_TCP}\nRestart=always").items()
        }
        | {
            "/srv/diary/web.py": WSGI,
            f"{UNITS}/database.service": "[Service]\nExecStart=/bin/sleep infinity\n",
        }
        | _server("diary", _TO_TCP),
        _ready("diary", "systemctl enable -q diary")
        + "systemctl stop database; systemctl start database\n",
        answer="502",
        finds="SDA151",
        says="Requires=database.service stopped it together with that unit",
        fix="write Wants= instead of Requires=",
        done=f"sed -i s/Requires=database/Wants=database/ {UNITS}/diary.service; "
        "systemctl daemon-reload; systemctl start diary",
    ),
)
"""Collected on 29 November 2026, with their causes, before the doctor was run on any of them."""

# -- the third collection --------------------------------------------------------------------------

LOGGED = """
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
"""
FORMS = f"""
SECRET_KEY = "not a secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
{LOGGED}"""
ADMIN = """
SECRET_KEY = "not a secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
STATIC_URL = "/static/"
"""
TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEF"
SUBMITTED = (
    *("Origin: https://localhost", "Referer: https://localhost/"),
    *(f"Cookie: csrftoken={TOKEN}", f"X-CSRFToken: {TOKEN}"),
)
"""What a browser sends with a form of a page of https://localhost."""
UPGRADE = (
    *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
CALENDARS = (
    """
import os

os.makedirs("/home/calendar/collections/root", exist_ok=True)
"""
    + WSGI
)
EVENTS = """
import time

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    for number in range(60):
        yield b"data: %d\\n\\n" % number
        time.sleep(1)
"""
LONG = """
import time

def application(environ, start_response):
    time.sleep(3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"translated\\n"]
"""
REMOTE = (
    LIFESPAN
    + """\
    status = 200 if dict(scope["headers"]).get(b"remote_user") else 403
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"hub\\n"})
"""
)
LINKS = """
def application(environ, start_response):
    root, path = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
    if path in ("", "/", "/start"):
        start_response("302 Found", [("Location", root.rstrip("/") + "/login")])
        return [b""]
    found = path == "/login"
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
    return [path.encode()]
"""
"""As a framework does, its links start with the path that the front says the application is at."""


def _https(name: str, passes: str) -> dict[str, str]:
    """nginx's part with TLS."""
    text = f"""
server {{
    listen 443 ssl;
    server_name localhost;
    ssl_certificate /etc/ssl/site.pem;
    ssl_certificate_key /etc/ssl/site.key;
    location / {{
        {passes}
    }}
}}
"""
    return {f"/etc/nginx/sites-enabled/{name}": text}


THIRD: tuple[Case, ...] = (
    Case(
        "P01",
        "servant",
        _service(
            "servant",
            "Environment=PYTHONPATH=/home/anna/.local/share/venvs/servant/site-packages\n"
            f"WorkingDirectory=/\nExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 servant:application\n"
            "Restart=always\nRestartSec=1",
        )
        | {"/home/anna/.local/share/venvs/servant/site-packages/servant.py": WSGI}
        | _server("servant", _TO_TCP),
        _ready(
            "servant",
            "useradd --home-dir /home/anna anna; chown -R anna: /home/anna; chmod 750 /home/anna",
        ),
        answer="502",
        until="systemctl show -p NRestarts servant | grep -qv =0",
        finds="SDA113",
        says="servant can't import from /home/anna/.local/share/venvs/servant/site-packages",
        fix="move the program to another place, such as /srv or /opt",
        done="mv /home/anna/.local/share/venvs/servant /opt/servant; "
        f"sed -i s,/home/anna/.local/share/venvs,/opt, {UNITS}/servant.service; "
        "systemctl daemon-reload; systemctl restart servant",
    ),
    Case(
        "P02",
        "ticker",
        _service("ticker", f"{_TCP} --threads 4")
        | {"/srv/ticker/web.py": EVENTS}
        | _server("ticker", _TO_TCP),
        _ready("ticker"),
        url="http://localhost/stream",
        answer="000",
        finds="SDA160",
        says="nginx collects responses before it passes them on",
        fix="add proxy_buffering off; at /etc/nginx/sites-enabled/ticker, line 8",
        done="sed -i '/proxy_params/a proxy_buffering off;' /etc/nginx/sites-enabled/ticker; "
        "systemctl reload nginx",
    ),
    Case(
        "P03",
        "polls",
        _service(
            "polls",
            "Group=www-data\nRuntimeDirectory=polls\nUMask=0007\n"
            f"ExecStart={BIN}/uvicorn --uds /run/polls/web.sock asgi:application",
        )
        | django("/srv/polls")
        | {"/srv/polls/settings.py": FORMS}
        | _https(
            "polls", "include proxy_params;\n        proxy_pass http://unix:/run/polls/web.sock;"
        ),
        CERTIFICATE + _ready("polls"),
        url="https://localhost/",
        headers=SUBMITTED,
        body=1,
        answer="403",
        finds="SDA155",
        says="Django does not read it (SECURE_PROXY_SSL_HEADER in /srv/polls/settings.py)",
        fix='add SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")',
        done="""
echo 'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")' >>/srv/polls/settings.py
systemctl restart polls
""",
    ),
    Case(
        "P04",
        "genes",
        _service("genes", f"ExecStart={BIN}/uwsgi --ini /srv/genes/uwsgi.ini\nKillSignal=SIGQUIT")
        | {
            "/srv/genes/uwsgi.ini": """[uwsgi]
need-plugin = python
http-socket = 127.0.0.1:8080
master = true
wsgi-file = web.py
""",
            "/srv/genes/web.py": WSGI,
        }
        | _server("genes", _TO_TCP.replace("8000", "8080")),
        _ready("genes"),
        answer="502",
        until="systemctl is-failed genes",
        finds="SDA110",
        says='unable to load plugin "python"',
        fix="remove plugin (plugins, need-plugin) = python",
        done="sed -i /plugin/d /srv/genes/uwsgi.ini; systemctl restart genes",
    ),
    Case(
        "P05",
        "hub",
        _service("hub", f"ExecStart={BIN}/uvicorn --port 8000 web:application")
        | {"/srv/hub/web.py": REMOTE}
        | _server("hub", _TO_TCP),
        _ready("hub"),
        headers=("REMOTE_USER: anna",),
        answer="403",
        finds="SDA159",
        says="the application reads remote_user (/srv/hub/web.py, line 8)",
        fix="set underscores_in_headers on; in the server of /etc/nginx/sites-enabled/hub",
        done="sed -i '/server_name/a underscores_in_headers on;' /etc/nginx/sites-enabled/hub; "
        "systemctl reload nginx",
    ),
    Case(
        "P06",
        "tongues",
        _service("tongues", f"{_TCP} --timeout 2")
        | {"/srv/tongues/web.py": LONG}
        | _server("tongues", _TO_TCP),
        _ready("tongues"),
        answer="500",
        finds="SDA142",
        says="gunicorn killed a worker",
        fix="set a longer --timeout in ExecStart=",
        done=f"sed -i 's/--timeout 2/--timeout 120/' {UNITS}/tongues.service; "
        "systemctl daemon-reload; systemctl restart tongues",
    ),
    Case(
        "P07",
        "calendar",
        _service(
            "calendar",
            f"ExecStart={BIN}/waitress-serve --listen 127.0.0.1:5232 web:application\n"
            "Restart=on-failure\nUMask=0027\nPrivateTmp=true\nProtectSystem=strict\nProtectHome=true\n"
            "PrivateDevices=true\nNoNewPrivileges=true\nReadWritePaths=/srv/calendar",
        )
        | {"/srv/calendar/web.py": CALENDARS}
        | _server("calendar", _TO_TCP.replace("8000", "5232")),
        _ready("calendar", "install -d -o calendar /home/calendar /home/calendar/collections"),
        answer="502",
        until="systemctl is-failed calendar",
        finds="SDA110",
        says="ProtectHome= refuses everything below /home",
        fix="set ProtectHome=tmpfs and BindPaths=/home/calendar",
        done=f"mkdir -p {UNITS}/calendar.service.d; printf "
        "'[Service]\\nProtectHome=tmpfs\\nBindPaths=/home/calendar\\n' "
        f">{UNITS}/calendar.service.d/home.conf; systemctl daemon-reload; "
        "systemctl reset-failed calendar; systemctl restart calendar",
    ),
    Case(
        "P08",
        "errors",
        _service("errors", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:9000 wsgi")
        | django("/srv/errors")
        | {
            "/srv/errors/settings.py": FORMS,
            "/etc/apache2/sites-enabled/errors.conf": """
<VirtualHost *:443>
    ServerName localhost
    SSLEngine on
    SSLCertificateFile /etc/ssl/site.pem
    SSLCertificateKeyFile /etc/ssl/site.key

    ProxyPass / http://127.0.0.1:9000/
    ProxyPassReverse / http://127.0.0.1:9000/
</VirtualHost>
""",
        },
        CERTIFICATE + APACHE + "a2enmod -q ssl >/dev/null\nuseradd --system errors\n"
        "systemctl start errors apache2\n",
        front="apache2",
        url="https://localhost/",
        headers=SUBMITTED,
        body=1,
        answer="403",
        finds="SDA144",
        says="Apache terminates HTTPS",
        fix='add RequestHeader set X-Forwarded-Proto "https"',
        done="""
sed -i '/SSLEngine/i RequestHeader set X-Forwarded-Proto "https"' /etc/apache2/sites-enabled/errors.conf
echo 'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")' >>/srv/errors/settings.py
sed -i '/SSLEngine/i ProxyPreserveHost On' /etc/apache2/sites-enabled/errors.conf
systemctl restart errors
systemctl reload apache2
""",
    ),
    Case(
        "P09",
        "recipes",
        _service(
            "recipes",
            "Group=www-data\nWorkingDirectory=/var/www/python-enviroments/recipes\nRestart=always\n"
            f"RestartSec=1\nExecStart={BIN}/gunicorn "
            "--bind unix:/var/www/python-enviroments/recipes/recipes.sock web",
        )
        | {"/var/www/python-environments/recipes/web.py": WSGI}
        | _server(
            "recipes",
            "include proxy_params;\n"
            "        proxy_pass http://unix:/var/www/python-enviroments/recipes/recipes.sock;",
        ),
        _ready(
            "recipes",
            "chown -R recipes:www-data /var/www/python-environments/recipes",
        ),
        answer="502",
        until="systemctl show -p NRestarts recipes | grep -qv =0",
        finds="SDA113",
        says="recipes can't enter /var/www/python-enviroments/recipes",
        fix="did you mean /var/www/python-environments/recipes? It is also in /etc/systemd/system/recipes.service, line 11 and /etc/nginx/sites-enabled/recipes, line 8",
        done=f"""
sed -i s/enviroments/environments/ {UNITS}/recipes.service /etc/nginx/sites-enabled/recipes
systemctl daemon-reload
systemctl restart recipes
systemctl reload nginx
""",
    ),
    Case(
        "P10",
        "stock",
        _service("stock", f"ExecStart={BIN}/daphne -b 127.0.0.1 -p 8001 web:application")
        | {"/srv/stock/web.py": SOCKETS}
        | {
            "/etc/apache2/sites-enabled/stock.conf": """
<VirtualHost *:80>
    ServerName localhost
    DocumentRoot /var/www/html

    Alias /static /var/www/html
    ErrorLog /var/log/apache2/stock.error.log

    ProxyPass /static/ !
    ProxyPass / http://127.0.0.1:8001/
    ProxyPassReverse / http://127.0.0.1:8001/
</VirtualHost>
"""
        },
        APACHE + "a2enmod -q proxy_wstunnel >/dev/null\nuseradd --system stock\n"
        "systemctl start stock apache2\n",
        front="apache2",
        headers=UPGRADE,
        answer="404",
        works="101",
        finds="SDA152",
        says="Apache does not pass on Upgrade",
        fix="add upgrade=websocket behind the address of ProxyPass",
        done="sed -i 's,ProxyPass / http://127.0.0.1:8001/,& upgrade=websocket,' "
        "/etc/apache2/sites-enabled/stock.conf; systemctl reload apache2",
    ),
    Case(
        "P11",
        "quiz",
        _service("quiz", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 wsgi")
        | django("/srv/quiz")
        | {
            "/srv/quiz/settings.py": ADMIN + 'STATIC_ROOT = "/srv/quiz/staticfiles"\n'
            'STATICFILES_DIRS = ["/srv/quiz/static"]\n',
            "/srv/quiz/static/css/style.css": "body {}\n",
        }
        | _server("quiz", _TO_TCP, "location /static/ { alias /srv/quiz/static/; }"),
        _ready("quiz"),
        url="http://localhost/static/admin/css/base.css",
        answer="404",
        finds="SDA156",
        says="collectstatic puts Django's files into /srv/quiz/staticfiles",
        fix="run python manage.py collectstatic in the site, write alias /srv/quiz/staticfiles/;",
        done=f"""
cd /srv/quiz
DJANGO_SETTINGS_MODULE=settings {BIN}/python -m django collectstatic --noinput --pythonpath . >/dev/null
sed -i s,/srv/quiz/static/,/srv/quiz/staticfiles/, /etc/nginx/sites-enabled/quiz
systemctl reload nginx
""",
    ),
    Case(
        "P12",
        "works",
        _service(
            "works",
            f"ExecStart={BIN}/gunicorn -b unix:/tmp/gunicorn.sock -w 2 web",
        )
        | {
            "/srv/works/web.py": WSGI,
            f"{UNITS}/nginx.service.d/private.conf": "[Service]\nPrivateTmp=true\n",
            "/etc/nginx/sites-enabled/works": """
upstream web_server {
    server unix:/tmp/gunicorn.sock fail_timeout=0;
}
server {
    listen 80;
    server_name localhost;
    client_max_body_size 1024m;
    keepalive_timeout 5;

    location / {
        try_files $uri @proxy_to_app;
    }
    location @proxy_to_app {
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Host $http_host;
        proxy_redirect off;
        proxy_buffering off;
        proxy_pass http://web_server;
    }
}
""",
        },
        _ready("works"),
        answer="502",
        finds="SDA106",
        says="nginx's processes don't see /tmp/gunicorn.sock",
        fix="write /run/works/web.sock in /etc/nginx/sites-enabled/works, line 3",
        done=f"""
sed -i s,/tmp/gunicorn.sock,/run/works/web.sock, {UNITS}/works.service /etc/nginx/sites-enabled/works
sed -i 's/^ExecStart=/RuntimeDirectory=works\\n&/' {UNITS}/works.service
systemctl daemon-reload
systemctl restart works
systemctl reload nginx
""",
    ),
    Case(
        "P13",
        "tiger",
        _service(
            "tiger",
            "ExecStart=/usr/local/bin/uwsgi --ini /etc/uwsgi/tiger.ini\nKillSignal=SIGQUIT\n"
            "Restart=on-failure",
        )
        | {
            "/etc/uwsgi/tiger.ini": """[uwsgi]
http-socket = 127.0.0.1:9090
chdir = /srv/tiger
module = web
master = true
""",
            "/srv/tiger/web.py": WSGI,
            "/etc/caddy/Caddyfile": ":80\nreverse_proxy 127.0.0.1:9090\n",
        },
        "useradd --system tiger\nsystemctl start caddy tiger\n",
        front="caddy",
        answer="502",
        until="systemctl is-failed tiger",
        finds="SDA113",
        says="tiger can't execute /usr/local/bin/uwsgi (status=203/EXEC): No such file",
        fix="install the program there",
        done=f"ln -s {BIN}/uwsgi /usr/local/bin/uwsgi; "
        "systemctl reset-failed tiger; systemctl start tiger",
    ),
    Case(
        "P14",
        "manual",
        _service(
            "manual", f"ExecStart={BIN}/waitress-serve --listen 127.0.0.1:8080 web:application"
        )
        | {
            "/srv/manual/web.py": WSGI,
            "/etc/apache2/sites-enabled/manual.conf": """
<VirtualHost *:80>
    ServerName localhost
    RewriteEngine On
    RewriteRule ^/(.*)$ http://127.0.0.1:8080/$1 [L,P]
</VirtualHost>
""",
        },
        "a2enmod -q proxy rewrite >/dev/null\nrm -f /etc/apache2/sites-enabled/000-default.conf\n"
        "useradd --system manual\nsystemctl start manual apache2\n",
        front="apache2",
        answer="500",
        finds="SDA154",
        says="does not load mod_proxy_http",
        fix="a2enmod proxy_http",
    ),
    Case(
        "P15",
        "doses",
        _service("doses", _TCP) | {"/srv/doses/web.py": WSGI} | _server("doses", _TO_TCP),
        _ready("doses"),
        url="http://localhost/analyse/?codes=" + ",".join(f"{n:010}" for n in range(500)),
        answer="414",
        finds="SDA142",
        says="gunicorn refuses requests: Request Line is too large (5528 > 4094)",
        fix="set --limit-request-line",
        done=f"sed -i 's/^ExecStart=.*/& --limit-request-line 8190/' {UNITS}/doses.service; "
        "systemctl daemon-reload; systemctl restart doses",
    ),
    Case(
        "P16",
        "sheets",
        _service("sheets", f"ExecStart={BIN}/uwsgi --ini /srv/sheets/uwsgi.ini\nKillSignal=SIGQUIT")
        | {
            "/srv/sheets/uwsgi.ini": """[uwsgi]
socket = 127.0.0.1:3031
master = true
processes = 2
wsgi-file = web.py
""",
            "/srv/sheets/web.py": WSGI,
        }
        | _server("sheets", _TO_TCP.replace("8000", "3031")),
        _ready("sheets"),
        answer="502",
        finds="SDA140",
        says="nginx uses http for port 3031",
        fix="write uwsgi_pass 127.0.0.1:3031 and the other directives",
        done="""
sed -i 's/include proxy_params/include uwsgi_params/; s,proxy_pass http://,uwsgi_pass ,' \\
    /etc/nginx/sites-enabled/sheets
systemctl reload nginx
""",
    ),
    Case(
        "P17",
        "todo",
        _service("todo", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 wsgi")
        | django("/srv/todo")
        | {"/srv/todo/settings.py": ADMIN + 'STATIC_ROOT = "/www/static"\n'}
        | _server("todo", _TO_TCP, "location /static {\n        alias /usr/src/app/static;\n    }"),
        _ready(
            "todo",
            f"cd /srv/todo; DJANGO_SETTINGS_MODULE=settings {BIN}/python -m django collectstatic "
            "--noinput --pythonpath . >/dev/null; cd /",
        ),
        url="http://localhost/static/admin/css/base.css",
        answer="404",
        finds="SDA156",
        says="nginx serves /static from /usr/src/app/static",
        fix="write alias /www/static; in /etc/nginx/sites-enabled/todo, line 6",
        done="sed -i s,/usr/src/app/static,/www/static, /etc/nginx/sites-enabled/todo; "
        "systemctl reload nginx",
    ),
    Case(
        "P18",
        "board",
        _service("board", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8080 web")
        | {
            "/srv/board/web.py": LINKS,
            "/etc/nginx/sites-enabled/board": """
server {
    listen 80;
    server_name localhost;
    root /var/www/html;
    location /forum/ {
        proxy_pass http://localhost:8080/;
    }
}
""",
        },
        _ready("board"),
        url="http://localhost/forum/",
        follows=True,
        answer="404",
        finds="SDA157",
        says="nginx passes /forum/ on without /forum",
        fix="set Environment=SCRIPT_NAME=/forum in [Service] of board.service",
        done="sed -i 's,http://localhost:8080/,http://localhost:8080,' /etc/nginx/sites-enabled/board; "
        "systemctl reload nginx; "
        f"sed -i 's,^ExecStart,Environment=SCRIPT_NAME=/forum\\n&,' {UNITS}/board.service; "
        "systemctl daemon-reload; systemctl restart board",
    ),
    Case(
        "P19",
        "flasks",
        _service(
            "flasks",
            f"Group=www-data\nUMask=0007\nRuntimeDirectory=flasks\nExecStart={BIN}/python app.fcgi",
        )
        | {
            "/srv/flasks/app.fcgi": f"""from flup.server.fcgi import WSGIServer
{LINKS}
WSGIServer(application, bindAddress="/run/flasks/fcgi.sock").run()
"""
        }
        | _server(
            "flasks",
            """include fastcgi_params;
        fastcgi_param PATH_INFO $fastcgi_script_name;
        fastcgi_pass unix:/run/flasks/fcgi.sock;""",
        ),
        _ready("flasks"),
        url="http://localhost/start",
        follows=True,
        answer="404",
        finds="SDA158",
        says="nginx sends the whole path of a request as SCRIPT_NAME",
        fix='add fastcgi_param SCRIPT_NAME "";',
        done="sed -i '/PATH_INFO/a fastcgi_param SCRIPT_NAME \"\";' /etc/nginx/sites-enabled/flasks; "
        "systemctl reload nginx",
    ),
    Case(
        "P20",
        "marks",
        _service(
            "marks",
            f"ExecStart={BIN}/uwsgi --http-socket 127.0.0.1:9090 --module wsgi:application "
            "--processes 2 --master\nKillSignal=SIGQUIT",
        )
        | django("/srv/marks")
        | {
            "/srv/marks/settings.py": FORMS + "import os\n"
            'CSRF_TRUSTED_ORIGINS = os.environ.get("CSRF_TRUSTED_ORIGINS", "").split()\n'
        }
        | _https(
            "marks",
            "proxy_pass http://127.0.0.1:9090;\n        proxy_set_header Host $host;",
        ),
        CERTIFICATE + _ready("marks"),
        url="https://localhost/",
        headers=SUBMITTED,
        body=1,
        answer="403",
        finds="SDA144",
        says="nginx terminates HTTPS",
        fix="add proxy_set_header X-Forwarded-Proto $scheme;",
        done="""
sed -i '/Host/a proxy_set_header X-Forwarded-Proto $scheme;' /etc/nginx/sites-enabled/marks
echo 'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")' >>/srv/marks/settings.py
systemctl reload nginx
systemctl restart marks
""",
    ),
)
"""Drawn on 29 November 2026 from forty-seven threads, and written before the doctor was run on any."""

# -- one of each rule that no case above breaks ----------------------------------------------------

# Before `PLAIN`: DJANGO is another site's after it
OWN_SOCKET = f"""
import socket

import uvicorn
{ASGI}

made = socket.socket(socket.AF_UNIX)
made.bind("/tmp/api.sock")
uvicorn.Server(uvicorn.Config(application)).run(sockets=[made])
"""
BY_ITSELF = """\
from wsgiref.simple_server import make_server


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served\\n"]


make_server("127.0.0.1", 9191, application).serve_forever()
"""
SESSIONS = {
    "/srv/chat/flask_socketio.py": """
import sys


class SocketIO:
    \"\"\"Stands for Flask-SocketIO: sessions in the memory of one process.\"\"\"

    def __init__(self):
        self.sessions = set()

    def handle(self, path):
        if path == "/open":
            self.sessions.add("s1")
        if "s1" in self.sessions:
            return "200 OK"
        print("Invalid session s1 (further occurrences of this error will be logged with level "
              "INFO)", file=sys.stderr, flush=True)
        return "400 BAD REQUEST"
""",
    "/srv/chat/web.py": """
from flask_socketio import SocketIO

socketio = SocketIO()


def application(environ, start_response):
    status = socketio.handle(environ["PATH_INFO"])
    start_response(status, [("Content-Type", "text/plain")])
    return [b"served\\n"]
""",
}
ADDRESSES = (
    LIFESPAN
    + """\
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["path"] == "/":
        host = dict(scope["headers"])[b"host"]
        start["status"] = 302
        start["headers"] = [(b"location", scope["scheme"].encode() + b"://" + host + b"/page")]
    await send(start)
    await send({"type": "http.response.body", "body": b"served\\n"})
"""
)
CALLBACK = (
    """
import mmap

try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    raise MemoryError(
        "Cannot allocate write+execute memory for ffi.callback(). You might be running on a "
        "system that prevents this. For more information, see "
        "https://cffi.readthedocs.io/en/latest/using.html#callbacks"
    ) from None
"""
    + WSGI
)
PATHS = """
def application(environ, start_response):
    found = environ["PATH_INFO"] in ("", "/", "/page")
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "text/html")])
    return [b"<a href='page'>page</a>" if found else b"<h1>Not Found</h1>"]
"""
MANY_FILES = """
def application(environ, start_response):
    held = [open("/dev/null") for _ in range(2000)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d\\n" % len(held)]
"""
_COLLECT = (
    "cd {0}; DJANGO_SETTINGS_MODULE=settings "
    f"{BIN}/python -m django collectstatic --noinput --pythonpath . >/dev/null; cd /"
)
FOURTH: tuple[Case, ...] = (
    Case(
        "Q01",
        "waffle",
        _service("waffle", f"ExecStart={BIN}/uwsgi --ini /srv/waffle/uwsgi.ini")
        | {
            "/srv/waffle/uwsgi.ini": """[uwsgi]
chdir = /srv/waffle
module = waffle_backend/wsgi:application
http-socket = 127.0.0.1:8000
master = true
die-on-term = true
""",
            "/srv/waffle/waffle_backend/__init__.py": "",
            "/srv/waffle/waffle_backend/wsgi.py": WSGI,
        }
        | _server("waffle", _TO_TCP),
        _ready("waffle"),
        answer="500",
        finds="SDA141",
        says="No module named 'waffle_backend/wsgi'",
        fix="write the application as MODULE:NAME",
        done="sed -i s,waffle_backend/wsgi:,waffle_backend.wsgi:, /srv/waffle/uwsgi.ini; "
        "systemctl restart waffle",
    ),
    Case(
        "Q02",
        "relay",
        _service("relay", f"ExecStart={BIN}/python /srv/relay/serve.py")
        | {"/srv/relay/serve.py": OWN_SOCKET}
        | _server("relay", "include proxy_params;\n        proxy_pass http://unix:/tmp/api.sock;"),
        _ready("relay"),
        answer="502",
        finds="SDA102",
        says="can't connect to /tmp/api.sock: others have r-x",
        fix="UMask=0007, ExecStartPre=/usr/bin/rm -f /tmp/api.sock",
    ),
    Case(
        "Q03",
        "dnsadmin",
        _service("dnsadmin", "ExecStart=/srv/dnsadmin/run.py")
        | {"/srv/dnsadmin/run.py": f"#!/usr/bin/env python\n{BY_ITSELF}"}
        | _server("dnsadmin", _TO_TCP.replace("8000", "9191")),
        f"{BIN}/python -m venv --without-pip /srv/dnsadmin/flask; chmod +x /srv/dnsadmin/run.py\n"
        + _ready("dnsadmin"),
        answer="502",
        until="systemctl is-failed dnsadmin",
        finds="SDA110",
        says="it failed with exit code 127; the reason: /usr/bin/env: ",
        fix="write ExecStart=/srv/dnsadmin/flask/bin/python /srv/dnsadmin/run.py in dnsadmin.service",
        done="sed -i 's,=/srv/dnsadmin/run.py,=/srv/dnsadmin/flask/bin/python /srv/dnsadmin/run.py,' "
        f"{UNITS}/dnsadmin.service; systemctl daemon-reload; systemctl restart dnsadmin",
    ),
    Case(
        "Q04",
        "myauth",
        _service("myauth", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 wsgi")
        | django("/srv/myauth")
        | {"/srv/myauth/settings.py": ADMIN + 'STATIC_ROOT = "/var/www/myauth/static"\n'}
        | _server(
            "myauth", _TO_TCP, "location /static/ {\n        alias /var/www/myauth/static;\n    }"
        ),
        _ready("myauth", _COLLECT.format("/srv/myauth")),
        url="http://localhost/static/admin/css/base.css",
        answer="404",
        finds="SDA156",
        says="without a slash at the end",
        fix="write alias /var/www/myauth/static/; in /etc/nginx/sites-enabled/myauth, line 6",
        done="sed -i s,myauth/static,myauth/static/, /etc/nginx/sites-enabled/myauth; "
        "systemctl reload nginx",
    ),
    Case(
        "Q05",
        "feris",
        _service("feris", _TCP)
        | {"/srv/feris/web.py": WSGI, "/srv/feris/sitestatic/site.css": "body {}\n"}
        | apache(
            "ProxyPass /media/ !",
            "ProxyPass / http://127.0.0.1:8000/",
            "Alias /media/ /srv/feris/sitestatic",
            "<Directory /srv/feris>\n        Require all granted\n    </Directory>",
        ),
        APACHE + "useradd --system feris; systemctl start feris apache2",
        front="apache2",
        url="http://localhost/media/site.css",
        answer="404",
        finds="SDA156",
        says="without a slash at the end",
        fix="write Alias /media/ /srv/feris/sitestatic/",
        done="sed -i s,feris/sitestatic,feris/sitestatic/, /etc/apache2/sites-enabled/site.conf; "
        "systemctl reload apache2",
    ),
    Case(
        "Q06",
        "maps",
        _service("maps", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 wsgi")
        | django("/srv/maps")
        | {"/srv/maps/settings.py": f'{ADMIN}DEBUG = False\nSTATIC_ROOT = "/srv/maps/static"\n'}
        | apache("ProxyPass / http://127.0.0.1:8000/"),
        APACHE
        + _COLLECT.format("/srv/maps")
        + "\nuseradd --system maps; systemctl start maps apache2",
        front="apache2",
        url="http://localhost/static/admin/css/base.css",
        answer="404",
        finds="SDA165",
        says="passes /static/ on to Django",
        fix="add Alias /static/ /srv/maps/static/, ProxyPass /static/ ! (above",
        done="""
sed -i 's,ProxyPass /,Alias /static /srv/maps/static\\n<Directory /srv/maps/static>\\nRequire all granted\\n</Directory>\\nProxyPass /static !\\nProxyPass /,' /etc/apache2/sites-enabled/site.conf
systemctl reload apache2
""",
    ),
    Case(
        "Q07",
        "stats",
        _service(
            "stats", f"RuntimeDirectory=stats\nExecStart={BIN}/uwsgi --ini /srv/stats/uwsgi.ini"
        )
        | {
            "/srv/stats/uwsgi.ini": """[uwsgi]
module = web
socket = /run/stats/uwsgi.sock
chmod-socket = 666
master = true
die-on-term = true
logto = /var/log/stats/uwsgi.log
""",
            "/srv/stats/web.py": WSGI,
        }
        | _server("stats", UWSGI.format("unix:/run/stats/uwsgi.sock")),
        _ready("stats"),
        answer="502",
        until="systemctl is-failed stats",
        finds="SDA110",
        says='open("/var/log/stats/uwsgi.log"): No such file or directory',
        fix="LogsDirectory=stats",
    ),
    Case(
        "Q08",
        "km",
        _service(
            "km",
            f"Group=www-data\nExecStart={BIN}/gunicorn --umask 007 "
            "--bind unix:/run/km-proxy-server/gunicorn.sock web",
        )
        | {"/srv/km/web.py": WSGI}
        | _server(
            "km",
            "include proxy_params;\n        proxy_pass http://unix:/run/km-proxy-server/gunicorn.sock;",
        ),
        _ready("km"),
        answer="502",
        until="systemctl is-failed km",
        finds="SDA110",
        says="connection to /run/km-proxy-server/gunicorn.sock failed",
        fix="RuntimeDirectory=km-proxy-server",
    ),
    Case(
        "Q09",
        "chat",
        _service("chat", f"ExecStart={BIN}/gunicorn --workers 3 --bind 127.0.0.1:8000 web")
        | SESSIONS
        | _server("chat", _TO_TCP),
        _ready("chat") + "sleep 2; curl -s http://localhost/open >/dev/null",
        answer="400",
        finds="SDA142",
        says="another one got the request",
        fix="set one worker process (--workers 1) in chat.service",
        done=f"sed -i 's/--workers 3/--workers 1/' {UNITS}/chat.service; systemctl daemon-reload; "
        "systemctl restart chat; sleep 2; curl -s http://localhost/open >/dev/null",
    ),
    Case(
        "Q10",
        "thumbs",
        _service(
            "thumbs",
            "Group=www-data\nRuntimeDirectory=thumbs\nUMask=0007\n"
            f"ExecStart={BIN}/uvicorn --uds /run/thumbs/web.sock web:application",
        )
        | {"/srv/thumbs/web.py": ADDRESSES}
        | _https(
            "thumbs", "include proxy_params;\n        proxy_pass http://unix:/run/thumbs/web.sock;"
        ),
        CERTIFICATE + _ready("thumbs"),
        url="https://localhost/",
        follows=True,
        answer="302",
        finds="SDA164",
        says="uvicorn does not trust it",
        fix="Environment=FORWARDED_ALLOW_IPS=*",
    ),
    Case(
        "Q11",
        "pixels",
        _service("pixels", f"MemoryDenyWriteExecute=true\n{_TCP}")
        | {"/srv/pixels/web.py": CALLBACK}
        | _server("pixels", _TO_TCP),
        _ready("pixels"),
        answer="502",
        until="systemctl is-failed pixels",
        finds="SDA110",
        says="Cannot allocate write+execute memory",
        fix="MemoryDenyWriteExecute=no",
    ),
    Case(
        "Q12",
        "gateway",
        _service("gateway", f"ExecStart={BIN}/gunicorn --bind 0.0.0.0:8000 web")
        | {"/srv/gateway/web.py": WSGI, "/etc/hosts": "::1 localhost ip6-localhost\n"}
        | _server("gateway", "include proxy_params;\n        proxy_pass http://localhost:8000;"),
        _ready("gateway"),
        url="http://127.0.0.1/",
        answer="502",
        finds="SDA126",
        says="connects to localhost:8000",
        fix="write 127.0.0.1:8000 instead of localhost:8000",
        done="sed -i s,//localhost:8000,//127.0.0.1:8000, /etc/nginx/sites-enabled/gateway; "
        "systemctl reload nginx",
    ),
    Case(
        "Q13",
        "books",
        _service("books", _TCP)
        | {"/srv/books/web.py": PATHS}
        | {
            path: text.replace("location /", "location /gnucash")
            for path, text in _server("books", _TO_TCP).items()
        },
        _ready("books"),
        url="http://localhost/gnucash/page",
        answer="404",
        finds="SDA157",
        says="with /gnucash in the path",
        fix="Environment=SCRIPT_NAME=/gnucash",
    ),
    Case(
        "Q14",
        "pets",
        _service("pets", _TCP) | {"/srv/pets/web.py": MANY_FILES} | _server("pets", _TO_TCP),
        _ready("pets", "") + "sleep 2; curl -s http://localhost/ >/dev/null",
        answer="502",
        finds="SDA145",
        says="Too many open files",
        fix="LimitNOFILE=65536",
    ),
    Case(
        "Q15",
        "errors",
        _service("errors", _TCP.replace("8000", "9000"))
        | {"/srv/errors/web.py": PATHS}
        | apache("ProxyPass / http://localhost:9000"),
        APACHE + "useradd --system errors; systemctl start errors apache2",
        front="apache2",
        url="http://localhost/page",
        answer="500",
        finds="SDA163",
        says="which is no address",
        fix="write ProxyPass / http://localhost:9000/",
        done="sed -i s,localhost:9000,localhost:9000/, /etc/apache2/sites-enabled/site.conf; "
        "systemctl reload apache2",
    ),
    Case(
        "Q16",
        "tiles",
        _service("tiles", _TCP)
        | {"/srv/tiles/web.py": WSGI, "/srv/tiles/demo/site.css": "body {}\n"}
        | apache(
            "Alias /demo /srv/tiles/demo",
            "ProxyPass /demo !",
            "ProxyPass / http://127.0.0.1:8000/",
        ),
        APACHE + "useradd --system tiles; systemctl start tiles apache2",
        front="apache2",
        url="http://localhost/demo/site.css",
        answer="403",
        finds="SDA143",
        says="client denied by server configuration",
        fix="add <Directory /srv/tiles/demo> Require all granted",
        done="""
sed -i 's,ProxyPass /demo,<Directory /srv/tiles/demo>\\nRequire all granted\\n</Directory>\\n&,' /etc/apache2/sites-enabled/site.conf
systemctl reload apache2
""",
    ),
    Case(
        "Q17",
        "switches",
        _service("switches", _TCP.replace("8000", "8080"))
        | {"/srv/switches/web.py": PATHS}
        | apache("ProxyPass /tellprox http://127.0.0.1:8080/"),
        APACHE + "useradd --system switches; systemctl start switches apache2",
        front="apache2",
        url="http://localhost/tellprox/page",
        answer="404",
        finds="SDA163",
        says="a request for /tellprox/page becomes //page",
        fix="write ProxyPass /tellprox/ http://127.0.0.1:8080/",
        done="sed -i 's,ProxyPass /tellprox,&/,' /etc/apache2/sites-enabled/site.conf; "
        "systemctl reload apache2",
    ),
    Case(
        "Q18",
        "library",
        _service("library", f"ExecStart={BIN}/uvicorn --port 8000 web:application")
        | {"/srv/library/web.py": ASGI}
        | {
            path: text.replace("location /", "location /v1/api")
            for path, text in _server("library", _TO_TCP).items()
        },
        _ready("library"),
        url="http://localhost/docs",
        answer="404",
        by_url=True,
        finds="SDA171",
        says="passes nothing to the application",
        fix="pass /docs on",
        done="""
sed -i 's,^}$,location /docs { include proxy_params; proxy_pass http://127.0.0.1:8000; }\\nlocation /openapi.json { include proxy_params; proxy_pass http://127.0.0.1:8000; }\\n},' /etc/nginx/sites-enabled/library
systemctl reload nginx
""",
    ),
    Case(
        "Q19",
        "tinyticker",
        unit(
            "tinyticker.service",
            "[Service]\nExecStart=/usr/bin/python3 -m tinyticker\nRestart=on-failure",
        )
        | {
            "/home/pi/.local/lib/python3.11/site-packages/tinyticker/__init__.py": "",
            "/home/pi/.local/lib/python3.11/site-packages/tinyticker/__main__.py": BY_ITSELF,
        }
        | _server("tinyticker", _TO_TCP.replace("8000", "9191")),
        "useradd -M pi; chown -R pi: /home/pi; systemctl start nginx tinyticker",
        answer="502",
        until="systemctl show -p NRestarts tinyticker | grep -qv =0",
        finds="SDA110",
        says="has no module tinyticker",
        fix="set User=pi in [Service] of tinyticker.service",
        done=f"sed -i 's/^ExecStart/User=pi\\n&/' {UNITS}/tinyticker.service; "
        "systemctl daemon-reload; systemctl restart tinyticker",
    ),
    Case(
        "Q20",
        "events",
        _service("events", f"{_TCP} --log-file /home/events/logs/gunicorn.log")
        | {"/srv/events/web.py": WSGI, "/home/events/logs/gunicorn.log": ""}
        | _server("events", _TO_TCP),
        "useradd -M events; chown events: /home/events /home/events/logs; "
        "systemctl start nginx events",
        answer="502",
        until="systemctl is-failed events",
        finds="SDA110",
        says="isn't writable",
        fix="run chown events /home/events/logs/gunicorn.log",
        done="chown events /home/events/logs/gunicorn.log; systemctl restart events",
    ),
    Case(
        "Q21",
        "wikmd",
        _service("wikmd", "ExecStart=/srv/wikmd/env/bin/python wiki.py")
        | {"/srv/wikmd/wiki.py": BY_ITSELF}
        | _server("wikmd", _TO_TCP.replace("8000", "9191")),
        f"{BIN}/python -m venv --without-pip /srv/wikmd/venv\n" + _ready("wikmd"),
        answer="502",
        until="systemctl is-failed wikmd",
        finds="SDA113",
        says="can't execute /srv/wikmd/env/bin/python",
        fix="did you mean /srv/wikmd/venv/bin/python?",
        done=f"sed -i s,/env/,/venv/, {UNITS}/wikmd.service; systemctl daemon-reload; "
        "systemctl restart wikmd",
    ),
)
"""Collected on 30 November 2026; written down before the doctor was run on them."""

# -- the fifth collection --------------------------------------------------------------------------

PICTURES = """
PATHS = {"/": "text/html", "/static/img/play.jpg": "image/jpeg"}


def application(environ, start_response):
    kind = PATHS.get(environ["PATH_INFO"])
    start_response("200 OK" if kind else "404 Not Found", [("Content-Type", kind or "text/plain")])
    return [b"a picture\\n" if kind else b"not here\\n"]
"""
ABSOLUTE = """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/admin":
        address = f"http://{environ['HTTP_HOST']}/admin/"
        start_response("301 Moved Permanently", [("Location", address)])
        return [b""]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served\\n"]
"""
PREFIXED = """
def application(environ, start_response):
    base, path = environ.get("HTTP_X_SCRIPT_NAME", ""), environ["PATH_INFO"]
    if path == "/":
        start_response("302 Found", [("Location", base + "/.web")])
        return [b""]
    found = path == "/.web"
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
    return [path.encode()]
"""
BEARER = (
    LIFESPAN
    + """\
    token = dict(scope["headers"]).get(b"authorization", b"")
    status = 200 if token.startswith(b"Bearer ") else 401
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"states\\n"})
"""
)
FIFTH: tuple[Case, ...] = (
    Case(
        "R01",
        "parts",
        _service("parts", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 wsgi")
        | django("/srv/parts")
        | {
            "/srv/parts/settings.py": f'{ADMIN}DEBUG = False\nSTATIC_ROOT = "/var/www/parts/static"\n'
        }
        | apache(
            "Alias /static/ /var/www/parts/static/",
            "<Directory /var/www/parts/static>\n        Require all granted\n    </Directory>",
            "ProxyPass / http://127.0.0.1:8000/",
            "ProxyPassReverse / http://127.0.0.1:8000/",
        ),
        APACHE
        + _COLLECT.format("/srv/parts")
        + "\nuseradd --system parts; systemctl start parts apache2",
        front="apache2",
        url="http://localhost/static/admin/css/base.css",
        answer="404",
        finds="SDA168",
        says="so that the Alias for it",
        fix="add ProxyPass /static/ ! above line",
        done="sed -i 's,ProxyPass /,ProxyPass /static/ !\\n    &,' "
        "/etc/apache2/sites-enabled/site.conf; systemctl reload apache2",
    ),
    Case(
        "R02",
        "faces",
        _service("faces", _TCP)
        | {"/srv/faces/web.py": PICTURES}
        | _server(
            "faces",
            _TO_TCP,
            """# serve static files directly
    location ~* \\.(jpg|jpeg|gif|css|png|js|ico|html)$ {
        access_log off;
        expires max;
    }
""",
        ),
        _ready("faces"),
        url="http://localhost/static/img/play.jpg",
        answer="404",
        finds="SDA168",
        says="takes /static/img/play.jpg from the application",
        fix="remove that location",
        done="sed -i '/location ~/,/}/d' /etc/nginx/sites-enabled/faces; systemctl reload nginx",
    ),
    Case(
        "R03",
        "atlas",
        _service("atlas", f"{_TCP} --workers 2")
        | {"/srv/atlas/web.py": ABSOLUTE}
        | {
            path: text.replace("listen 80;", "listen 8080;")
            for path, text in _server(
                "atlas",
                "proxy_set_header Host $host;\n        proxy_pass http://127.0.0.1:8000;",
            ).items()
        },
        "rm -f /etc/nginx/sites-enabled/default\n" + _ready("atlas"),
        url="http://localhost:8080/admin",
        follows=True,
        answer="301",
        finds="SDA149",
        says="passes on Host without the port",
        fix="write proxy_set_header Host $http_host;",
        done="sed -i 's/Host $host;/Host $http_host;/' /etc/nginx/sites-enabled/atlas; "
        "systemctl reload nginx",
    ),
    Case(
        "R04",
        "ledger",
        _service("ledger", f"ExecStart={BIN}/uvicorn --http h11 --port 4242 web:application")
        | {"/srv/ledger/web.py": ASGI}
        | _server(
            "ledger",
            """proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header Host $http_host;
        proxy_pass http://127.0.0.1:4242;""",
        ),
        _ready("ledger"),
        answer="400",
        finds="SDA169",
        says="nginx sets Host twice",
        fix="remove one of the two proxy_set_header Host lines",
        done="sed -i '/Host $host;/d' /etc/nginx/sites-enabled/ledger; systemctl reload nginx",
    ),
    Case(
        "R05",
        "dates",
        _service("dates", _TCP.replace("8000", "5232"))
        | {
            "/srv/dates/web.py": PREFIXED,
            "/etc/lighttpd/conf-enabled/90-dates.conf": """\
server.modules += ( "mod_proxy", "mod_setenv" )
$HTTP["url"] =~ "^/radicale/" {
    proxy.server = ( "" => (( "host" => "127.0.0.1", "port" => "5232" )) )
    proxy.header = ( "map-urlpath" => ( "/radicale/" => "/" ) )
    setenv.add-request-header = ( "X-Script-Name" => "/radicale" )
}
""",
        },
        "useradd --system dates; systemctl start dates; sleep 1; systemctl start lighttpd",
        front="lighttpd",
        url="http://localhost/radicale/",
        follows=True,
        answer="404",
        finds="SDA157",
        says="adds /radicale to the application's redirects",
        fix='add url.rewrite-once = ( "^/radicale/radicale/(.*)" => "/radicale/$1" )',
        done="""
cat >>/etc/lighttpd/conf-enabled/90-dates.conf <<'END'
server.modules += ( "mod_rewrite" )
url.rewrite-once = ( "^/radicale/radicale/(.*)" => "/radicale/$1" )
END
systemctl restart lighttpd
""",
    ),
    Case(
        "R06",
        "meter",
        _service("meter", _TCP)
        | {"/srv/meter/web.py": WSGI}
        | {
            path: text.replace("server_name localhost", "server_name meter.example.org")
            for path, text in _server("meter", _TO_TCP).items()
        },
        "ln -sf /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default\n"
        + _ready("meter"),
        url="http://127.0.0.1/dashboard",
        answer="404",
        by_url=True,
        finds="SDA171",
        says="/etc/nginx/sites-enabled/default, line",
        fix="rm /etc/nginx/sites-enabled/default",
        done="rm /etc/nginx/sites-enabled/default; systemctl reload nginx",
    ),
    Case(
        "R07",
        "notices",
        _service(
            "notices",
            f"""
Type=notify
RuntimeDirectory=notices
ExecStart={BIN}/waitress-serve --listen 127.0.0.1:8000 web:application
KillMode=mixed
TimeoutStartSec=5
TimeoutStopSec=5
PrivateTmp=true
""",
        )
        | {"/srv/notices/web.py": WSGI}
        | _server("notices", _TO_TCP),
        "useradd --system notices; systemctl start nginx; systemctl start notices || true",
        answer="502",
        until="systemctl is-failed notices",
        finds="SDA110",
        says="waitress has not reported that it is ready",
        fix="set Type=exec",
        done=f"sed -i /^Type=notify/d {UNITS}/notices.service; systemctl daemon-reload; "
        "systemctl restart notices",
    ),
    Case(
        "R08",
        "rooms",
        _service("rooms", f"ExecStart={BIN}/daphne -b 127.0.0.1 -p 8008 web:application")
        | {"/srv/rooms/web.py": ASGI}
        | apache(
            "ProxyPass /_chat http://127.0.0.1:8008/_chat nocanon",
            "ProxyPassReverse /_chat http://127.0.0.1:8008/_chat",
        ),
        APACHE + "useradd --system rooms; systemctl start rooms apache2",
        front="apache2",
        url="http://localhost/_chat/rooms/first%2Fsecond",
        answer="404",
        finds="SDA166",
        says="does not pass it on",
        fix="add AllowEncodedSlashes NoDecode",
        done="sed -i 's,ProxyPass /,AllowEncodedSlashes On\\n    &,' "
        "/etc/apache2/sites-enabled/site.conf; systemctl reload apache2",
    ),
    Case(
        "R09",
        "finder",
        _service(
            "finder",
            "Group=www-data\nRuntimeDirectory=finder\nType=notify\nKillSignal=SIGQUIT\n"
            f"ExecStart={BIN}/uwsgi --ini /etc/finder.ini",
        )
        | {
            "/etc/finder.ini": """[uwsgi]
chdir = /srv/finder
module = finder.webapp
master = true
processes = 2
socket = /run/finder/socket
chmod-socket = 660
vacuum = true
""",
            "/srv/finder/finder/__init__.py": "",
            "/srv/finder/finder/webapp.py": WSGI.replace("application", "app"),
        }
        | apache("ProxyPass / unix:/run/finder/socket|uwsgi://uwsgi-uds-finder/"),
        APACHE + "useradd --system finder; systemctl start finder apache2",
        front="apache2",
        answer="500",
        finds="SDA141",
        says="callable not found",
        fix="set callable = app in uWSGI's configuration",
        done="echo 'application = app' >>/srv/finder/finder/webapp.py; systemctl restart finder",
    ),
    Case(
        "R10",
        "seeker",
        _service(
            "seeker",
            f"KillSignal=SIGQUIT\nExecStart={BIN}/uwsgi --master --http-socket 127.0.0.1:8888 "
            "--module web",
        )
        | {
            "/srv/seeker/web.py": WSGI,
            "/etc/caddy/Caddyfile": ":80 {\n\treverse_proxy 127.0.0.1:8888\n}\n",
        },
        "useradd --system seeker; systemctl start apache2 seeker; systemctl start caddy || true",
        front="caddy",
        url="http://localhost/search",
        answer="404",
        until="systemctl is-failed caddy",
        finds="SDA161",
        says="address already in use",
        fix="systemctl disable --now apache2.service",
        done="systemctl disable -q --now apache2; systemctl reset-failed caddy; "
        "systemctl start caddy",
    ),
    Case(
        "R11",
        "house",
        _service("house", f"ExecStart={BIN}/hypercorn --bind 127.0.0.1:8123 web:application")
        | {"/srv/house/web.py": BEARER}
        | _server(
            "house",
            """proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header Authorization "";
        proxy_pass http://127.0.0.1:8123;""",
        ),
        _ready("house"),
        url="http://localhost/api/states",
        headers=("Authorization: Bearer abcdef",),
        answer="401",
        finds="SDA170",
        says="nginx removes Authorization",
        fix="remove the line that removes Authorization",
        done="sed -i 's/proxy_set_header Authorization/# &/' /etc/nginx/sites-enabled/house; "
        "systemctl reload nginx",
    ),
    Case(
        "R12",
        "forms",
        _service(
            "forms",
            "Group=www-data\nRuntimeDirectory=forms\nType=notify\nNotifyAccess=all\n"
            f"KillSignal=SIGQUIT\nExecStart={BIN}/uwsgi --ini /etc/forms.ini\nRestart=always",
        )
        | {
            "/etc/forms.ini": """[uwsgi]
chdir = /srv/forms
module = web
master = true
processes = 2
socket = /run/forms/socket
chmod-socket = 660
""",
            "/srv/forms/web.py": WSGI,
        }
        | _server("forms", UWSGI.format("unix:/run/forms/socket")),
        "useradd --system forms; systemctl start nginx",
        answer="502",
        finds="SDA151",
        says="not enabled",
        fix="systemctl enable --now forms.service",
        done="systemctl enable -q --now forms",
    ),
)
"""Collected later on 30 November 2026; written down before the doctor was run on them."""

# -- the sixth collection --------------------------------------------------------------------------

SAME_ORIGIN = """
from urllib.parse import urlsplit


async def application(scope, receive, send):
    fields = dict(scope.get("headers", ()))
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        origin = urlsplit(fields.get(b"origin", b"").decode()).netloc
        if origin != fields[b"host"].decode():
            print(f"Blocking Cross Origin WebSocket Attempt: {origin}", flush=True)
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        await receive()
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"notebooks\\n"})
"""
ARGUMENTS = (
    """
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--debug", action="store_true")
options = parser.parse_args()
"""
    + WSGI
)
REDIRECTS = """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/api/":
        start_response("302 Found", [("Location", "/api/v1/")])
        return [b""]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b"{}\\n"]
"""
ONE_FIELD = (
    LIFESPAN
    + """\
    sent = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    status = 400 if len(sent) > 1 else 200
    if status == 400:
        print("ERROR Too many headers for X-Forwarded-For:", sent, flush=True)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"states\\n"})
"""
)
ROBOTS = """
PATHS = {"/_matrix/robots": "text/html", "/_matrix/robots/style.css": "text/css"}


def application(environ, start_response):
    kind = PATHS.get(environ["PATH_INFO"])
    start_response("200 OK" if kind else "404 Not Found", [("Content-Type", kind or "text/plain")])
    return [b"robots\\n" if kind else b"not here\\n"]
"""
ROOMS = """
def application(environ, start_response):
    found = environ["PATH_INFO"] == "/_matrix/client/versions"
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "application/json")])
    return [b"{}\\n"]
"""
UPLOADS = """
from django.core.files.storage import default_storage
from django.http import HttpResponse
from django.urls import path


def upload(request):
    return HttpResponse(default_storage.save("clip.bin", request.FILES["file"]))


urlpatterns = [path("", lambda request: HttpResponse("served")), path("upload", upload)]
"""
_UPLOAD = (
    "head -c 3000000 /dev/zero >/tmp/film; curl -sf --retry 20 --retry-delay 1 --retry-connrefused "
    "-F file=@/tmp/film http://127.0.0.1:8000/upload >/dev/null\n"
)
NAMES = (
    """
import json
from pathlib import Path

with open(Path(__file__).with_name("engines.json")) as file:
    ENGINES = json.load(file)["engines"]
"""
    + WSGI
)
SIXTH: tuple[Case, ...] = (
    Case(
        "S01",
        "hosts",
        _service("hosts", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 wsgi")
        | django("/srv/hosts")
        | {"/srv/hosts/settings.py": FORMS}
        | _server(
            "hosts",
            """proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header Host $host:$server_port;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_pass http://127.0.0.1:8000;""",
        ),
        _ready("hosts"),
        headers=tuple(it.replace("https://", "http://") for it in SUBMITTED),
        body=1,
        answer="403",
        finds="SDA149",
        says="browsers send no usual port in Origin",
        fix="write proxy_set_header Host $http_host;",
        done="sed -i 's/Host $host:$server_port;/Host $host;/' /etc/nginx/sites-enabled/hosts; "
        "systemctl reload nginx",
    ),
    Case(
        "S02",
        "lookup",
        _service(
            "lookup",
            f"Environment=LANG=C\nKillSignal=SIGQUIT\nExecStart={BIN}/uwsgi --ini /etc/lookup.ini",
        )
        | {
            "/etc/lookup.ini": """[uwsgi]
chdir = /srv/lookup
module = lookup.webapp
master = true
processes = 2
http-socket = 127.0.0.1:8888
""",
            "/srv/lookup/lookup/__init__.py": "",
            "/srv/lookup/lookup/engines.json": '{"engines": ["Köln", "Málaga"]}\n',
            "/srv/lookup/lookup/webapp.py": NAMES,
        }
        | _server("lookup", _TO_TCP.replace("8000", "8888")),
        _ready("lookup"),
        answer="500",
        finds="SDA141",
        says="UnicodeDecodeError: 'ascii' codec",
        fix="in [Service] of lookup.service: Environment=PYTHONUTF8=1",
        done="printf 'env = LANG=C.UTF-8\\nenv = LC_ALL=C.UTF-8\\n' >>/etc/lookup.ini; "
        "systemctl restart lookup",
    ),
    Case(
        "S03",
        "notebooks",
        _service("notebooks", f"ExecStart={BIN}/hypercorn --bind 127.0.0.1:8000 web:application")
        | {"/srv/notebooks/web.py": SAME_ORIGIN}
        | apache(
            'RequestHeader edit Origin "localhost" "127.0.0.1:8000"',
            'RequestHeader edit Referer "localhost" "127.0.0.1:8000"',
            "ProxyPass /user/ ws://127.0.0.1:8000/user/",
            "ProxyPass / http://127.0.0.1:8000/",
            "ProxyPassReverse / http://127.0.0.1:8000/",
        ),
        APACHE + "a2enmod -q proxy_wstunnel >/dev/null\nuseradd --system notebooks\n"
        "systemctl start notebooks apache2\n",
        front="apache2",
        url="http://localhost/user/ana/api/kernels/1/channels",
        headers=(*UPGRADE, "Origin: http://localhost"),
        answer="403",
        works="101",
        by_url=True,
        finds="SDA171",
        says="asked without the header field Origin",
        fix="have the front pass Origin on",
        done="sed -i '/RequestHeader edit/d' /etc/apache2/sites-enabled/site.conf; "
        "systemctl reload apache2",
    ),
    Case(
        "S04",
        "outlets",
        _service(
            "outlets",
            "Group=www-data\nRuntimeDirectory=outlets\nUMask=0007\n"
            f"ExecStart={BIN}/gunicorn --workers 1 --bind=unix:/run/outlets/web.sock web",
        )
        | {"/srv/outlets/web.py": ARGUMENTS}
        | _server(
            "outlets",
            "include proxy_params;\n        proxy_pass http://unix:/run/outlets/web.sock;",
        ),
        _ready("outlets"),
        answer="000",
        finds="SDA141",
        says="unrecognized arguments",
        fix="reads the server's command line when it is imported",
        done="sed -i -e '/parse/d' /srv/outlets/web.py; systemctl restart outlets",
    ),
    Case(
        "S05",
        "zones",
        _service("zones", f"KillSignal=SIGQUIT\nExecStart={BIN}/uwsgi --ini /etc/zones.ini")
        | {
            "/etc/zones.ini": """[uwsgi]
chdir = /srv/zones
module = web
master = true
socket = 127.0.0.1:3031
""",
            "/srv/zones/web.py": REDIRECTS,
            "/etc/nginx/conf.d/limits.conf": """
limit_req_zone $binary_remote_addr zone=api:10m rate=5r/s;
limit_req_status 429;
""",
        }
        | _server("zones", f"limit_req zone=api;\n        {UWSGI.format('127.0.0.1:3031')}"),
        _ready("zones"),
        url="http://localhost/api/",
        follows=True,
        answer="429",
        by_url=True,
        finds="SDA167",
        says="more requests came at once than limit_req",
        fix="burst=20 nodelay",
        done="sed -i 's/limit_req zone=api;/limit_req zone=api burst=20 nodelay;/' "
        "/etc/nginx/sites-enabled/zones; systemctl reload nginx",
    ),
    Case(
        "S06",
        "board",
        _service("board", _TCP.replace("8000", "9090"))
        | {"/srv/board/web.py": WSGI}
        | _server("board", "include proxy_params;\n        proxy_pass 127.0.0.1:9090;"),
        "useradd --system board; systemctl start board; systemctl start nginx || true",
        answer="000",
        until="systemctl is-failed nginx",
        finds="SDA161",
        says="invalid URL prefix",
        fix="write http:// before the address",
        done="sed -i 's,proxy_pass ,&http://,' /etc/nginx/sites-enabled/board; "
        "systemctl reset-failed nginx; systemctl start nginx",
    ),
    Case(
        "S07",
        "console",
        _service("console", f"ExecStart={BIN}/daphne -b 127.0.0.1 -p 8001 asgi:application")
        | django("/srv/console")
        | {
            "/srv/console/settings.py": DJANGO["settings.py"] + 'TITLE = "console"\n',
            "/srv/console/api/__init__.py": "",
            "/srv/console/api/views.py": "from django.conf import settings\n\nTITLE = settings.TITLE\n",
            "/srv/console/asgi.py": """import os

from api import views
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
title = views.TITLE
application = get_asgi_application()
""",
        }
        | _server("console", _TO_TCP.replace("8000", "8001")),
        _ready("console"),
        answer="502",
        until="systemctl is-failed console",
        finds="SDA110",
        says="settings are not configured",
        fix="Environment=DJANGO_SETTINGS_MODULE=settings",
        done="sed -i -e '/^from api/d' -e '/^os.environ/a from api import views' "
        "/srv/console/asgi.py; systemctl restart console",
    ),
    Case(
        "S08",
        "cottage",
        _service("cottage", f"ExecStart={BIN}/hypercorn --bind 127.0.0.1:8123 web:application")
        | {
            "/srv/cottage/web.py": ONE_FIELD,
            "/etc/haproxy/haproxy.cfg": """
global
    log /dev/log local0
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
    daemon
defaults
    log global
    mode http
    option httplog
    option forwardfor
    timeout connect 5s
    timeout client 50s
    timeout server 50s
frontend web
    bind :80
    default_backend cottage
backend cottage
    server cottage 127.0.0.1:8123
""",
        },
        "useradd --system cottage; systemctl start cottage haproxy",
        front="haproxy",
        url="http://localhost/api/states",
        headers=("X-Forwarded-For: 203.0.113.9",),
        answer="400",
        by_url=True,
        finds="SDA171",
        says="with an X-Forwarded-For field more",
        fix="put one field together",
        done="sed -i -e '/option forwardfor/d' -e '/bind :80/a "
        'http-request replace-header X-Forwarded-For ^ "%[req.fhdr(x-forwarded-for)], %[src]"'
        "' /etc/haproxy/haproxy.cfg; systemctl reload haproxy",
    ),
    Case(
        "S09",
        "robots",
        _service("robots", _TCP.replace("8000", "29316"))
        | _service("rooms", _TCP.replace("8000", "8008"))
        | {
            "/srv/robots/web.py": ROBOTS,
            "/srv/rooms/web.py": ROOMS,
            "/etc/caddy/Caddyfile": """:80 {
	reverse_proxy /_matrix/* 127.0.0.1:8008
	reverse_proxy /_matrix/robots 127.0.0.1:29316
}
""",
        },
        "useradd --system robots; useradd --system rooms; systemctl start robots rooms caddy",
        front="caddy",
        url="http://localhost/_matrix/robots/style.css",
        answer="404",
        by_url=True,
        finds="SDA171",
        says="What listens at port 8008 also answers 404",
        fix="the path /_matrix/robots/style.css gets to",
        done="sed -i 's,/_matrix/robots ,/_matrix/robots/* ,' /etc/caddy/Caddyfile; "
        "systemctl reload caddy",
    ),
    Case(
        "S10",
        "surveys",
        _service("surveys", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 wsgi")
        | django("/srv/surveys")
        | {
            "/srv/surveys/settings.py": """SECRET_KEY = "not-so-secret"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "urls"
MEDIA_ROOT = "/var/lib/surveys/media"
MEDIA_URL = "/media/"
FILE_UPLOAD_PERMISSIONS = None
""",
            "/srv/surveys/urls.py": UPLOADS,
        }
        | _server(
            "surveys",
            _TO_TCP,
            "client_max_body_size 20m;\n    location /media/ {\n"
            "        alias /var/lib/surveys/media/;\n    }",
        ),
        "useradd --system surveys; install -d -o surveys /var/lib/surveys /var/lib/surveys/media\n"
        f"systemctl start nginx surveys; {_UPLOAD}",
        url="http://localhost/media/clip.bin",
        answer="403",
        finds="SDA167",
        says="www-data may not open /var/lib/surveys/media/clip.bin",
        fix="give www-data read permission",
        done="sed -i 's/^FILE_UPLOAD_PERMISSIONS = .*/FILE_UPLOAD_PERMISSIONS = 0o644/' "
        "/srv/surveys/settings.py; systemctl restart surveys; rm /var/lib/surveys/media/clip.bin\n"
        f"{_UPLOAD}",
    ),
    Case(
        "S11",
        "images",
        _service(
            "images",
            "Group=www-data\nRuntimeDirectory=images\nKillSignal=SIGQUIT\n"
            f"ExecStart={BIN}/uwsgi --ini /etc/images.ini",
        )
        | {
            "/etc/images.ini": """[uwsgi]
chdir = /srv/images
wsgi-file = web.py
master = true
processes = 2
socket = /run/images/web.sock
chmod-socket = 660
http-chunked-input = true
""",
            "/srv/images/web.py": WSGI,
        }
        | apache("ProxyPass /image unix:/run/images/web.sock|uwsgi://uwsgi-uds-images/"),
        APACHE + "useradd --system images; systemctl start images apache2",
        front="apache2",
        url="http://localhost/image/v2",
        headers=("Transfer-Encoding: chunked",),
        body=100,
        answer="411",
        by_url=True,
        finds="SDA171",
        says="refuses a request body of unknown length",
        fix="use another protocol between them",
        done="sed -i 's,^socket = .*,http-socket = 127.0.0.1:9292,' /etc/images.ini; "
        "systemctl restart images\n"
        "sed -i 's,ProxyPass /image .*,ProxyPass /image http://127.0.0.1:9292,' "
        "/etc/apache2/sites-enabled/site.conf; systemctl reload apache2",
    ),
    Case(
        "S12",
        "raffle-web",
        unit(
            "raffle-web.service",
            f"""
[Service]
User=raffle
Group=www-data
WorkingDirectory=/srv/raffle
RuntimeDirectory=raffle
KillSignal=SIGQUIT
ExecStart={BIN}/uwsgi --master --module web --socket /run/raffle/web.sock --chmod-socket=660
""",
        )
        | unit(
            "raffle.service",
            f"""
[Service]
User=raffle
Group=www-data
WorkingDirectory=/srv/raffle
RuntimeDirectory=raffle
ExecStart={BIN}/python draw.py
""",
        )
        | {
            "/srv/raffle/web.py": WSGI,
            "/srv/raffle/draw.py": "import time\n\nwhile True:\n    time.sleep(60)\n",
        }
        | _server("raffle", UWSGI.format("unix:/run/raffle/web.sock")),
        "useradd --system raffle; systemctl start nginx raffle raffle-web\n"
        "until test -S /run/raffle/web.sock; do sleep 0.2; done; systemctl restart raffle",
        answer="502",
        finds="SDA172",
        says="raffle.service has the same RuntimeDirectory=raffle",
        fix="in [Service] of raffle.service: RuntimeDirectoryPreserve=yes",
        done=f"sed -i 's/^RuntimeDirectory=.*/&\\nRuntimeDirectoryPreserve=yes/' {UNITS}/raffle*.service; "
        "systemctl daemon-reload; systemctl restart raffle-web\n"
        "until test -S /run/raffle/web.sock; do sleep 0.2; done; systemctl restart raffle",
    ),
)
"""The third collection of 30 November 2026; written down before the doctor was run on them."""
PASTES = """
def application(environ, start_response):
    found = environ["PATH_INFO"] == "/"
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
    return [b"pasted\\n" if found else b"not here\\n"]
"""
PEOPLE = """
def application(environ, start_response):
    found = environ["PATH_INFO"] == "/_matrix/identity/api/v1"
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "application/json")])
    return [b"{}\\n"]
"""
KEYED = (
    """
import os

KEY = os.environ["REPORTS_KEY"]
"""
    + WSGI
)
SPECIES = """
def application(environ, start_response):
    found = environ["PATH_INFO"] == "/api/species"
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "application/json")])
    return [b"[]\\n"]
"""
PREVIEWS = """
def application(environ, start_response):
    found = environ["PATH_INFO"] == "/preview/7///"
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
    return [b"a draft\\n" if found else b"not here\\n"]
"""
SEVENTH: tuple[Case, ...] = (
    Case(
        "T01",
        "journal",
        _service("journal", f"ExecStart={BIN}/gunicorn --bind 127.0.0.1:8000 wsgi")
        | django("/srv/journal")
        | {
            "/srv/journal/settings.py": FORMS
            + 'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")\n'
        }
        | _https(
            "outer",
            "include proxy_params;\n        proxy_pass http://127.0.0.1:8080;",
        )
        | {
            path: text.replace("listen 80;", "listen 127.0.0.1:8080;")
            for path, text in _server(
                "journal",
                """proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_pass http://127.0.0.1:8000;""",
            ).items()
        },
        _ready("journal", CERTIFICATE),
        url="https://localhost/",
        headers=SUBMITTED,
        body=1,
        answer="403",
        done="sed -i 's/X-Forwarded-Proto $scheme;/X-Forwarded-Proto $http_x_forwarded_proto;/' "
        "/etc/nginx/sites-enabled/journal; systemctl reload nginx",
    ),
    Case(
        "T02",
        "panel",
        _service("panel", f"{_TCP.replace('8000', '5000')} --workers 2")
        | {
            "/srv/panel/web.py": WSGI,
            "/etc/nginx/sites-enabled/panel": """
server {
    listen 80;
    server_name _;
    return 301 https://$host$request_uri;
}

server {
    listen 8443 ssl;
    server_name _;
    ssl_certificate /etc/ssl/site.pem;
    ssl_certificate_key /etc/ssl/site.key;
    location / {
        include proxy_params;
        proxy_pass http://127.0.0.1:5000;
    }
}
""",
            "/etc/caddy/Caddyfile": """{
	auto_https disable_redirects
}

https://localhost {
	tls /etc/ssl/site.pem /etc/ssl/site.key
	reverse_proxy 127.0.0.1:80
}
""",
        },
        f"{CERTIFICATE}\nchgrp caddy /etc/ssl/site.key; chmod 640 /etc/ssl/site.key\n"
        + _ready("panel", "systemctl start caddy"),
        front="caddy",
        url="https://localhost/",
        follows=True,
        answer="301",
        by_url=True,
        finds="SDA171",
        says="the front redirects by itself (return 301 https://",
        fix="except requests that have come by HTTPS",
        done="sed -i 's,return 301 .*,location / { include proxy_params; proxy_pass http://127.0.0.1:5000; },' "
        "/etc/nginx/sites-enabled/panel; systemctl reload nginx",
    ),
    Case(
        "T03",
        "graphs",
        _service(
            "graphs",
            "Group=www-data\nRuntimeDirectory=graphs\nUMask=0007\n"
            f"ExecStart={BIN}/gunicorn --workers 2 --bind unix:/run/graphs/web.sock web",
        )
        | {
            "/srv/graphs/web.py": WSGI,
            "/etc/nginx/nginx.conf": """
user www-data;
worker_processes auto;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    include /etc/nginx/conf.d/*.conf;

    server {
        listen 80 default_server;
        server_name _;
        root /usr/share/nginx/html;
        #include /etc/nginx/sites-enabled/*;
        location / {
        }
    }
}
""",
        }
        | _server(
            "graphs", "include proxy_params;\n        proxy_pass http://unix:/run/graphs/web.sock;"
        ),
        _ready("graphs"),
        url="http://localhost/render",
        answer="404",
        by_url=True,
        finds="SDA171",
        says="no front on this host has a line that passes requests to graphs.service",
        fix="have the front pass requests",
        done="sed -i '/^    server {/,/^    }/c include /etc/nginx/sites-enabled/*;' "
        "/etc/nginx/nginx.conf; systemctl reload nginx",
    ),
    Case(
        "T04",
        "pastes",
        _service("pastes", _TCP.replace("8000", "11222"))
        | {
            "/srv/pastes/web.py": PASTES,
            "/var/www/pastes/index.html": "<p>How to paste</p>\n",
            "/etc/nginx/sites-enabled/pastes": """
server {
    listen 80;
    server_name localhost;
    location / {
        index index.html;
        root /var/www/pastes;
        try_files $uri $uri/ @pastes;
    }
    location @pastes {
        proxy_pass http://127.0.0.1:11222;
        proxy_set_header Host $host;
    }
}
""",
        },
        _ready("pastes"),
        body=1,
        answer="405",
        done="sed -i -e '/ index /d' -e '/ root /d' -e 's, $uri/ , ,' /etc/nginx/sites-enabled/pastes; "
        "systemctl reload nginx",
    ),
    Case(
        "T05",
        "racks",
        unit(
            "racks.socket",
            "[Socket]\nListenStream=/run/racks.sock\nSocketUser=www-data\nSocketMode=0600",
        )
        | _service(
            "racks",
            "KillSignal=SIGQUIT\nExecStart=/usr/bin/env uwsgi --master --processes 2 --module web",
        )
        | {"/srv/racks/web.py": WSGI}
        | _server("racks", UWSGI.format("unix:/run/racks.sock")),
        f"useradd --system racks; install -m 750 {BIN}/uwsgi /usr/local/bin/uwsgi\n"
        "systemctl start nginx racks.socket racks.service",
        answer="502",
        until="systemctl is-failed racks",
        finds="SDA110",
        says="Permission denied",
        fix="chmod a+rx /usr/local/bin/uwsgi",
        done="chmod 755 /usr/local/bin/uwsgi; systemctl reset-failed racks.service racks.socket\n"
        "systemctl restart racks.socket",
    ),
    Case(
        "T06",
        "people",
        _service("people", _TCP.replace("8000", "8090"))
        | _service("rooms", _TCP.replace("8000", "8008"))
        | {"/srv/people/web.py": PEOPLE, "/srv/rooms/web.py": ROOMS}
        | apache(
            "ProxyPass /_matrix/identity http://127.0.0.1:8090/_matrix/identity",
            "ProxyPassReverse /_matrix/identity http://127.0.0.1:8090/_matrix/identity",
            "<Location /_matrix>",
            "    ProxyPass http://127.0.0.1:8008/_matrix nocanon",
            "    ProxyPassReverse http://127.0.0.1:8008/_matrix",
            "</Location>",
        ),
        APACHE + user("people", "rooms") + "systemctl start people rooms apache2\n",
        front="apache2",
        url="http://localhost/_matrix/identity/api/v1",
        answer="404",
        by_url=True,
        finds="SDA171",
        says="What listens at port 8008 also answers 404",
        fix="the path /_matrix/identity/api/v1 gets to",
        done="sed -i -e '/Location/d' -e 's,ProxyPass http,ProxyPass /_matrix http,' "
        "-e 's,ProxyPassReverse http,ProxyPassReverse /_matrix http,' "
        "/etc/apache2/sites-enabled/site.conf; systemctl reload apache2",
    ),
    Case(
        "T07",
        "reports",
        _service("reports", f"ExecStart={BIN}/gunicorn --config /etc/reports/gunicorn.py web")
        | {
            "/srv/reports/web.py": KEYED,
            "/etc/reports/gunicorn.py": """bind = "127.0.0.1:8887"
workers = 2

env = {
    "REPORTS_KEY": "not-so-secret",
}
""",
        }
        | _server("reports", _TO_TCP.replace("8000", "8887")),
        _ready("reports"),
        answer="502",
        finds="SDA110",
        says="KeyError: 'REPORTS_KEY'",
        fix="set the variable with Environment=",
        done="sed -i -e 's/^env = .*/raw_env = [/' -e 's/^}/]/' -e 's/_KEY\": \"/_KEY=/' "
        "/etc/reports/gunicorn.py; systemctl restart reports",
    ),
    Case(
        "T08",
        "courses",
        _service("courses", f"ExecStart={BIN}/gunicorn --config /srv/courses/settings.py web")
        | {
            "/srv/courses/web.py": WSGI,
            "/srv/courses/settings.py": 'bind = "127.0.0.1:8000"\nworkers = 2\ntimeout = 300\n',
            "/etc/nginx/conf.d/headers.conf": "large_client_header_buffers 4 16k;\n",
        }
        | _server("courses", _TO_TCP),
        _ready("courses"),
        headers=("Cookie: session=" + "x" * 9000,),
        answer="431",
        by_url=True,
        finds="SDA171",
        says="a header field, usually a cookie, is longer than the server allows",
        fix="limit_request_field_size",
        done="echo limit_request_field_size = 16384 >>/srv/courses/settings.py; systemctl restart courses",
    ),
    Case(
        "T09",
        "tickets",
        _service(
            "tickets",
            "Environment=PYTHONPATH=/srv/tickets\n"
            f"ExecStart={BIN}/gunicorn --config /srv/tickets/gunicorn.py web",
        )
        | {
            "/srv/tickets/web.py": WSGI,
            "/srv/tickets/gunicorn.py": 'bind = "127.0.0.1:8000"\nworkers = 2\n',
        }
        | _server("tickets", _TO_TCP),
        _ready("tickets"),
        answer="502",
        until="systemctl is-failed tickets",
        finds="SDA110",
        says="'gunicorn' is not a package",
        fix="rename /srv/tickets/gunicorn.py",
        done="mv /srv/tickets/gunicorn.py /srv/tickets/server.py\n"
        f"sed -i 's,/gunicorn.py ,/server.py ,' {UNITS}/tickets.service; systemctl daemon-reload\n"
        "systemctl restart tickets",
    ),
    Case(
        "T10",
        "species",
        _service("species", f"{_TCP} --workers 2")
        | {
            "/srv/species/web.py": SPECIES,
            "/var/www/species/index.html": "<p>All species</p>\n",
        }
        | apache(
            "DocumentRoot /var/www/species",
            "<Location /api>",
            "    ProxyPass http://127.0.0.1:8000",
            "    ProxyPassReverse http://127.0.0.1:8000",
            "</Location>",
        ),
        APACHE + "useradd --system species; systemctl start species apache2\n",
        front="apache2",
        url="http://localhost/api/species",
        answer="404",
        by_url=True,
        finds="SDA171",
        says="ProxyPass replaces /api by nothing",
        fix="have the front pass on /api/species as the application needs it",
        done="sed -i 's,127.0.0.1:8000,&/api,' /etc/apache2/sites-enabled/site.conf; "
        "systemctl reload apache2",
    ),
    Case(
        "T11",
        "drafts",
        _service("drafts", f"KillSignal=SIGQUIT\nExecStart={BIN}/uwsgi --ini /etc/drafts.ini")
        | {
            "/etc/drafts.ini": """[uwsgi]
chdir = /srv/drafts
module = web
master = true
processes = 2
socket = 127.0.0.1:3031
""",
            "/srv/drafts/web.py": PREVIEWS,
        }
        | _server("drafts", UWSGI.format("127.0.0.1:3031")),
        _ready("drafts"),
        url="http://localhost/preview/7///",
        answer="404",
        by_url=True,
        finds="SDA171",
        says="nginx merges slashes",
        fix="have the front pass on /preview/7///",
        done="sed -i 's/server_name .*/&\\n    merge_slashes off;/' /etc/nginx/sites-enabled/drafts; "
        "systemctl reload nginx",
    ),
    Case(
        "T12",
        "printer",
        _service("printer", _TCP.replace("8000", "5000"))
        | {
            "/srv/printer/web.py": WSGI,
            "/etc/haproxy/haproxy.cfg": """
global
    log /dev/log local0
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
    daemon
defaults
    log global
    mode http
    option httplog
    option forwardfor
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend public
    bind *:80
    default_backend printer
backend printer
    server printer 127.0.0.1:5000
""",
        },
        "useradd --system printer; systemctl start printer haproxy",
        front="haproxy",
        url="http://[::1]/",
        answer="000",
        by_url=True,
        finds="SDA171",
        says="but something listens there at 127.0.0.1",
        fix="v4v6",
        done="sed -i 's/bind .*/bind :::80 v4v6/' /etc/haproxy/haproxy.cfg; systemctl reload haproxy",
    ),
)
"""The fourth collection of 30 November 2026; written down before the doctor was run on them."""

PLAIN = """
def application(environ, start_response):
    host = environ["HTTP_HOST"]
    status = "200 OK" if host in ("localhost", "wiki.test") else "400 Bad Request"
    start_response(status, [("Content-Type", "text/plain")])
    return [host.encode()]
"""
VARIABLE = (
    """
import os
TITLE = os.environ["WIKI_TITLE"]
"""
    + WSGI
)
DJANGO = {
    "/srv/wiki/wiki/__init__.py": "",
    "/srv/wiki/wiki/settings.py": """
SECRET_KEY = "not a secret"
DEBUG = False
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = "wiki.urls"
""",
    "/srv/wiki/wiki/urls.py": """
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse(request.get_host()))]
""",
    "/srv/wiki/wiki/wsgi.py": """
import os
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wiki.settings")
application = get_wsgi_application()
""",
}
_GUNICORN = "gunicorn --bind unix:/run/wiki/web.sock"


def _wiki(command: str = f"{BIN}/{_GUNICORN} web", more: str = "") -> dict[str, str]:
    """A service of gunicorn's that makes its own socket, open to nginx's group."""
    return unit(
        "wiki.service",
        f"""
[Service]
User=wiki
Group=www-data
RuntimeDirectory=wiki
WorkingDirectory=/srv/wiki
{more}
ExecStart={command}
""",
    )


_START = "useradd --system wiki; systemctl start nginx; systemctl start wiki"
_HTTP_ONLY = "proxy_pass http://unix:/run/wiki/web.sock;"
OF_RULES: tuple[Case, ...] = (
    Case(
        "K01",
        "wiki",
        _wiki(more="EnvironmentFiles=/etc/wiki.env")
        | {"/etc/wiki.env": "WIKI_TITLE=shop\n", "/srv/wiki/web.py": VARIABLE}
        | proxy("unix:/run/wiki/web.sock"),
        _START,
        answer="502",
        until="systemctl is-failed wiki",
        finds="SDA038",
        says="[Service] has no setting EnvironmentFiles=; did you mean EnvironmentFile?",
        fix="write EnvironmentFile=/etc/wiki.env",
        done=f"sed -i s/^EnvironmentFiles/EnvironmentFile/ {UNITS}/wiki.service; "
        "systemctl daemon-reload; systemctl restart wiki",
    ),
    Case(
        "K02",
        "wiki",
        _wiki(f"venv/bin/{_GUNICORN} web")
        | {"/srv/wiki/web.py": WSGI}
        | proxy("unix:/run/wiki/web.sock"),
        f"{_START} || true",
        answer="502",
        finds="SDA147",
        says="Neither a valid executable name nor an absolute path: venv/bin/gunicorn",
        fix=f"correct {UNITS}/wiki.service, line ",
        done=f"sed -i s,=venv/bin,={BIN}, {UNITS}/wiki.service; "
        "systemctl daemon-reload; systemctl restart wiki",
    ),
    Case(
        "K03",
        "wiki",
        _wiki() | {"/srv/wiki/web.py": WSGI} | proxy("unix:/run/wiki/web.sock"),
        _START,
        answer="413",
        body=2_000_000,
        finds="SDA148",
        says="the longest had 2000000 bytes, and client_max_body_size is 1m (the default)",
        fix="client_max_body_size 10m;` in the server of /etc/nginx/sites-enabled/site, line 2",
        done="sed -i '2a client_max_body_size 10m;' /etc/nginx/sites-enabled/site; "
        "systemctl reload nginx",
    ),
    Case(
        "K04",
        "wiki",
        _wiki()
        | {"/srv/wiki/web.py": PLAIN}
        | nginx("proxy_pass http://wiki_server;")
        | {
            "/etc/nginx/conf.d/wiki.conf": "upstream wiki_server { server unix:/run/wiki/web.sock; }"
        },
        _START,
        answer="400",
        finds="SDA149",
        says="the application is asked for 'wiki_server'",
        fix="proxy_set_header Host $host; in /etc/nginx/sites-enabled/site, line 7",
        done="sed -i '7i proxy_set_header Host $host;' /etc/nginx/sites-enabled/site; "
        "systemctl reload nginx",
    ),
    Case(
        "K05",
        "wiki",
        _wiki(f"{BIN}/{_GUNICORN} wiki.wsgi")
        | DJANGO
        | {
            path: text.replace("server_name localhost", "server_name www.wiki.test")
            for path, text in proxy("unix:/run/wiki/web.sock").items()
        },
        f"{_START}; rm -f /etc/nginx/sites-enabled/default; systemctl reload nginx",
        headers=("Host: www.wiki.test",),
        answer="400",
        finds="SDA150",
        says="the front asks for 'www.wiki.test'",
        fix="add 'www.wiki.test' to ALLOWED_HOSTS in /srv/wiki/wiki/settings.py, line 4",
        done='sed -i \'s/\\["localhost"/&, "www.wiki.test"/\' /srv/wiki/wiki/settings.py; '
        "systemctl restart wiki",
    ),
    Case(
        "K06",
        "wiki",
        {path: text.partition("[Install]")[0] for path, text in _wiki().items()}
        | {"/srv/wiki/web.py": WSGI}
        | proxy("unix:/run/wiki/web.sock"),
        "useradd --system wiki; systemctl start nginx",
        answer="502",
        finds="SDA151",
        says="has no [Install]",
        fix="in [Install] of wiki.service: WantedBy=multi-user.target",
    ),
    Case(
        "K07",
        "wiki",
        _wiki(f"cd /srv/wiki && {BIN}/{_GUNICORN} web")
        | {"/srv/wiki/web.py": WSGI}
        | proxy("unix:/run/wiki/web.sock"),
        _START,
        answer="502",
        finds="SDA039",
        says="no shell interprets ExecStart=: cd is a shell builtin, not a program",
        fix="to the absolute path of the program",
        done=f"sed -i 's,^ExecStart=cd /srv/wiki && ,ExecStart=,' {UNITS}/wiki.service; "
        "systemctl daemon-reload; systemctl restart wiki",
    ),
)
"""Broken by us, one of each rule: found first, and nothing is found once it is fixed."""

LOGS_IN = """
def application(environ, start_response):
    root, path = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
    if path != "/login":
        start_response("302 Found", [("Location", root.rstrip("/") + "/login")])
        return [b""]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"login\\n"]
"""
READS = """
def application(environ, start_response):
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"read\\n"]
"""
SECURE = """
def application(environ, start_response):
    secure = environ.get("HTTP_X_FORWARDED_PROTO") == "https"
    start_response("200 OK" if secure else "403 Forbidden", [("Content-Type", "text/plain")])
    return [b"secure\\n"]
"""
_PORT = f"{BIN}/gunicorn --bind 127.0.0.1:8000 web"
_TAKES_LONG = {"/srv/wiki/web.py": SLOW}


def _caddy(text: str) -> dict[str, str]:
    return {"/etc/caddy/Caddyfile": f":80 {{\n{text}\n}}\n"}


def _lighttpd(text: str) -> dict[str, str]:
    return {"/etc/lighttpd/conf-enabled/90-wiki.conf": text}


def _haproxy(front: str, back: str, defaults: str = "") -> dict[str, str]:
    return {
        "/etc/haproxy/haproxy.cfg": f"""
global
    log /dev/log local0
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
    daemon
defaults
    log global
    mode http
    option httplog
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    {defaults}
frontend web
    {front}
    default_backend wiki
backend wiki
    {back}
    server wiki 127.0.0.1:8000
"""
    }


def _behind(front: str) -> str:
    return f"useradd --system wiki; systemctl start wiki; sleep 1; systemctl start {front}"


_PROXY = 'proxy.server = ( "" => (( "host" => "127.0.0.1", "port" => 8000 )) )\n'
WRITES = (
    """
import os

os.makedirs("/var/log/wiki", exist_ok=True)
log = open("/var/log/wiki/web.log", "a")
"""
    + WSGI
)
POLLS = next(it for it in THIRD if it.id == "P03")
OF_OTHER_FRONTS: tuple[Case, ...] = (
    Case(
        "K08",
        "wiki",
        _wiki()
        | {"/srv/wiki/web.py": WSGI, "/srv/wiki/static/site.css": "body {}\n"}
        | proxy("unix:/run/wiki/web.sock", "location /static/ { root /srv/wiki/static; }"),
        _START,
        url="http://localhost/static/site.css",
        answer="404",
        finds="SDA156",
        says="where the last part of the path is twice",
        fix="write alias /srv/wiki/static/; instead of root",
        done="sed -i 's,root /srv/wiki/static;,alias /srv/wiki/static/;,' "
        "/etc/nginx/sites-enabled/site; systemctl reload nginx",
    ),
    Case(
        "K09",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": WSGI, "/srv/wiki/assets/site.css": "body {}\n"}
        | apache(
            "ProxyPass /static !",
            "ProxyPass / http://127.0.0.1:8000/",
            "Alias /static /srv/wiki/asset",
            "<Directory /srv/wiki>\n    Require all granted\n    </Directory>",
        ),
        APACHE + _behind("apache2"),
        front="apache2",
        url="http://localhost/static/site.css",
        answer="404",
        finds="SDA156",
        says="/srv/wiki/asset (/etc/apache2/sites-enabled/site.conf, line ",
        fix="or correct the directory",
        done="sed -i s,/srv/wiki/asset,/srv/wiki/assets, /etc/apache2/sites-enabled/site.conf; "
        "systemctl reload apache2",
    ),
    Case(
        "K10",
        "wiki",
        _wiki(_PORT) | {"/srv/wiki/web.py": WSGI} | _lighttpd(_PROXY),
        _behind("lighttpd"),
        front="lighttpd",
        url="http://localhost/page",
        answer="404",
        finds="SDA154",
        says="does not load mod_proxy",
        fix='server.modules += ("mod_proxy")',
        done="sed -i '1i server.modules += (\"mod_proxy\")' "
        "/etc/lighttpd/conf-enabled/90-wiki.conf; systemctl restart lighttpd",
    ),
    Case(
        "K11",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": SECURE}
        | _haproxy("bind *:443 ssl crt /etc/ssl/both.pem", ""),
        CERTIFICATE
        + "cat /etc/ssl/site.pem /etc/ssl/site.key >/etc/ssl/both.pem\n"
        + _behind("haproxy"),
        front="haproxy",
        url="https://localhost/",
        answer="403",
        finds="SDA144",
        says="HAProxy terminates HTTPS",
        fix="http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        done="sed -i '/bind/a http-request set-header X-Forwarded-Proto https if { ssl_fc }' "
        "/etc/haproxy/haproxy.cfg; systemctl reload haproxy",
    ),
    Case(
        "K12",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": LOGS_IN}
        | _caddy("handle_path /wiki/* {\nreverse_proxy 127.0.0.1:8000\n}\nrespond 404"),
        _behind("caddy"),
        front="caddy",
        url="http://localhost/wiki/",
        follows=True,
        answer="404",
        finds="SDA157",
        says="passes /wiki/ on without /wiki",
        fix="write handle /wiki/* instead of handle_path",
        done=f"sed -i s/handle_path/handle/ /etc/caddy/Caddyfile; systemctl reload caddy; "
        f"sed -i 's,^ExecStart,Environment=SCRIPT_NAME=/wiki\\n&,' {UNITS}/wiki.service; "
        "systemctl daemon-reload; systemctl restart wiki",
    ),
    Case(
        "K13",
        "wiki",
        _wiki(f"{BIN}/python app.fcgi", "UMask=0007")
        | {
            "/srv/wiki/app.fcgi": f"""from flup.server.fcgi import WSGIServer
{LOGS_IN}
WSGIServer(application, bindAddress="/run/wiki/web.sock").run()
"""
        }
        | _lighttpd(
            'server.modules += ( "mod_fastcgi" )\n'
            'fastcgi.server = ( "/" => (( "socket" => "/run/wiki/web.sock",\n'
            '    "check-local" => "disable", "max-procs" => 1 )) )\n'
        ),
        _behind("lighttpd"),
        front="lighttpd",
        url="http://localhost/login",
        answer="302",
        finds="SDA158",
        says="lighttpd sends the first part of a request's path as SCRIPT_NAME",
        fix='"fix-root-scriptname" => "enable"',
        done='sed -i \'s/"max-procs"/"fix-root-scriptname" => "enable", &/\' '
        "/etc/lighttpd/conf-enabled/90-wiki.conf; systemctl restart lighttpd",
    ),
    Case(
        "K14",
        "wiki",
        _wiki(f"{BIN}/uvicorn --port 8000 web:application")
        | {"/srv/wiki/web.py": SOCKETS}
        | _lighttpd('server.modules += ( "mod_proxy" )\n' + _PROXY),
        _behind("lighttpd"),
        front="lighttpd",
        headers=UPGRADE,
        answer="404",
        works="101",
        finds="SDA152",
        says="lighttpd does not pass on Upgrade",
        fix='proxy.header = ("upgrade" => "enable")',
        done='echo \'proxy.header = ("upgrade" => "enable")\' '
        ">>/etc/lighttpd/conf-enabled/90-wiki.conf; systemctl restart lighttpd",
    ),
    Case(
        "K15",
        "wiki",
        _wiki(f"{BIN}/gunicorn --bind 127.0.0.1:8000 wiki.wsgi")
        | DJANGO
        | {
            path: text.replace("ProxyPreserveHost On", "")
            for path, text in apache("ProxyPass / http://127.0.0.1:8000/").items()
        },
        APACHE + _behind("apache2"),
        front="apache2",
        answer="400",
        finds="SDA149",
        says="Apache does not pass on the client's Host",
        fix="ProxyPreserveHost On",
        done="sed -i '/ProxyPass/i ProxyPreserveHost On' /etc/apache2/sites-enabled/site.conf; "
        "systemctl reload apache2",
    ),
    Case(
        "K16",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": PLAIN}
        | _caddy("reverse_proxy 127.0.0.1:8000 {\nheader_up Host {upstream_hostport}\n}"),
        _behind("caddy"),
        front="caddy",
        answer="400",
        finds="SDA149",
        says="Caddy does not pass on the client's Host",
        fix="remove header_up Host",
        done="sed -i /header_up/d /etc/caddy/Caddyfile; systemctl reload caddy",
    ),
    Case(
        "K17",
        "wiki",
        _wiki(_PORT) | _TAKES_LONG | apache("ProxyTimeout 1", "ProxyPass / http://127.0.0.1:8000/"),
        APACHE + _behind("apache2"),
        front="apache2",
        answer="502",
        finds="SDA153",
        says="Apache has given up on a response",
        fix="set a longer ProxyTimeout",
        done="sed -i 's/ProxyTimeout 1/ProxyTimeout 120/' /etc/apache2/sites-enabled/site.conf; "
        "systemctl reload apache2",
    ),
    Case(
        "K18",
        "wiki",
        _wiki(_PORT) | _TAKES_LONG | _haproxy("bind *:80", "timeout server 1s"),
        _behind("haproxy"),
        front="haproxy",
        answer="504",
        finds="SDA153",
        says="a response took longer than it waits (timeout server)",
        fix="set a longer timeout server",
        done="sed -i 's/timeout server 1s/timeout server 50s/' /etc/haproxy/haproxy.cfg; "
        "systemctl reload haproxy",
    ),
    Case(
        "K19",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": COOKIES.replace("3000", "40000")}
        | _lighttpd('server.modules += ("mod_proxy")\n' + _PROXY),
        _behind("lighttpd"),
        front="lighttpd",
        answer="502",
        finds="SDA153",
        says="was larger than 64 KiB",
        fix="send fewer or smaller cookies",
        done="sed -i s/40000/400/ /srv/wiki/web.py; systemctl restart wiki lighttpd",
    ),
    Case(
        "K20",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": READS}
        | _lighttpd('server.modules += ("mod_proxy")\nserver.max-request-size = 1000\n' + _PROXY),
        _behind("lighttpd"),
        front="lighttpd",
        answer="413",
        body=2_000_000,
        finds="SDA148",
        says="the longest had 2000000 bytes, more than server.max-request-size allows",
        fix="set server.max-request-size = 10240",
        done="sed -i 's/max-request-size = 1000/max-request-size = 10240/' "
        "/etc/lighttpd/conf-enabled/90-wiki.conf; systemctl restart lighttpd",
    ),
    Case(
        "K21",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": READS}
        | _caddy("request_body {\nmax_size 1MB\n}\nreverse_proxy 127.0.0.1:8000"),
        _behind("caddy"),
        front="caddy",
        answer="502",
        body=2_000_000,
        finds="SDA148",
        says="the longest had 2000000 bytes, more than max_size of request_body allows",
        fix="set max_size 10MB",
        done="sed -i 's/max_size 1MB/max_size 10MB/' /etc/caddy/Caddyfile; systemctl reload caddy",
    ),
    Case(
        "K22",
        "wiki",
        _wiki(f"{_PORT} --threads 4")
        | {"/srv/wiki/web.py": EVENTS}
        | _lighttpd('server.modules += ("mod_proxy")\n' + _PROXY),
        _behind("lighttpd"),
        front="lighttpd",
        answer="000",
        finds="SDA160",
        says="lighttpd collects responses before it passes them on",
        fix="set server.stream-response-body = 2",
        done="echo 'server.stream-response-body = 2' >>/etc/lighttpd/conf-enabled/90-wiki.conf; "
        "systemctl restart lighttpd",
    ),
    Case(
        "K23",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": WSGI}
        | nginx("include proxy_params; proxy_pass 127.0.0.1:8000;"),
        "useradd --system wiki; systemctl start wiki; systemctl start nginx || true",
        answer="000",
        finds="SDA161",
        says="invalid URL prefix",
        fix="write http:// before the address in /etc/nginx/sites-enabled/site, line 7",
        done="sed -i s,127.0.0.1:8000,http://127.0.0.1:8000, /etc/nginx/sites-enabled/site; "
        "systemctl start nginx",
    ),
    Case(
        "K24",
        "wiki",
        _wiki(_PORT) | {"/srv/wiki/web.py": WSGI} | _haproxy("bind *:80", "optoin httpchk"),
        "useradd --system wiki; systemctl start wiki; systemctl start haproxy || true",
        front="haproxy",
        answer="000",
        until="systemctl is-failed haproxy",
        finds="SDA161",
        says="optoin",
        fix="correct this, until `haproxy -c",
        done="sed -i /optoin/d /etc/haproxy/haproxy.cfg; systemctl reset-failed haproxy; "
        "systemctl start haproxy",
    ),
    Case(
        "K25",
        "wiki",
        _wiki(f"{BIN}/gunicorn --bind 127.0.0.1:8000 wiki.wsgi")
        | DJANGO
        | {
            path: text.replace("127.0.0.1:8000", "127.0.0.1:8000 check inter 300")
            for path, text in _haproxy("bind *:80", "option httpchk GET /").items()
        },
        _behind("haproxy") + "; sleep 2",
        front="haproxy",
        answer="503",
        finds="SDA162",
        says="its check was not answered as it expects (400)",
        fix="http-check send meth GET uri / hdr Host NAME",
        done="sed -i '/httpchk/a http-check send meth GET uri / hdr Host localhost' "
        "/etc/haproxy/haproxy.cfg; systemctl reload haproxy",
    ),
    Case(
        "K26",
        "wiki",
        _wiki(_PORT, "Environment=SCRIPT_NAME=/wiki")
        | {"/srv/wiki/web.py": WSGI}
        | {
            path: text.replace("location /", "location /wiki/")
            for path, text in proxy("127.0.0.1:8000/").items()
        },
        _START,
        url="http://localhost/wiki/",
        answer="500",
        finds="SDA157",
        says="but gunicorn expects it in the path (SCRIPT_NAME=/wiki in wiki.service)",
        fix="leave the prefix in the path (proxy_pass http://127.0.0.1:8000;",
        done="sed -i s,8000/,8000, /etc/nginx/sites-enabled/site; systemctl reload nginx",
    ),
    POLLS._replace(
        id="K27",
        files=POLLS.files
        | {
            f"{UNITS}/polls.service.d/variables.conf": "[Service]\n"
            "Environment=FORWARDED_ALLOW_IPS=*\nEnvironmentFile=/etc/polls.env\n",
            "/etc/polls.env": "FORWARDED_ALLOW_IPS=127.0.0.1\n",
        },
        done="sed -i 's/=.*/=*/' /etc/polls.env; systemctl restart polls",
    ),
    Case(
        "K28",
        "wiki",
        _wiki(f"{BIN}/gunicorn --bind 127.0.0.1:8000 wiki.wsgi")
        | DJANGO
        | {
            "/srv/wiki/wiki/settings.py": DJANGO["/srv/wiki/wiki/settings.py"].replace(
                '["localhost"]', '["wiki.test", "www.wiki.test", "127.0.0.1"]'
            ),
            "/srv/wiki/wiki/urls.py": DJANGO["/srv/wiki/wiki/urls.py"].replace(
                'path("",', 'path("page",'
            ),
        }
        | {
            path: text.replace("server_name localhost", "server_name wiki.test")
            for path, text in proxy("127.0.0.1:8000").items()
        },
        f"ln -sf ../sites-available/default /etc/nginx/sites-enabled/default; {_START}",
        url="http://localhost/page",
        headers=("Host: www.wiki.test",),
        answer="404",
        finds="SDA121",
        says="answers www.wiki.test instead of the site: ALLOWED_HOSTS contains www.wiki.test (/sr",
        fix="add www.wiki.test to server_name in the server at /etc/nginx/sites-enabled/site",
        done="sed -i 's/wiki.test;/wiki.test www.wiki.test;/' /etc/nginx/sites-enabled/site; "
        "systemctl reload nginx",
    ),
    Case(
        "K29",
        "wiki",
        _wiki(f"{BIN}/uwsgi --ini /srv/wiki/uwsgi.ini")
        | {
            "/srv/wiki/uwsgi.ini": """[uwsgi]
chdir = /srv/wiki/code
module = web
master = true
die-on-term = true
socket = /run/wiki/web.sock
chmod-socket = 660
""",
            "/srv/wiki/code/web.py": f"import pages\n{WSGI}",
        }
        | nginx("include uwsgi_params; uwsgi_pass unix:/run/wiki/web.sock;"),
        f"{BIN}/python -m venv --without-pip /srv/wiki/env\n"
        f"touch $(echo /srv/wiki/env/lib/python3*/site-packages)/pages.py; {_START}",
        answer="500",
        finds="SDA141",
        says="No module named 'pages'",
        fix="set virtualenv = /srv/wiki/env in uWSGI's configuration",
        done="echo virtualenv = /srv/wiki/env >>/srv/wiki/uwsgi.ini; systemctl restart wiki",
    ),
    Case(
        "K30",
        "wiki",
        _wiki() | {"/srv/wiki/web.py": WRITES} | proxy("unix:/run/wiki/web.sock"),
        _START,
        answer="502",
        until="systemctl is-failed wiki",
        finds="SDA110",
        says="Permission denied: '/var/log/wiki'",
        fix="LogsDirectory=wiki",
    ),
    Case(
        "K31",
        "wiki",
        _wiki(_PORT) | {"/srv/wiki/web.py": WSGI} | apache("ProxyPass / http://127.0.0.1:8000/"),
        APACHE + _behind("apache2"),
        front="apache2",
        url="http://localhost/page/a%2Fb",
        answer="404",
        finds="SDA166",
        says="Apache answers 404 for each path with an encoded slash",
        fix="add AllowEncodedSlashes NoDecode to the virtual host of /etc/apache2/sites-enabled",
        done="sed -i 's,8000/,8000/ nocanon\\nAllowEncodedSlashes NoDecode,' "
        "/etc/apache2/sites-enabled/site.conf; systemctl reload apache2",
    ),
)
"""The same faults behind other fronts, run by hand."""

_LEAVES = """
import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/":
            return
        self.send_response(200)
        self.end_headers()


http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
_STAYS = 'sed -i \'s/ == "\\/"/ == ""/\' /srv/wiki/serve.py; systemctl restart wiki'
_LEAVING = _wiki(f"{BIN}/python serve.py") | {"/srv/wiki/serve.py": _LEAVES}
_SITE = """server {{
    listen 80;
    server_name localhost;
    error_log /var/log/nginx/wiki.log;
    {}
}}
"""


def _own_log(text: str) -> dict[str, str]:
    """A site of nginx's with an error log of its own."""
    return {"/etc/nginx/sites-enabled/site": _SITE.format(text)}


_LISTENS = "sleep 1; ss -Hltn sport = :8000 | grep -q ."
OF_THE_LAST_RESORT: tuple[Case, ...] = (
    Case(
        "L01",
        "wiki",
        _LEAVING
        | _own_log(
            "location / {\n        include proxy_params; proxy_pass http://127.0.0.1:8000;\n    }"
        ),
        _START,
        answer="502",
        until=_LISTENS,
        finds="SDA167",
        says="the server closed the connection without a response",
        fix="journalctl -u wiki.service",
        done=_STAYS,
    ),
    Case(
        "L02",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": WSGI}
        | _own_log(
            "root /srv/wiki;\n    location / {\n        try_files $uri /index.html;\n    }\n"
            "    location /api/ {\n        include proxy_params; proxy_pass http://127.0.0.1:8000;\n    }"
        ),
        _START,
        answer="500",
        until=_LISTENS,
        finds="SDA167",
        says="a try_files, index or error_page line leads to /index.html, and from there to itself",
        fix="end try_files with a named location",
        done="sed -i 's,uri /index.html,uri @site,; s,location /api/,location @site,' "
        "/etc/nginx/sites-enabled/site; systemctl reload nginx",
    ),
    Case(
        "L03",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": WSGI}
        | nginx("include proxy_params; proxy_pass https://127.0.0.1:8000;"),
        _START,
        answer="502",
        until=_LISTENS,
        finds="SDA167",
        says="does not speak TLS, but the front does",
        fix="write http:// instead of https://, at /etc/nginx/sites-enabled/site, line ",
        done="sed -i s/https:/http:/ /etc/nginx/sites-enabled/site; systemctl reload nginx",
    ),
    Case(
        "L04",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": WSGI}
        | nginx(
            'auth_basic "wiki";\n        auth_basic_user_file /etc/wiki.htpasswd;\n'
            "        include proxy_params; proxy_pass http://127.0.0.1:8000;"
        ),
        _START,
        headers=("Authorization: Basic YTpi",),
        answer="403",
        until=_LISTENS,
        finds="SDA167",
        says="/etc/wiki.htpasswd is not there",
        fix="create the file, or correct its path",
        done="echo 'a:{PLAIN}b' >/etc/wiki.htpasswd",
    ),
    Case(
        "L05",
        "wiki",
        _wiki(_PORT) | {"/srv/wiki/web.py": WSGI} | apache("ProxyPass / https://127.0.0.1:8000/"),
        APACHE + _behind("apache2"),
        front="apache2",
        answer="500",
        until=_LISTENS,
        finds="SDA154",
        says="does not load mod_ssl",
        fix="write http:// instead of https:// in /etc/apache2/sites-enabled/site.conf, line ",
        done="sed -i s/https:/http:/ /etc/apache2/sites-enabled/site.conf; systemctl reload apache2",
    ),
    Case(
        "L06",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": WSGI}
        | apache(
            "ErrorLog ${APACHE_LOG_DIR}/wiki.log",
            "ProxyPass /app http://127.0.0.1:8000/app",
            "RewriteEngine On",
            "RewriteRule ^ /index.py [L]",
            "<Directory /var/www/html>\n    RewriteEngine On\n    RewriteRule ^ /index.py/x [L]\n"
            "    </Directory>",
        ),
        f"{APACHE}a2enmod -q rewrite >/dev/null\n{_behind('apache2')}",
        front="apache2",
        answer="500",
        until=_LISTENS,
        finds="SDA167",
        says="a RewriteRule or ErrorDocument leads to itself",
        fix="add a RewriteCond that ends it (RewriteCond %{REQUEST_URI} !^/index)",
        done="sed -i '/Rewrite/d; s,/app http://127.0.0.1:8000/app,/ http://127.0.0.1:8000/,' "
        "/etc/apache2/sites-enabled/site.conf; systemctl reload apache2",
    ),
    Case(
        "L07",
        "wiki",
        _wiki(_PORT)
        | {"/srv/wiki/web.py": WSGI}
        | apache(
            "ProxyPass / http://127.0.0.1:8000/",
            '<Location />\n    AuthType Basic\n    AuthName "wiki"\n'
            "    AuthUserFile /etc/wiki.htpasswd\n    Require valid-user\n    </Location>",
        ),
        APACHE + _behind("apache2"),
        front="apache2",
        headers=("Authorization: Basic YTpi",),
        answer="500",
        until=_LISTENS,
        finds="SDA167",
        says="can't read the password file /etc/wiki.htpasswd",
        fix="create it (htpasswd -c /etc/wiki.htpasswd USER)",
        done="echo 'a:rEK1ecacw.7.c' >/etc/wiki.htpasswd; htpasswd -b /etc/wiki.htpasswd a b",
    ),
    Case(
        "L08",
        "wiki",
        _LEAVING | apache("ProxyPass / http://127.0.0.1:8000/"),
        APACHE + _behind("apache2"),
        front="apache2",
        answer="502",
        until=_LISTENS,
        finds="SDA167",
        says="the server closed the connection without a response",
        fix="journalctl -u wiki.service",
        done=_STAYS,
    ),
    Case(
        "L09",
        "wiki",
        _LEAVING | _caddy("reverse_proxy 127.0.0.1:8000"),
        _behind("caddy"),
        front="caddy",
        answer="502",
        until=_LISTENS,
        finds="SDA167",
        says="the server closed the connection without a response",
        fix="journalctl -u wiki.service",
        done=_STAYS,
    ),
)
"""Broken by us, behind each front that logs reasons: only the front's log has the cause."""
