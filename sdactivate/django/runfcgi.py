"""Options of Django 1.8's `manage.py runfcgi`, translated into launch options and settings.

One table, `OPTIONS`. The options keep their meaning, with three differences:

- The socket's mode was 0777 less the umask, set after the socket was already open. umask= still
  gives the same mode, mode= sets it directly, and the socket is never more open than that.
- Started as root, it stayed root. Now run-as= must name the user to become.
- The pool grew and shrank by itself. Now it has a fixed size.
"""

import errno
import fcntl
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sdactivate.errors import Error, UsageError
from sdactivate.launch import Launch
from sdactivate.launch.environment import Keep
from sdactivate.launch.parent_directory import holding_parent
from sdactivate.launch.process import parse_umask
from sdactivate.settings import Settings
from sdactivate.values import parse_listen, parse_mode


class Option(NamedTuple):
    """One row: the default value of an option, and its help."""

    default: str
    help: str


OPTIONS: dict[str, Option] = {
    "protocol": Option("fcgi", "fcgi, scgi, uwsgi or http; auto accepts any"),
    "socket": Option("", "path of a unix socket to listen on"),
    "host": Option("", "address to listen on, with port="),
    "port": Option("", "port to listen on, with host="),
    "method": Option("prefork", "prefork (processes) or threaded (threads)"),
    "maxchildren": Option("", "number of processes or threads"),
    "minspare": Option("", "ignored: the pool has a fixed size"),
    "maxspare": Option("", "ignored: the pool has a fixed size"),
    "maxrequests": Option("0", "requests that a process serves before it is replaced"),
    "daemonize": Option("", "true: go to the background (the default with a socket or port)"),
    "pidfile": Option("", "file to write the process ID to"),
    "workdir": Option("/", "directory to change to"),
    "debug": Option("", "ignored: see DEBUG in the settings"),
    "outlog": Option("", "file for standard output, with daemonize=true"),
    "errlog": Option("", "file for standard error, with daemonize=true"),
    "umask": Option("", "octal umask of the process, which also limits the socket's mode"),
    "user": Option("", "owner of the socket"),
    "group": Option("", "group of the socket: the web server's"),
    "mode": Option("", "mode of the socket, such as 0660"),
    "run-as": Option("", "user to become, when started as root"),
    "keep-env": Option("", "true: pass on root's whole environment, when started as root"),
}

_PROTOCOLS = {"fcgi": "fastcgi", "scgi": "scgi", "uwsgi": "uwsgi", "http": "http", "auto": "auto"}
_METHODS = ("prefork", "fork", "threaded", "thread")
_TRUE, _FALSE = ("true", "yes", "t", "1"), ("false", "no", "f", "0")
_NEW = ("user", "group", "mode", "run-as", "keep-env")  # words that Django never had
_FLAGS = ("daemonize", "debug", "keep-env")  # words that may be given without a value

# Old scripts `kill` the process and start another at once: how long the new one waits, in seconds,
# for the old one to finish and exit.
_PATIENCE = Settings().graceful_timeout + 10.0


class Meaning(NamedTuple):
    """What a command line of runfcgi means."""

    listen: str
    """Where to listen; "": on standard input, as a web server's child."""
    settings: Mapping[str, str]
    """The runtime's settings, by name."""
    daemonize: bool
    pidfile: str
    logs: tuple[str, str]
    """Files for standard output and standard error; "": none."""
    user: str
    group: str
    mode: int
    umask: int | None
    run_as: str
    workdir: str
    keep_env: bool


def understand(words: Sequence[str]) -> Meaning:
    """Return what the words, each KEY=VALUE, mean.

    Raises UsageError for an unknown word, and for invalid values.
    """
    given = {name: option.default for name, option in OPTIONS.items()}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.lower().replace("_", "-")
        if key not in OPTIONS:
            raise UsageError(f"{word!r} is not an option of runfcgi: {', '.join(OPTIONS)}")
        if not equals and key not in _FLAGS:
            raise UsageError(f"{word}: it needs a value, {key}=…")
        given[key] = value if equals else "true"
    listen = _listen(given)
    return Meaning(
        listen,
        _settings(given),
        _yes_or_no("daemonize", given["daemonize"]) if given["daemonize"] else bool(listen),
        given["pidfile"],
        (given["outlog"], given["errlog"]),
        given["user"],
        given["group"],
        _mode(given),
        parse_umask(given["umask"]) if given["umask"] else None,
        given["run-as"],
        given["workdir"],
        _yes_or_no("keep-env", given["keep-env"] or "false"),
    )


def _listen(given: Mapping[str, str]) -> str:
    socket, host, port = given["socket"], given["host"], given["port"]
    if socket and not host and not port:
        return os.path.abspath(socket)
    if host and port and not socket:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if socket or host or port:
        raise UsageError("give either socket=, or host= and port=")
    if new := [word for word in _NEW if given[word]]:
        raise UsageError(
            f"{new[0]}={given[new[0]]}: it needs socket=; for a socket on standard input, the "
            "program that starts this command decides it"
        )
    return ""


