"""System calls about privileges that Python lacks: prctl, capabilities, keyrings.

Each function raises OSError if the kernel refuses. The numbers are from <linux/prctl.h> and
<linux/capability.h>, the same on every architecture; see prctl(2), capget(2), setfsuid(2).
"""

import ctypes
import errno
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_IS_SET = 1
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_NET_BIND_SERVICE = 10
_KEYCTL_GET_KEYRING_ID = 0
_KEYCTL_JOIN_SESSION_KEYRING = 1
_KEY_SPEC_SESSION_KEYRING = -3
_NOBODY = 0xFFFFFFFF  # setfsuid(-1) changes nothing and returns the current value

_libc = ctypes.CDLL(None, use_errno=True)

# The number of keyctl(2), for which glibc has no function: <asm/unistd.h> by machine and word size
_KEYCTL = {
    ("x86_64", 64): 250,
    ("i386", 32): 288,
    ("aarch64", 64): 219,
    ("arm", 32): 311,
    ("riscv64", 64): 219,
    ("loongarch64", 64): 219,
    ("ppc64le", 64): 271,
    ("s390x", 64): 280,
    ("mips64", 64): 5241,
}


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _checked(result: int, what: str) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _prctl(what: str, option: int, *arguments: int) -> int:
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(ctypes.c_int(option), *words), f"prctl({what})")


def _known_capabilities() -> range:
    """The capabilities that this kernel knows: reading an unknown one fails with EINVAL."""
    for number in range(64):
        try:
            _prctl("PR_CAPBSET_READ", _PR_CAPBSET_READ, number)
        except OSError:
            return range(number)
    return range(64)


def drop_bounding_set() -> None:
    """Remove every capability from the bounding set, for this process and its children."""
    for number in _known_capabilities():
        _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, number)


def bounding_set() -> list[int]:
    """The bounding set: the capabilities that an exec could still grant."""
    known = _known_capabilities()
    return [n for n in known if _prctl("PR_CAPBSET_READ", _PR_CAPBSET_READ, n)]


def clear_ambient_set() -> None:
    """Clear the ambient capabilities, which survive an exec."""
    _prctl("PR_CAP_AMBIENT_CLEAR_ALL", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def ambient_set() -> list[int]:
    """The ambient capabilities, which survive an exec."""
    return [
        number
        for number in _known_capabilities()
        if _prctl("PR_CAP_AMBIENT_IS_SET", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_IS_SET, number)
    ]


def clear_capabilities() -> None:
    """Give up the effective, permitted and inheritable capabilities.

    A change of user ID away from 0 clears the first two but not the inheritable ones.
    """
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    _checked(_libc.capset(ctypes.byref(header), data), "capset")


def _capability_words() -> tuple[_Data, _Data]:
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    _checked(_libc.capget(ctypes.byref(header), data), "capget")
    return data[0], data[1]


def capabilities() -> int:
    """The union of the effective, permitted and inheritable capabilities, as a bit mask."""
    low, high = (w.effective | w.permitted | w.inheritable for w in _capability_words())
    return int(low | high << 32)


def binds_low_ports() -> bool:
    """Whether CAP_NET_BIND_SERVICE is in effect."""
    return bool(_capability_words()[0].effective >> _CAP_NET_BIND_SERVICE & 1)


def set_no_new_privileges() -> None:
    """Set no_new_privs: from now on exec ignores setuid bits and file capabilities."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def no_new_privileges() -> bool:
    """Whether no_new_privs is set."""
    return bool(_prctl("PR_GET_NO_NEW_PRIVS", _PR_GET_NO_NEW_PRIVS))


def file_system_ids() -> tuple[int, int]:
    """The user and group ID that file access is checked with (setfsuid(2), setfsgid(2))."""
    nobody = ctypes.c_uint32(_NOBODY)
    # a C int: IDs above half of the range are returned as negative numbers
    return int(_libc.setfsuid(nobody)) & _NOBODY, int(_libc.setfsgid(nobody)) & _NOBODY


def signal_at_parents_death(number: int) -> None:
    """Have the kernel send this process the signal `number` when its parent exits."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, number)


def forbid_tracing() -> None:
    """Prevent other processes of the same user from inspecting this one until its next exec."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 0)


def session_keyring() -> int:
    """The serial number of the session keyring; see session-keyring(7)."""
    return _keyctl("KEYCTL_GET_KEYRING_ID", _KEYCTL_GET_KEYRING_ID, _KEY_SPEC_SESSION_KEYRING)


def join_session_keyring() -> int:
    """Join a new, empty session keyring; return its serial number."""
    return _keyctl("KEYCTL_JOIN_SESSION_KEYRING", _KEYCTL_JOIN_SESSION_KEYRING, 0)


def _keyctl(what: str, operation: int, argument: int) -> int:
    number = _KEYCTL.get((_machine(), 64 if sys.maxsize > 1 << 32 else 32))
    if number is None:
        raise OSError(
            errno.ENOSYS, f"keyctl({what}): its system call number is not known for {_machine()}"
        )
    words = [ctypes.c_long(word) for word in (number, operation, argument, 0, 0, 0)]
    _libc.syscall.restype = ctypes.c_long
    return _checked(int(_libc.syscall(*words)), f"keyctl({what})")


def _machine() -> str:
    """The machine type with the word size of this process."""
    machine = os.uname().machine
    if sys.maxsize > 1 << 32:
        return machine
    if machine.startswith(("arm", "aarch64")):
        return "arm"
    return "i386" if machine == "x86_64" or machine.endswith("86") else machine
