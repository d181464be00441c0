"""What the sandbox takes away and what each option gives back, asked of a running service.

The application tries things and answers with what came of them.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.machine.machine import Machine

APPLICATION = """
import ctypes, errno, json, os, pathlib, shutil, smtplib, socket, sqlite3, subprocess

def attempt(what):
    try:
        return what() or "yes"
    except OSError as error:
        return errno.errorcode.get(error.errno, "error")
    except MemoryError:
        return "MemoryError"

def say_to(path):
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(path)
        talk.sendall(b"hello")
        return talk.recv(100).decode()

def lmtp():
    mail = smtplib.LMTP("/run/outside/mail.sock")
    try:
        return mail.noop()[1].decode()
    finally:
        mail.close()

def database():
    with sqlite3.connect(os.environ["STATE_DIRECTORY"] + "/db") as db:
        db.execute("create table if not exists t (x)")

def secret():
    return pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"], "key").read_text()

def internet():
    socket.socket(socket.AF_INET).close()

def port():
    with socket.socket(socket.AF_INET) as listener:
        listener.bind(("127.0.0.1", 8000))

def write(path):
    return lambda: pathlib.Path(path).write_text("x") and None

def callback():
    kept = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)
    assert kept() == 7

def anonymous():
    import mmap
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()

def refused_by():
    return "the kernel" if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) == 1 else "a filter"  # GET_MDWE

def unshare():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):  # CLONE_NEWUSER; os.unshare is of Python 3.12
        raise OSError(ctypes.get_errno(), "unshare")

def execute(directory):
    def attempt():
        program = shutil.copy("/bin/true", directory + "/program")
        subprocess.run([program], check=True)
    return attempt

def listen():
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ["STATE_DIRECTORY"] + f"/{os.urandom(8).hex()}.sock")
        listener.listen()

def keyring():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall({"x86_64": 250, "aarch64": 219}[os.uname().machine], 0, -3, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "keyctl")

def connect(path):
    def attempt():
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(path)
    return attempt

TRIES = {
    "execute": lambda: [
        name for name in ("STATE_DIRECTORY", "CACHE_DIRECTORY", "/tmp", "/var/tmp", "/dev/shm")
        if attempt(execute(os.environ.get(name, name))) != "EACCES"
    ] and "yes" or "no",
    "listen": listen,
    "keyring": keyring,
    "bus": connect("/run/dbus/system_bus_socket"),
    "docker": connect("/run/docker.sock"),
    "manager": lambda: sorted(os.listdir("/run/systemd")),
    "log": connect("/run/systemd/journal/stdout"),
    "booted": lambda: os.path.isdir("/run/systemd/system") and "yes",
    "user site": lambda: "no" if os.environ.get("PYTHONNOUSERSITE") else "yes",
    "database": database,
    "cache": write(os.environ["CACHE_DIRECTORY"] + "/x"),
    "tmp": write("/tmp/x"),
    "secret": secret,
    "postgresql": lambda: say_to("/run/outside/.s.PGSQL.5432"),
    "mail": lmtp,
    "internet": internet,
    "port": port,
    "home": lambda: os.listdir("/home") and None,
    "write-elsewhere": write("/srv/media/x"),
    "write-system": write("/usr/x"),
    "device": lambda: os.close(os.open("/dev/loop-control", os.O_RDWR)),
    "jit": anonymous,
    "jit refused by": refused_by,
    "callback": callback,
    "meminfo": lambda: pathlib.Path("/proc/meminfo").read_text() and None,
    "home directory": lambda: write(os.path.expanduser("~/x"))(),
    "cache home": lambda: write(os.environ["XDG_CACHE_HOME"] + "/x")(),
    "others": lambda: "no" if not [p for p in os.listdir("/proc") if p == "1"] else "yes",
    "setuid": lambda: os.chmod(os.environ["STATE_DIRECTORY"] + "/db", 0o4755),
    "unshare": unshare,
    "user": lambda: __import__("pwd").getpwuid(os.getuid()).pw_name,
}

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: attempt(what) for name, what in TRIES.items()}).encode()]
"""

# Who answers on unix sockets outside; a real PostgreSQL and a real Postfix are in test_site.py.
OUTSIDE = """
import os, socket, threading
def serve(path, greeting, answer):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    while True:
        peer = listener.accept()[0]
        if greeting: peer.sendall(greeting)
        while peer.recv(1000): peer.sendall(answer)
os.makedirs("/run/outside", exist_ok=True)
for job in (("/run/outside/.s.PGSQL.5432", b"", b"hello back"),
            ("/run/docker.sock", b"", b""),
            ("/run/outside/mail.sock", b"220 ready\\r\\n", b"250 fine\\r\\n")):
    threading.Thread(target=serve, args=job).start()
