"""The demonstration: it runs each step for real, and prints how long it took."""

import argparse
import grp
import html
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
NAME = "mysite-demo"
NOBODYS_NUMBER = 61184  # the first number that systemd uses for DynamicUser=: no account has it
ROOT = os.geteuid() == 0
BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")

ABOUT = f"""\
{BOLD}sdactivate: socket activation for Python web applications{PLAIN}

A web server and a Python application on one machine communicate through a socket. If the
application creates it, the application needs write access to the directory and must set
owner, group and mode itself; for a moment the wrong users can connect. Each restart removes
the socket, and the web server answers 502 until the application creates it again.

With sdactivate, systemd creates the socket before the application starts, from a unit that
sdactivate writes. Without systemd, sdactivate's own launcher creates it, as in this demo.
The application runs under its own user without privileges. It inherits the open socket, and
can neither change who may connect nor remove it.
  - The web server can connect, because the socket belongs to its group. Others can't.
  - The site starts at the first request, and an idle site can stop again.
  - A restart loses no request: requests that arrive meanwhile wait in the socket.

The demo runs a real Django site, with a database, sessions and a form.
"""


class User(NamedTuple):
    """A user who tries to connect, by numbers, since not all of them have an account."""

    label: str
    uid: int
    gid: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/demo", description="See sdactivate work.")
    parser.add_argument("--stay", action="store_true", help="keep serving until ^C")
    args = parser.parse_args()
    began = time.perf_counter()
    print(ABOUT)
    if not ROOT:
        say(
            "You are not root, so everything runs as you: the socket gets your user and group, and "
            "the demo can't try other users. `sudo script/demo` shows that, too."
        )
    with stage() as home:
        demonstrate(home, stay=args.stay)
    print(f"\nDone in {time.perf_counter() - began:.1f} s, and all files are removed.")
    if not args.stay:
        print(
            "Next: README.md for your own site; `script/demo --stay` to see this one in a browser."
        )
    return 0


def demonstrate(home: Path, *, stay: bool) -> None:
    front, application = users()
    path = Path(f"/run/{NAME}.sock") if ROOT else home / f"{NAME}.sock"
    environment, python = reachable_python(home, application)

    with step("Write the units"):
        command = [*sdactivate(), "gen", NAME, "--group", grp_name(front.gid)]
        command += [] if ROOT else ["--user", pwd_name(os.geteuid()), "--listen", str(path)]
        unit = run(command)
        more = [
            "--kind",
            "service",
            "--app",
            "mysite.wsgi:application",
            "--chdir",
            str(home / "mysite"),
        ]
        service = run([*command, *more])
        (home / f"{NAME}.socket").write_text(unit)
        (home / f"{NAME}.service").write_text(service)
    show(as_typed(command))
    show(unit)
    say(f"(and the service with its sandbox: {len(service.splitlines())} lines)")

    with step("Make the site's database, as the site's own user"):
        manage = [python, "manage.py", "migrate", "--verbosity=0"]
        run(manage, cwd=home / "mysite", env=environment, user=application)

    launch = [*sdactivate(), "launch", "--on-demand", "--listen", str(path)]
    launch += ["--mode", "0660", "--chdir", str(home / "mysite")]
    if ROOT:
        launch += [
            "--group",
            grp_name(front.gid),
            "--run-as",
            f"{application.uid}:{application.gid}",
        ]
    port = free_port() if stay else 0
    if stay:
        launch += ["--listen", f"127.0.0.1:{port}"]
    launch += ["--", python, "-m", "sdactivate", "serve", "mysite.wsgi:application"]
    with running(launch, environment) as activator:
        with step("Create the socket as systemd would from that unit, and drop root"):
            wait_for(path, activator)
        show(f"{describe(path)}    processes of the site: {len(children(activator.pid))}")

        with step("Request the first page: this starts the site"):
            page = request(path, front, "GET", "/")
        show(summary("GET /", page))
        pid = children(activator.pid)[0]
        show(f"process {pid} of the site: {credentials(pid)}")

        with step("Request it again: now the site is running"):
            page = request(path, front, "GET", "/")
        show(summary("GET /", page))

        with step("Sign the guestbook: cookie, form, database, redirect, page"):
            cookie = page.cookies()
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
            if not token:
                raise SystemExit("the form has no token:\n" + page.body)
            form = f"csrfmiddlewaretoken={token[1]}&name=A+visitor&text=I+was+here"
            answer = request(path, front, "POST", "/", cookie, form)
            page = request(path, front, "GET", "/", cookie)
        if "I was here" not in page.body:
            raise SystemExit("the entry is not on the page:\n" + page.body)
        show(summary("POST /", answer))
        show(summary("GET /", page))

        with step("Try to connect, change the mode and remove the socket, as several users"):
            rows = [(user, attempts(path, user)) for user in doorsteps(front, application)]
        width = max(len(user.label) for user, _ in rows)
        show(f"{'':{width}}  {'connect':24}{'change its mode':30}remove it")
        for user, results in rows:
            columns = "".join(f"{result:{24 + 6 * n}}" for n, result in enumerate(results))
            show(f"{user.label:{width}}  {columns}".rstrip())

        if stay:
            tell_the_way(path, port, front)
            with suppress(KeyboardInterrupt):
                activator.wait()
        with step("Stop"):
            stop(activator)


