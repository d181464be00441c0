"""What systemd does before it starts a program, step by step: systemd.exec(5), Process Exit Codes.

If a step fails, the process exits with that step's status, 200 or above. The step's name says
little, and systemd's message often names the program instead of what was missing. So the unit's
lines that the step uses are shown too.
"""

from typing import NamedTuple


class Step(NamedTuple):
    """One step: what its failure means, the directives that it uses, and what fixes it."""

    name: str
    what: str
    directives: tuple[str, ...]
    fix: str


_PATHS = ("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths",
          "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "RootDirectory",
          "RootImage")  # fmt: skip
_CORRECT = "correct the line, or remove it"


def _directory(number: int, key: str, place: str) -> tuple[str, Step]:
    name = f"{key.removesuffix('Directory').upper()}_DIRECTORY"
    fix = f"check {place}/NAME: it has to be a directory, or not exist"
    return str(number), Step(name, f"a directory in {place} couldn't be created", (key,), fix)


STEPS: dict[str, Step] = {
    "200": Step(
        "CHDIR", "WorkingDirectory= doesn't exist, or the service's user may not enter it",
        ("WorkingDirectory",), "correct WorkingDirectory=, or create that directory",
    ),
    "201": Step("NICE", "the priority was refused", ("Nice",), _CORRECT),
    "202": Step("FDS", "the sockets couldn't be passed on", (), "systemctl restart the socket"),
    "203": Step(
        "EXEC", "the program doesn't exist, or the service's user may not execute "
                "it", ("ExecStart",),
        "correct the path, or install the program there and make it executable (chmod +x)",
    ),
    "204": Step("MEMORY", "memory ran out", (), "add memory, or use less"),
    "205": Step(
        "LIMITS", "a resource limit was refused",
        ("LimitNOFILE", "LimitNPROC", "LimitCORE", "LimitMEMLOCK"), _CORRECT,
    ),
    "206": Step("OOM_ADJUST", "the OOM score was refused", ("OOMScoreAdjust",), _CORRECT),
    "207": Step("SIGNAL_MASK", "the signal mask couldn't be set", (), "see systemd's line"),
    "208": Step("STDIN", "standard input couldn't be set up", ("StandardInput",), _CORRECT),
    "209": Step(
        "STDOUT", "standard output couldn't be set up", ("StandardOutput",),
        "correct StandardOutput=, or create the directory of its file",
    ),
    "210": Step("CHROOT", "the root directory couldn't be changed", ("RootDirectory",), _CORRECT),
    "211": Step("IOPRIO", "the I/O priority was refused", ("IOSchedulingClass",), _CORRECT),
    "212": Step("TIMERSLACK", "the timer slack was refused", ("TimerSlackNSec",), _CORRECT),
    "213": Step("SECUREBITS", "the secure bits were refused", ("SecureBits",), _CORRECT),
    "214": Step("SETSCHEDULER", "the scheduler was refused", ("CPUSchedulingPolicy",), _CORRECT),
    "215": Step("CPUAFFINITY", "the choice of processors was refused", ("CPUAffinity",), _CORRECT),
    "216": Step(
        "GROUP", "Group= or SupplementaryGroups= names a group that doesn't "
                 "exist", ("Group", "SupplementaryGroups"),
        "correct the name, or create the group (groupadd --system NAME)",
    ),
    "217": Step(
        "USER", "User= names a user that doesn't exist", ("User",),
        "correct the name, create the user (useradd --system NAME), or set DynamicUser=yes",
    ),
    "218": Step(
        "CAPABILITIES", "the capabilities couldn't be set",
        ("CapabilityBoundingSet", "AmbientCapabilities"), _CORRECT,
    ),
    "219": Step("CGROUP", "its control group couldn't be set up", ("Slice", "Delegate"), _CORRECT),
    "220": Step("SETSID", "a new session couldn't be created", (), "see systemd's line"),
    "222": Step("STDERR", "standard error couldn't be set up", ("StandardError",), _CORRECT),
    "224": Step("PAM", "PAM refused it", ("PAMName",), "remove PAMName=: a site doesn't need it"),
    "225": Step(
        "NETWORK", "a private network couldn't be set up",
        ("PrivateNetwork", "NetworkNamespacePath"), _CORRECT,
    ),
    "226": Step(
        "NAMESPACE", "a directory of the sandbox doesn't exist", _PATHS,
        'create the directory, or put "-" before the path to make it optional',
    ),
    "227": Step("NO_NEW_PRIVILEGES", "no_new_privs couldn't be "
                                     "set", ("NoNewPrivileges",), _CORRECT),
    "228": Step(
        "SECCOMP", "the kernel has no system call filter",
        ("SystemCallFilter", "SystemCallArchitectures", "RestrictAddressFamilies"), _CORRECT,
    ),
    "229": Step("SELINUX_CONTEXT", "SELinux refused it", ("SELinuxContext",), _CORRECT),
    "230": Step("PERSONALITY", "the personality was refused", ("Personality",), _CORRECT),
    "231": Step(
        "APPARMOR_PROFILE", "AppArmor has no such profile", ("AppArmorProfile",),
        "load the profile (apparmor_parser -r FILE), or remove the line",
    ),
    "232": Step(
        "ADDRESS_FAMILIES", "the kernel can't restrict address families",
        ("RestrictAddressFamilies",), _CORRECT,
    ),
    **dict(
        (
            _directory(233, "RuntimeDirectory", "/run"),
            _directory(238, "StateDirectory", "/var/lib"),
            _directory(239, "CacheDirectory", "/var/cache"),
            _directory(240, "LogsDirectory", "/var/log"),
            _directory(241, "ConfigurationDirectory", "/etc"),
        )
    ),
    "235": Step("CHOWN", "the owner of the socket's file couldn't be "
                         "set", (), "see systemd's line"),
    "236": Step("SMACK_PROCESS_LABEL", "SMACK refused it", ("SmackProcessLabel",), _CORRECT),
    "237": Step("KEYRING", "a keyring couldn't be set up", ("KeyringMode",), _CORRECT),
    "242": Step("NUMA_POLICY", "the memory policy was refused", ("NUMAPolicy",), _CORRECT),
    "243": Step(
        "CREDENTIALS", "a credential is missing",
        ("LoadCredential", "LoadCredentialEncrypted", "SetCredentialEncrypted"),
        "create the credential's file, readable only by root, or correct the line",
    ),
    "245": Step("BPF", "the kernel refused a BPF program", ("RestrictFileSystems",), _CORRECT),
}  # fmt: skip
"""The steps by exit status."""
