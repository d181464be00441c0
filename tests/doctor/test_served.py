"""What servers say while they run, what they are told, and what fronts speak to them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.doctor import advice, uwsgi_options
from sdactivate.doctor.checks import served
from sdactivate.doctor.checks.protocols import protocols
from sdactivate.doctor.finding import Command, Lines
from sdactivate.front_upstreams import Upstream, groups, spoken, targets, upstreams
from sdactivate.systemd.unitfile import Unit, parse


def service(command: str, more: str = "") -> Unit:
    text = f"[Service]\nUser=web\n{more}\nExecStart={command}\n"
    return Unit("web.service", [parse(text, "web.service")], ["web.service"])


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("invalid request block size: 6366 (max 4096)...skip", "buffer-size = 32768"),
        ("invalid request block size: 21573 (max 4096)...skip", "http-socket"),
        ('*** uWSGI listen queue of socket "a" (fd: 3) full !!! (101/100) ***', "listen = 1024"),
        ("[2026-11-28 22:58:02 +0000] [9] [CRITICAL] WORKER TIMEOUT (pid:10)", "--timeout"),
        ("[9] [ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?", "memory"),
        (
            "Invalid request from ip=::1: Request Line is too large (5000 > 4094)",
            "--limit-request-line",
        ),
    ],
)
def test_a_server_s_words_have_a_row(said: str, fix: str) -> None:
    (row, found), *others = [
        (row, found) for row in served.ROWS if (found := row.pattern.search(said))
    ]
    assert not others
    assert row.means.format(**found.groupdict())
    assert fix in str(row.fix(service("uwsgi"), found))


def test_what_goes_well_has_none() -> None:
    lines = (
        "[pid: 196|app: 0|req: 1/1] 127.0.0.1 () {32 vars in 343 bytes} GET / => generated 7 bytes",
        "[2026-11-28 23:34:42 +0000] [186] [INFO] Booting worker with pid: 186",
    )
    assert not [row for row in served.ROWS for line in lines if row.pattern.search(line)]


@pytest.mark.parametrize(
    ("command", "speaks"),
    [
        ("/x/bin/gunicorn --bind unix:/run/a.sock web", ("http",)),
        ("/x/bin/gunicorn --protocol uwsgi web", ("uwsgi",)),
        ("/x/bin/gunicorn -c gunicorn.py web", ()),
        ("/x/bin/uwsgi -s /run/a.sock -w web", ("uwsgi",)),
        ("/x/bin/uwsgi --http-socket /run/a.sock -w web", ("http",)),
        ("/x/bin/uwsgi --socket /run/a.sock --protocol=http", ("http",)),
        ("/x/bin/uwsgi --socket :3031 --http 127.0.0.1:8000", ("uwsgi", "http")),
        ("/x/bin/waitress-serve web:app", ("http",)),
        ("/x/bin/python -m sdactivate serve web:app", ()),
        ("/x/bin/python manage.py runserver", ()),
    ],
)
def test_what_a_server_speaks(command: str, speaks: tuple[str, ...]) -> None:
    assert protocols(service(command)) == speaks


def test_the_options_of_a_file_count(tmp_path: Path) -> None:
    file = tmp_path / "web.ini"
    file.write_text("[app]\nsocket = no\n[uwsgi]\n# uid = x\nuid = web\nhttp_socket=:80\nmaster\n")
    unit = service(f"/x/bin/uwsgi --ini {file} --listen 10")
    assert uwsgi_options.options(unit) == [
        *(("uid", "web"), ("http-socket", ":80")),
        *(("ini", str(file)), ("listen", "10")),
    ]
    assert uwsgi_options.protocols(unit) == ("http",)
    assert uwsgi_options.values_of(str(tmp_path / "none.ini"), "uid") == []


@given(st.text(max_size=200))
def test_any_command_line_is_read(text: str) -> None:
    unit = service("/x/bin/uwsgi " + text.replace("\n", " "))
    assert all(isinstance(it, tuple) for it in uwsgi_options.options(unit))


NGINX = """
upstream app { server unix:/run/a.sock; }
# uwsgi_pass unix:/run/b.sock;
server { location / { proxy_pass http://app/x; } location /b { fastcgi_pass unix:/run/b.sock; } }
"""


def test_what_nginx_speaks_by_a_group_or_not() -> None:
    files = {"n": NGINX}
    a, b, c = (Upstream("", 0, f"/run/{it}.sock") for it in "abc")
    assert [(it.protocol, it.line) for it in spoken("nginx", files, a)] == [("http", 4)]
    assert [(it.protocol, it.word) for it in spoken("nginx", files, b)] == [
        ("fastcgi", "fastcgi_pass")
    ]
    assert spoken("nginx", files, c) == []
    assert targets("proxy_pass http://app;") & {*groups(files, a)}
    assert not targets("proxy_pass http://application;") & {*groups(files, a)}
    assert not targets("# proxy_pass http://app;")


@pytest.mark.parametrize(
    ("text", "upstream", "protocol"),
    [
        ("ProxyPass / unix:/run/a.sock|uwsgi://a/", Upstream("", 0, "/run/a.sock"), "uwsgi"),
        ("ProxyPass / http://127.0.0.1:8000/", Upstream("", 0, "", 8000), "http"),
        ('SetHandler "proxy:fcgi://localhost:9000"', Upstream("", 0, "", 9000), "fastcgi"),
    ],
)
def test_what_apache_speaks(text: str, upstream: Upstream, protocol: str) -> None:
    assert [it.protocol for it in spoken("apache", {"a": text}, upstream)] == [protocol]
    assert spoken("apache", {"a": text}, Upstream("", 0, "/run/other.sock")) == []


def test_haproxy_s_servers_are_read() -> None:
    text = (
        "backend b\n  server a unix@/run/a.sock check\n  server b 127.0.0.1:8000\n  # server c /c\n"
    )
    found = [(it.path, it.port, it.line) for it in upstreams("haproxy", {"h": text})]
    assert found == [("/run/a.sock", 0, 2), ("", 8000, 3)]


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        (
            "Listen queue size is greater than the system max net.core.somaxconn (4096).",
            "set listen = 4096 or less",
        ),
        ("Error: Already running on PID 1 (or pid file '/run/a/pid' is stale)", "rm /run/a/pid"),
        ("Couldn't listen on any:b'/run/a.sock': Cannot acquire lock.", "rm /run/a.sock.lock"),
        ("Error: /run/a doesn't exist. Can't create pidfile.", "RuntimeDirectory=a"),
        ("Error: /srv/a/run doesn't exist. Can't create pidfile.", "create /srv/a/run"),
        ("KeyError: 'KEY' (/srv/a.py, line 1: os.environ['KEY'])", "Environment="),
        (
            "OSError: [Errno 98] Address already in use (/srv/a.py, line 9: app.run())",
            '__name__ == "__main__"',
        ),
        ("PermissionError: [Errno 13] Permission denied: '/etc/hosts'", "chown web /etc/hosts"),
        (
            "PermissionError: [Errno 13] Permission denied: '/var/log/a.log'",
            "set LogsDirectory=web in [Service] of web.service, and configure the application to "
            "write to /var/log/web",
        ),
        ("PermissionError: [Errno 13] Permission denied: '/var/log/no/a.log'", "LogsDirectory=no"),
        ("PermissionError: [Errno 13] Permission denied: '/var/lib/no'", "StateDirectory=no"),
        ("PermissionError: [Errno 13] Permission denied: '/run/no/a'", "RuntimeDirectory=no"),
        ("PermissionError: [Errno 13] Permission denied: '/etc/no'", "may not create /etc/no: con"),
        ("PermissionError: [Errno 13] Permission denied: '/root/no'", "may not create /root/no: "),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/srv/no/a.log'",
            "/srv/no does not exist: correct the path, or run install -d -o web /srv/no",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/var/log/no/a.log'",
            "LogsDirectory=no",
        ),
        (
            "connection to /run/no/a.sock failed: [Errno 2] No such file or directory",
            "RuntimeDirectory=no",
        ),
        ('open("/var/log/no/a.log"): No such file or directory', "LogsDirectory=no"),
        ('open("/etc/hosts"): Permission denied', "chown web /etc/hosts"),
        ("Error: '/etc/hosts' isn't writable [PermissionError(13, 'P')]", "chown web /etc/hosts"),
        ("Error: '/srv/no/a' isn't writable [FileNotFoundError(2, 'N')]", "-o web /srv/no"),
        ("OSError: [Errno 24] Too many open files: '/dev/null'", "LimitNOFILE=65536"),
        ("ModuleNotFoundError: No module named 'x'", "install the package that has the module"),
    ],
)
def test_a_reason_that_is_known_has_a_fix(reason: str, fix: str) -> None:
    assert fix in str(advice.fix(reason, service("/x/bin/gunicorn web")))


@pytest.mark.parametrize(
    "reason",
    [
        "ValueError: no",
        "FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/srv/x'",
        "OSError: [Errno 98] Address already in use",
    ],
)
def test_one_that_is_not_has_none(reason: str) -> None:
    assert advice.fix(reason, service("/x/bin/gunicorn web", "Environment=PATH=/x/bin")) is None


def test_a_module_that_is_in_the_site_s_own_environment(tmp_path: Path) -> None:
    reason = "ModuleNotFoundError: No module named 'flask'"
    web = service("/opt/x/bin/python3 -m sdactivate serve app:app", f"WorkingDirectory={tmp_path}")
    assert "install the package" in str(advice.fix(reason, web))
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    assert f"--python {python}" in str(advice.fix(reason, web))
    own = service(f"{python} -m sdactivate serve app:app", f"WorkingDirectory={tmp_path}")
    assert "install the package" in str(advice.fix(reason, own))


def test_a_script_that_env_starts(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text("#!/usr/bin/env python\n")
    python = tmp_path / "flask" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    reason = "/usr/bin/env: ‘python’: No such file or directory"  # noqa: RUF001
    unit = service(f"{script} --port 80")
    assert f"{script} --port 80 in web.service" in str(advice.fix(reason, unit))
    assert str(python) not in str(advice.fix(reason, unit))
    (tmp_path / "flask" / "pyvenv.cfg").touch()
    assert f"write ExecStart={python} {script} --port 80" in str(advice.fix(reason, unit))
    by_env = service("/usr/bin/env python run.py")
    assert "instead of /usr/bin/env python" in str(advice.fix(reason, by_env))


def test_files_that_are_left_open() -> None:
    unit = service("/x/bin/gunicorn web", "LimitNOFILE=infinity")
    assert "leaves open" in str(advice.fix("OSError: [Errno 24] Too many open files", unit))


@pytest.mark.parametrize(
    ("command", "more", "told"),
    [
        ("/x/bin/gunicorn --workers 3 web", "", True),
        ("/x/bin/gunicorn -w 1 web", "", False),
        ("/x/bin/gunicorn web", "", False),
        ("/x/bin/gunicorn web", "Environment=WEB_CONCURRENCY=2", True),
        ("/x/bin/uwsgi --processes 4", "", True),
    ],
)
def test_sessions_in_the_memory_of_several_processes(command: str, more: str, told: bool) -> None:
    line = "Invalid session x1 (further occurrences of this error will be logged with level INFO)"
    (row, found) = next((it, hit) for it in served.ROWS if (hit := it.pattern.search(line)))
    assert (row.fix(service(command, more), found) is not None) is told


def test_a_file_that_cannot_be_created_in_a_site_s_directory(tmp_path: Path) -> None:
    reason = f"PermissionError: [Errno 13] Permission denied: '{tmp_path}/data/run/a.db'"
    made = str(advice.fix(reason, service("/x/bin/gunicorn web")))
    assert f"{tmp_path}/data does not exist, and web may not create it: run chown web " in made
    assert f"chown web {tmp_path}, or" in made


def test_an_environment_that_uwsgi_is_not_told_of(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    held = tmp_path / "env/lib/python3.11/site-packages"
    held.mkdir(parents=True)
    (tmp_path / "env/pyvenv.cfg").touch()
    (tmp_path / "uwsgi.ini").write_text(f"[uwsgi]\nchdir = {tmp_path}/site\nmodule = web\n")
    unit = service(f"/usr/bin/uwsgi --ini {tmp_path}/uwsgi.ini")
    reason = "ModuleNotFoundError: No module named 'flask.views'"
    assert "install the package" in str(advice.fix(reason, unit))
    (held / "flask").mkdir()
    assert f"set virtualenv = {tmp_path}/env" in str(advice.fix(reason, unit))
    told = service(f"/usr/bin/uwsgi --ini {tmp_path}/uwsgi.ini --home {tmp_path}/env")
    assert "install the package" in str(advice.fix(reason, told))


def test_a_program_that_is_not_on_the_path() -> None:
    reason = "FileNotFoundError: [Errno 2] No such file or directory: 'sh'"
    made = advice.fix(reason, service("/x/bin/gunicorn web", "Environment=PATH=/x/bin"))
    assert isinstance(made, Lines)
    assert made.lines[0].startswith("Environment=PATH=/x/bin:")
    assert advice.fix(reason, service("/x/bin/gunicorn web")) is None
    on_path = service("/x/bin/gunicorn web", "Environment=PATH=/x/bin:/usr/bin:/bin")
    assert advice.fix(reason, on_path) is None


def test_an_environment_of_another_python(tmp_path: Path) -> None:
    (tmp_path / "lib/python3.7/site-packages").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to("/usr/bin/python3")
    unit = service(f"{tmp_path}/bin/gunicorn web")
    reason = "ModuleNotFoundError: No module named 'gunicorn'"
    assert "was created with" not in str(advice.fix(reason, unit))
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    assert f"{tmp_path} was created with python3.7" in str(advice.fix(reason, unit))


def test_a_stale_pidfile_is_never_removed_unasked() -> None:
    made = advice.fix("Already running on PID 1 (or pid file '/run/a/pid' is stale)")
    assert isinstance(made, Command)
    assert not made.safe