# --- the parts ------------------------------------------------------------------------------


def users() -> tuple[User, User]:
    """The web server's user and the application's; without root, both are the caller."""
    if not ROOT:
        myself = User("you", os.geteuid(), os.getegid())
        return myself, myself
    for name in ("www-data", "nginx", "http", "apache", "caddy"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            front = User(f"{name} (the web server)", entry.pw_uid, entry.pw_gid)
            break
    else:
        front = User("a web server", NOBODYS_NUMBER + 1, NOBODYS_NUMBER + 1)
    return front, User("the application itself", NOBODYS_NUMBER, NOBODYS_NUMBER)


def doorsteps(front: User, application: User) -> list[User]:
    if not ROOT:
        return [front]
    nobody = pwd.getpwnam("nobody")
    return [front, User("nobody", nobody.pw_uid, nobody.pw_gid), application]


@contextmanager
def stage() -> Iterator[Path]:
    """A temporary directory with a copy of the example site."""
    home = Path(tempfile.mkdtemp(prefix="sdactivate-demo-", dir="/run" if ROOT else None))
    try:
        home.chmod(0o755)
        shutil.copytree(
            CHECKOUT / "examples" / "mysite",
            home / "mysite",
            ignore=shutil.ignore_patterns("__pycache__", "db.sqlite3", "secret_key"),
        )
        state = home / "state"
        state.mkdir(mode=0o700)
        if ROOT:
            os.chown(state, NOBODYS_NUMBER, NOBODYS_NUMBER)
        yield home
    finally:
        shutil.rmtree(home)


def reachable_python(home: Path, user: User) -> tuple[dict[str, str], str]:
    """An interpreter and an environment that the application's user can reach.

    If the checkout is under /root, which other users can't enter, the needed files are copied.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "STATE_DIRECTORY": str(home / "state"),
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }

    def works(python: str) -> bool:
        probe = [python, "-c", "import django, sdactivate.systemd.listen_fds"]
        with suppress(OSError):
            done = subprocess.run(probe, cwd="/", env=environment, capture_output=True, **to(user))
            return done.returncode == 0
        return False

    if works(sys.executable):
        return environment, sys.executable
    with step("Copy Python's packages: this checkout is closed to other users"):
        library = home / "lib"
        shutil.copytree(next((CHECKOUT / ".venv/lib").glob("python3*/site-packages")), library)
        shutil.copytree(CHECKOUT / "sdactivate", library / "sdactivate", dirs_exist_ok=True)
        environment["PYTHONPATH"] = str(library)
    for python in (os.path.realpath(sys.executable), f"/usr/bin/python3.{sys.version_info[1]}"):
        if works(python):
            return environment, python
    raise SystemExit(
        f"The application's user can't reach this Python, {os.path.realpath(sys.executable)}. "
        "Remove .venv and call again with one that everybody can: PYTHON=/usr/bin/python3 "
        "script/demo"
    )


def sdactivate() -> list[str]:
    return [sys.executable, "-m", "sdactivate"]


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    show(as_typed(command))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=log)
        try:
            yield process
        except BaseException:
            log.seek(0)
            print(log.read().decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            stop(process)
            Path(command[command.index("--listen") + 1]).unlink(missing_ok=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.is_socket() or not path.stat().st_mode & 0o777:
        if process.poll() is not None:
            raise SystemExit("the launcher has left; see above")
        time.sleep(0.005)


def run(
    command: list[str],
    *,
    cwd: Path = CHECKOUT,
    env: dict[str, str] | None = None,
    user: User | None = None,
) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, **to(user))
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: exit status {done.returncode}\n{done.stderr}")
    output: str = done.stdout
    return output


def to(user: User | None) -> dict[str, Any]:
    """The arguments of `subprocess` that run a command as `user`."""
    if user is None or not ROOT:
        return {}
    return {"user": user.uid, "group": user.gid, "extra_groups": []}


# --- a client: SCGI, as nginx's scgi_pass would speak it, from a process of the front's user ----


class Response(NamedTuple):
    milliseconds: float
    status: str
    headers: list[tuple[str, str]]
    body: str

    def cookies(self) -> str:
        found = [value.split(";")[0] for name, value in self.headers if name == "Set-Cookie"]
        return "; ".join(found)


CLIENT = r"""\
import socket, sys, time
message, answer = sys.stdin.buffer.read(), b""
began = time.perf_counter()
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.sendall(message)
    while data := client.recv(65536):
        answer += data
sys.stdout.buffer.write(b"%f\n" % ((time.perf_counter() - began) * 1000) + answer)
"""


def request(
    path: Path, user: User, method: str, target: str, cookie: str = "", form: str = ""
) -> Response:
    headers = {
        "CONTENT_LENGTH": str(len(form)),
        "SCGI": "1",
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": target,
        "REQUEST_URI": target,
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/x-www-form-urlencoded" if form else "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "demo.localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": "demo.localhost",
        "HTTP_COOKIE": cookie,
        "REMOTE_ADDR": "127.0.0.1",
    }
    block = "".join(f"{name}\0{value}\0" for name, value in headers.items())
    message = f"{len(block)}:{block},{form}".encode()
    done = subprocess.run(
        [interpreter(user), "-I", "-S", "-c", CLIENT, path],
        input=message,
        stdout=subprocess.PIPE,
        cwd="/",
        timeout=60,
        check=True,
        **to(user),
    )
    took, _, answer = done.stdout.decode().partition("\n")
    head, _, body = answer.partition("\r\n\r\n")
    pairs = [line.partition(": ")[::2] for line in head.split("\r\n")]
    return Response(float(took), dict(pairs).get("Status", "no answer"), pairs, body)


TRIES = """\
import os, socket, sys
def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
for attempt in (connect, lambda path: os.chmod(path, 0o666), os.unlink):
    try:
        attempt(sys.argv[1])
        print("yes")
    except OSError as error:
        print(f"no, {error.strerror}")
"""


def attempts(path: Path, user: User) -> list[str]:
    """Try to connect, to chmod and to unlink, as `user`."""
    tries = TRIES
    if user.uid == os.geteuid():  # the owner can do all this, and the socket is still needed
        tries = tries.replace("lambda path: os.chmod(path, 0o666), os.unlink", "")
    command = [interpreter(user), "-I", "-S", "-c", tries, str(path)]
    results = run(command, cwd=Path("/"), user=user).splitlines()
    return results if len(results) > 1 else [*results, "not tried: it is yours", "not tried"]


def interpreter(user: User) -> str:
    """An interpreter that every user can reach, for the short client."""
    usual = "/usr/bin/python3"
    return usual if ROOT and os.access(usual, os.X_OK) else os.path.realpath(sys.executable)


# --- what clients and other users see ------------------------------------------------------------


def describe(path: Path) -> str:
    found = path.stat()
    mode = f"{found.st_mode & 0o777:04o}"
    return f"{path}  {pwd_name(found.st_uid)}:{grp_name(found.st_gid)} {mode}"


def pwd_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def grp_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def credentials(pid: int) -> str:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    capabilities = int(status["CapPrm"], 16) | int(status["CapEff"], 16)
    return (
        f"uid {status['Uid'].split()[0]}, gid {status['Gid'].split()[0]}, "
        f"capabilities {capabilities or 'none'}, no_new_privs {status['NoNewPrivs']}, "
        f"{int(status['VmRSS'].split()[0]) // 1024} MiB"
    )


def summary(what: str, response: Response) -> str:
    title = re.search("<title>(.*?)</title>", response.body, re.DOTALL)
    visit = re.search(r"visit number (\d+)", response.body)
    entries = response.body.count("<article>")
    parts = [
        f"{what}  {response.status}",
        f"{len(response.body)} characters" if response.body else "",
        f"“{html.unescape(title[1]).strip()}”" if title else "",
        f"visit {visit[1]}" if visit else "",
        ("1 entry" if entries == 1 else f"{entries} entries") if visit else "",
        f"answered in {response.milliseconds:.1f} ms",
    ]
    return ", ".join(part for part in parts if part)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tell_the_way(path: Path, port: int, front: User) -> None:
    who = f"sudo -u {pwd_name(front.uid)} " if ROOT else ""
    print(f"\n{BOLD}The site runs until ^C.{PLAIN} Try it:")
    show(f"in a browser        http://127.0.0.1:{port}/")
    show(f"over the socket     {who}curl --unix-socket {path} http://demo.localhost/")
    show(f"in nginx            scgi_pass unix:{path};")
    show(f"refused             sudo -u nobody curl --unix-socket {path} http://demo.localhost/")


# --- what is printed -----------------------------------------------------------------------------

_step = 0


@contextmanager
def step(title: str) -> Iterator[None]:
    global _step
    _step += 1
    began = time.perf_counter()
    yield
    took = (time.perf_counter() - began) * 1000
    print(f"\n{BOLD}{_step}. {title}{PLAIN} {DIM}[{took:.0f} ms]{PLAIN}", flush=True)


def as_typed(command: list[str]) -> str:
    """The command as a user would type it, with a line for each pair of options."""
    words = ["sdactivate", *command[len(sdactivate()) :]]
    lines = [""]
    for word in map(shlex.quote, words):
        if len(lines[-1]) + len(word) > 76 and word.startswith("-"):
            lines.append("     ")
        lines[-1] += f" {word}"
    return "$" + " \\\n".join(lines)


def show(text: str) -> None:
    for line in text.rstrip().splitlines():
        print(f"     {line}", flush=True)


def say(text: str) -> None:
    print(f"   {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
