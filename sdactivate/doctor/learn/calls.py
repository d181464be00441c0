"""Read strace's lines (strace(1) with -f -y -Y). Ignores lines of any other form.

The traced programs control parts of the lines: names of files and processes, contents of strings.
So lines are parsed from the left, with strace's quoting, and the contents of a string are never
parsed as anything else.
"""

import os
import re
from typing import NamedTuple

MARK = "/sdactivate-learn/"
"""The prefix of the paths that hook.py asks for, so that strace shows the line of Python."""

# PID<comm> name(arguments) = -1 ERRNO (words): a process's name may contain anything but NUL.
_PREFIX = re.compile(r"(?P<pid>\d+)(?:<(?P<process>.{0,64}?)>)? +(?=[a-z_][a-z0-9_]*\(|[-+]{3} |<)")
_CALL = re.compile(r"(?P<name>[a-z_][a-z0-9_]*)\(")
_RESULT = re.compile(
    r"\) += (?:-1 (?P<errno>E[A-Z0-9]+)\b.*|(?P<open>\?).*|-?\w.*)"
    r"|.*<(?P<left>unfinished|detached) ?.*"
)
_SIGNAL = re.compile(r"--- SIGSYS \{.*?\bsi_syscall=__NR_(?P<name>\w+)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\.\.\.)?')
_DESCRIPTOR = re.compile(r"(?P<number>AT_FDCWD|\d+)(?:<(?P<path>/(?:[^>\\]|\\.)*)>)?")
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|.)")
_LETTERS = {"n": 10, "t": 9, "r": 13, "v": 11, "f": 12, "a": 7, "b": 8}

OPEN = "?"
"""The errno of a call that had not returned when strace detached or its process exited."""


class Call(NamedTuple):
    """A failed call, as strace printed it."""

    pid: int
    process: str
    """The name of the process (comm), "" if strace does not show it."""
    name: str
    errno: str
    """EPERM and the like; OPEN."""
    arguments: str
    """As strace wrote them, without the parentheses."""
    paths: tuple[str, ...] = ()
    """The files that it names, absolute if the directory is known."""


class Mark(NamedTuple):
    """A message of hook.py, sent as a call: an exception with its frames, or a name looked up."""

    pid: int
    kind: str
    """The exception's class; "lookup" for a name, "reached" where exceptions reach the site."""
    errno: int
    """The errno of an OSError; 0 for other exceptions."""
    number: str
    """Identifies the exception."""
    lines: tuple[str, ...]
    """FILE:LINE:FUNCTION, the innermost first; host and port; the numbers of exceptions."""


def parse(line: str, cwd: str = "") -> Call | Mark | None:
    """Return the failed call in a line of strace; None if there is none.

    cwd: the working directory, for paths that are relative to it; "" if it is not known.
    """
    if not (prefix := _PREFIX.match(line)):
        return None
    rest = line[prefix.end() :].rstrip("\n")
    pid, process = int(prefix["pid"][:10]), prefix["process"] or ""
    if found := _SIGNAL.match(rest):  # the filter kills the process instead of refusing the call
        return Call(pid, process, found["name"], "SIGSYS", "")
    if not (call := _CALL.match(rest)):
        return None
    arguments, tail = _split(rest[call.end() :])
    result = _RESULT.match(tail)
    if not result or not (result["errno"] or result["open"] or result["left"]):
        return None
    if call["name"] in _NO_RETURN:
        return None
    strings = [unquoted(found[1]) for found in _STRING.finditer(arguments)]
    if strings and strings[0].startswith(MARK):
        return _mark(pid, strings[0][len(MARK) :])
    paths = _paths(call["name"], arguments, cwd)
    return Call(pid, process, call["name"], result["errno"] or OPEN, arguments, paths)


_NO_RETURN = frozenset({"exit", "exit_group", "rt_sigreturn"})


def _split(text: str) -> tuple[str, str]:
    """Return the arguments of a call, and what follows them from the closing parenthesis on."""
    depth = index = 0
    while index < len(text):
        letter = text[index]
        if letter == '"':
            if not (found := _STRING.match(text, index)):
                break  # cut off within a string
            index = found.end()
            continue
        if letter == "<" and (found := _DESCRIBED.match(text, index)):
            index = found.end()
            continue
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            if depth == 0:
                return text[:index], text[index:]
            depth -= 1
        elif letter == "<" and text.startswith(("<unfinished", "<detached"), index):
            return text[:index], text[index:]
        index += 1
    return text, ""


# What -y and -Y put after a descriptor or a process: strace writes > as \76 in it.
_DESCRIBED = re.compile(r"<(?!unfinished|detached)[^>]*>")