"""

CLOSED = {
    "execute": "no",
    "listen": "EPERM",
    "keyring": "EPERM",
    "bus": "EACCES",
    "docker": "EACCES",
    "log": "yes",
    "booted": "yes",
    "user site": "no",
    "database": "yes",
    "cache": "yes",
    "tmp": "yes",
    "secret": "hush",
    "postgresql": "hello back",
    "mail": "fine",
    "internet": "EAFNOSUPPORT",
    "home": "EACCES",
    "write-elsewhere": "EROFS",
    "write-system": "EROFS",
    "device": "ENOENT",
    "jit": "EPERM",
    "meminfo": "ENOENT",
    "home directory": "yes",
    "cache home": "yes",
    "others": "no",
    "setuid": "EPERM",
    "unshare": "EPERM",
    "user": "probe",
}


@pytest.fixture(scope="module")
def outside(machine: Machine) -> Iterator[Machine]:
    """The machine with the application, and with what it talks to."""
    machine.write("/srv/probe/probe.py", APPLICATION)
    machine.write("/etc/probe.key", "hush", mode=0o600)
    machine.run("mkdir", "-p", "-m", "777", "/srv/media")
    machine.run("sh", "-c", "test -e /dev/loop-control || mknod -m 666 /dev/loop-control c 1 3")
    process = machine.popen("python3", "-c", OUTSIDE)
    machine.wait(
        lambda: machine.run("ls", "/run/outside/mail.sock", check=False).returncode == 0, "sockets"
    )
    yield machine
    process.kill()
    process.wait()


def tried(machine: Machine, *options: str) -> tuple[dict[str, Any], float]:
    """Return what came of each attempt in a site with `options`, and its exposure as it runs."""
    install = (
        *("sdactivate", "install", "probe", "--group", "www-data", "--app", "probe:application"),
        *("--chdir", "/srv/probe", "--credential", "key=/etc/probe.key", *options),
    )
    machine.run(*install)
    try:
        fetch = ("curl", "-sSf", "--max-time", "60", "--unix-socket", "/run/probe.sock")
        answer: dict[str, Any] = json.loads(machine.run(*fetch, "http://probe.test/").stdout)
        said = machine.run("systemd-analyze", "security", "probe.service", check=False).stdout
    finally:
        machine.run("sdactivate", "uninstall", "probe")
    return answer, float(said.rpartition("level for probe.service: ")[2].split()[0])


@pytest.mark.parametrize(
    ("options", "gives", "exposure"),
    [
        ((), {}, 0.2),
        (("--network",), {"internet": "yes"}, 1.1),
        (("--home",), {"home": "yes"}, 0.3),
        (("--proc",), {"meminfo": "yes"}, 0.2),
        (("--writable", "/srv/media"), {"write-elsewhere": "yes"}, 0.2),
        (("--device", "/dev/loop-control"), {"device": "yes"}, 0.4),
        (("--jit",), {"jit": "yes", "execute": "yes"}, 0.2),
        (("--control-sockets",), {"bus": "yes", "docker": "yes"}, 0.2),
        (("--allow-syscall", "listen"), {"listen": "yes"}, 0.2),
        (("--allow-syscall", "@keyring"), {"keyring": "yes"}, 0.2),
        # (alice's home directory is her own, below /home, which is hidden.)
        (("--run-as", "alice"), {"user": "alice", "home directory": "EACCES"}, 0.2),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) and value else "",
)
def test_each_option_gives_back_its_own_and_nothing_else(
    options: tuple[str, ...], gives: dict[str, str], exposure: float, outside: Machine
) -> None:
    answer, measured = tried(outside, *options)
    callback = answer.pop("callback")  # whether it needs such memory depends on libffi
    # SocketBindDeny= holds where systemd and the kernel have what it takes (BPF).
    port = answer.pop("port")
    assert port in ({"yes", "EPERM"} if "--network" in options else {"EAFNOSUPPORT"})
    # Writable and executable memory: from systemd 254 on the kernel is asked to refuse it, where it
    # can (Linux 6.3, PR_SET_MDWE), which it does with EACCES; otherwise it is a filter of calls.
    by_kernel = answer.pop("jit refused by") == "the kernel"
    closed = CLOSED | ({"jit": "EACCES"} if by_kernel else {})
    manager = answer.pop("manager")
    if "--control-sockets" in options:
        assert "private" in manager
    else:
        assert set(manager) - {"resolve"} <= {"incoming", "journal", "notify", "system", "userdb"}
    assert answer == closed | gives
    assert callback == "yes" or "--jit" not in options
    assert measured == exposure