def _settings(given: Mapping[str, str]) -> dict[str, str]:
    if given["protocol"] not in _PROTOCOLS:
        raise UsageError(
            f"protocol={given['protocol']}: it can be {', '.join(_PROTOCOLS)}. A web server that "
            "spoke ajp can also speak http or fcgi"
        )
    if given["method"] not in _METHODS:
        raise UsageError(f"method={given['method']}: it can be prefork or threaded")
    settings = {"protocol": _PROTOCOLS[given["protocol"]]}
    size = _count("maxchildren", given["maxchildren"], 1) if given["maxchildren"] else ""
    if given["method"].startswith("thread"):
        settings["workers"] = "1"
        if size:
            settings["threads"] = size
    else:
        settings["workers"] = size or str(os.cpu_count() or 1)
        settings["threads"] = "1"
    if (requests := _count("maxrequests", given["maxrequests"])) != "0":
        settings["max_requests"] = requests
    return settings


def _mode(given: Mapping[str, str]) -> int:
    if given["mode"]:
        return parse_mode(given["mode"])
    return 0o777 & ~parse_umask(given["umask"]) if given["umask"] else 0o660


def _count(name: str, text: str, least: int = 0) -> str:
    if text.isascii() and text.isdigit() and int(text) >= least:
        return str(int(text))
    raise UsageError(f"{name}={text}: not a whole number of at least {least}")


def _yes_or_no(name: str, text: str) -> bool:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    raise UsageError(f"{name}={text}: neither true nor false")


def plan(meaning: Meaning, command: Sequence[str], environ: Mapping[str, str]) -> Launch:
    """Return the plan to launch: `command`, with `environ` added, on the socket."""
    return Launch(
        listen=[parse_listen(meaning.listen)],
        command=command,
        run_as=meaning.run_as,
        user=meaning.user,
        group=meaning.group,
        mode=meaning.mode,
        chdir=meaning.workdir,
        umask=meaning.umask,
        env=[f"{name}={value}" for name, value in {**environ, **variables(meaning)}.items()],
        keep_env=Keep.ALL if meaning.keep_env else None,
        patience=_PATIENCE,
        made=lambda: write_number(meaning.pidfile),
    )


def write_number(pidfile: str) -> None:
    """Write the process ID to the file, if one is named. Raises Error.

    Call it only once this process has the socket: a redundant second start must not change the
    file.
    """
    if pidfile:
        fd = _open("pidfile", pidfile, os.O_TRUNC, 0o644)
        os.write(fd, f"{os.getpid()}\n".encode())
        os.close(fd)


def _open(word: str, path: str, flags: int, mode: int) -> int:
    """Open the file `path`, the value of `word`, for writing; create it if it does not exist.

    As root, follow no link that other users made: with one, a site could have its log or its
    process ID written to any file of root's. Raises Error.
    """
    flags |= os.O_WRONLY | os.O_CREAT
    try:
        if os.geteuid() != 0:
            return os.open(path, flags, mode)
        with holding_parent(os.path.abspath(path), writers=True) as (directory, name):
            return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)
    except Error as error:
        raise Error(f"{word}={path}: {error}") from None
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise Error(f"{word}={path}: {why}") from None


def variables(meaning: Meaning) -> dict[str, str]:
    """The runtime's settings, as environment variables."""
    return {f"SDACTIVATE_{name.upper()}": value for name, value in meaning.settings.items()}


def modern(meaning: Meaning, command: Sequence[str]) -> str:
    """The equivalent command line of `sdactivate launch`."""
    words = ["sdactivate", "launch", "--listen", meaning.listen]
    if meaning.listen.startswith("/"):
        words += ["--mode", f"{meaning.mode:04o}"]
    for option in ("user", "group", "run_as"):
        if value := getattr(meaning, option):
            words += [f"--{option.replace('_', '-')}", value]
    if meaning.umask is not None:
        words += ["--umask", f"{meaning.umask:04o}"]
    if meaning.keep_env:
        words.append("--keep-env")
    if meaning.workdir != OPTIONS["workdir"].default:
        words += ["--chdir", meaning.workdir]
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in meaning.settings.items()]
    return shlex.join([*words, "--", *command, *settings])


def in_background(logs: tuple[str, str], run: Callable[[int], object]) -> None:
    """Call `run` in the background, as a SysV daemon of daemon(7): fork, setsid, fork.

    logs: files that standard output and error are appended to; "": /dev/null, as for standard
    input. run: gets a descriptor that must stay open until it executes the site.

    The calling process then exits with 0. Raises Error, in the calling process, for what `run`
    raises in the background, and for a log that can't be written.
    """
    null = os.open(os.devnull, os.O_RDWR)
    streams = [null] + [
        _open(word, log, os.O_APPEND, 0o640) if log else null
        for word, log in zip(("outlog", "errlog"), logs, strict=True)
    ]
    hear, say = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(say)
        with open(hear, "rb") as channel:
            code, _, text = channel.read().decode().partition(" ")
        if not code:  # closed by exec
            os._exit(0)
        raise UsageError(text) if code == "2" else Error(text)
    os.setsid()
    if os.fork():
        os._exit(0)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    say = fcntl.fcntl(say, fcntl.F_DUPFD_CLOEXEC, 100)  # out of the way of the sockets
    try:
        run(say)
    except Exception as error:
        code = str(getattr(error, "exit_code", 1))
        os.write(say, f"{code} {error}".encode(errors="replace"))
    finally:
        os._exit(1)