def unquoted(text: str) -> str:
    """Return the text of a C string as strace writes it, without its quotes."""

    def byte(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "01234567":
            value = int(code, 8) & 0xFF
        elif code[0] == "x" and len(code) == 3:
            value = int(code[1:], 16)
        else:
            value = _LETTERS.get(code, -1)
        if value < 0:
            return code
        return chr(value)

    if "\\" not in text:
        return text
    # strace escapes text that is not ASCII byte by byte.
    raw = b"".join(
        letter.encode("latin-1", "ignore")
        if ord(letter) < 256
        else letter.encode("utf-8", "replace")
        for letter in _ESCAPE.sub(byte, text)
    )
    return os.fsdecode(raw)


# Calls by the places of their paths: (descriptor or None, path), counted from 0.
_AT = {
    **dict.fromkeys(
        (
            *("openat", "openat2", "newfstatat", "fstatat64", "statx", "faccessat", "faccessat2"),
            *("mkdirat", "mknodat", "unlinkat", "fchmodat", "fchmodat2", "fchownat", "utimensat"),
            *("readlinkat", "execveat", "name_to_handle_at", "futimesat"),
        ),
        ((0, 1),),
    ),
    **dict.fromkeys(("renameat", "renameat2", "linkat"), ((0, 1), (2, 3))),
    "symlinkat": ((1, 2),),
    **dict.fromkeys(
        (
            *("open", "creat", "stat", "lstat", "access", "mkdir", "mknod", "unlink", "rmdir"),
            *("chmod", "chown", "lchown", "readlink", "execve", "truncate", "utime", "utimes"),
            *("chdir", "chroot", "statfs", "setxattr", "lsetxattr", "getxattr", "lgetxattr"),
            *("removexattr", "lremovexattr", "mount", "umount2", "inotify_add_watch", "swapon"),
        ),
        ((None, 0),),
    ),
    **dict.fromkeys(("rename", "link"), ((None, 0), (None, 1))),
    "symlink": ((None, 1),),
}
_AT["inotify_add_watch"] = ((None, 1),)
_OF_DESCRIPTOR = frozenset(
    {
        *("fchmod", "fchown", "ftruncate", "fallocate", "fsetxattr", "fremovexattr", "mmap"),
        *("write", "pwrite64", "fchdir", "getdents64", "ioctl"),
    }
)
_SUN_PATH = re.compile(r'sun_path=(@?)"((?:[^"\\]|\\.)*)"')


def _paths(name: str, arguments: str, cwd: str) -> tuple[str, ...]:
    """Return the paths that a call names, "" for an unknown one."""
    if found := _SUN_PATH.search(arguments):
        path = unquoted(found[2])
        return (f"@{path}",) if found[1] else (_joined(cwd, path),)
    if name in _OF_DESCRIPTOR:
        words = words_of(arguments)
        place = 4 if name == "mmap" else 0
        found = _DESCRIPTOR.match(words[place]) if len(words) > place else None
        return (unquoted(found["path"]),) if found and found["path"] else ()
    if name not in _AT:
        return ()
    words = words_of(arguments)
    made = []
    for directory, place in _AT[name]:
        if place >= len(words) or not (string := _STRING.match(words[place])):
            continue
        base = cwd
        if directory is not None and (found := _DESCRIPTOR.match(words[directory])):
            base = unquoted(found["path"] or "") or (cwd if found["number"] == "AT_FDCWD" else "")
        made.append(_joined(base, unquoted(string[1])))
    return tuple(made)


def _joined(base: str, path: str) -> str:
    if path.startswith("/"):
        return os.path.normpath(path)
    if not path:
        return base
    return os.path.normpath(f"{base}/{path}") if base else path


def words_of(arguments: str) -> list[str]:
    """Return the arguments of a call one by one, as strace wrote them."""
    words, start, depth, index = [], 0, 0, 0
    while index < len(arguments):
        letter = arguments[index]
        if letter == '"' and (found := _STRING.match(arguments, index)):
            index = found.end()
            continue
        if letter == "<" and (found := _DESCRIBED.match(arguments, index)):
            index = found.end()
            continue
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth == 0:
            words.append(arguments[start:index].strip())
            start = index + 1
        index += 1
    return [*words, arguments[start:].strip()]


def _mark(pid: int, text: str) -> Mark | None:
    kind, _, rest = text.partition("\n")
    name, errno, number = (*kind.split(":"), "", "")[:3]
    lines = tuple(line for line in rest.split("\n") if line)
    digits = errno[:6] if errno.isascii() and errno.isdigit() else "0"
    return Mark(pid, name[:200], int(digits), number[:40], lines)
