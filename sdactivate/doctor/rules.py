"""The rules: one table that the doctor, its reports and docs/doctor.md derive from.

A rule's number is for ever: SDA0xx hold for unit files alone, SDA1xx need the running system.
"""

from typing import Literal, NamedTuple

from sdactivate.doctor.checks import live_fronts, live_services, live_sockets, services, sockets
from sdactivate.doctor.finding import Check

Severity = Literal["error", "warning", "note"]

SOCKET = "systemd.socket(5)"
EXEC = "systemd.exec(5)"
UNIX = "unix(7)"


class Rule(NamedTuple):
    """One row. `fix` says what mends it in general; each finding has the exact line."""

    id: str
    severity: Severity
    what: str
    why: str
    source: str
    fix: str
    check: Check

    @property
    def is_live(self) -> bool:
        """Whether it needs the running system."""
        return self.id >= "SDA100"


# fmt: off
TABLE: tuple[Rule, ...] = (
    Rule("SDA001", "error", "SocketMode= is not set",
         "The default is 0666: every user of the host can connect.",
         SOCKET, "SocketMode=0660 and SocketGroup=", sockets.mode_unset),
    Rule("SDA002", "error", "The socket's mode lets others write",
         "connect() needs write permission on the socket and nothing else of it.",
         UNIX, "SocketMode=0660 and SocketGroup=", sockets.open_to_others),
    Rule("SDA003", "warning", "SocketUser= without SocketGroup=",
         "The group is then the user's default one.",
         SOCKET, "SocketGroup=", sockets.group_by_default),
    Rule("SDA004", "error", "The socket's address is too long",
         "A unix socket's address holds 108 bytes, the NUL at the end included.",
         UNIX, "a shorter path under /run", sockets.path_too_long),
    Rule("SDA005", "error", "The socket is abstract",
         "An abstract address has no file: owner, group and mode mean nothing.",
         UNIX, "a path under /run", sockets.abstract),
    Rule("SDA006", "warning", "A TCP port on the loopback",
         "Ports have no owner: any local user connects and can pretend to be the front.",
         "ip(7)", "a unix socket under /run", sockets.loopback),
    Rule("SDA007", "error", "The application owns its socket",
         "The owner may chmod it, whatever its mode; a dynamic user can't own it at all.",
         "systemd issue 23067", "SocketUser=root", services.owned_by_application),
    Rule("SDA008", "error", "The socket lies in /tmp or /var/tmp",
         "With PrivateTmp= on either side the two see different files; in a shared /tmp "
         "anybody may take the name first.",
         EXEC, "a path under /run", sockets.temporary_directory),
    Rule("SDA009", "error", "RuntimeDirectory= covers the socket",
         "The directory is removed when the service stops, and given to its user when it "
         "starts.",
         EXEC, "a socket outside, or no RuntimeDirectory=", services.runtime_directory),
    Rule("SDA010", "warning", "RemoveOnStop=yes",
         "Clients fail while the socket unit restarts; the man page advises against it.",
         SOCKET, "RemoveOnStop=no", sockets.remove_on_stop),
    Rule("SDA011", "warning", "FlushPending=yes",
         "Clients that wait are dropped when the service restarts.",
         SOCKET, "FlushPending=no", sockets.flush_pending),
    Rule("SDA012", "error", "Accept=yes for a web application",
         "One process is started for each connection.",
         SOCKET, "Accept=no, and a service that is no template", sockets.accept),
    Rule("SDA013", "note", "MaxConnections= with Accept=no",
         "It has no effect.",
         SOCKET, "take it out", sockets.limits_without_effect),
    Rule("SDA014", "warning", "A low trigger limit",
         "A service that crashes a few times takes the socket with it for good.",
         "systemd.socket(5), systemd issue 15633",
         "the default, or PollLimitBurst= (systemd 255)",
         sockets.low_trigger_limit),
    Rule("SDA015", "warning", "A small backlog",
         "When it is full, fronts answer 502 at once.",
         "listen(2)", "Backlog=4096", sockets.small_backlog),
    Rule("SDA016", "error", "DirectoryMode= closes the socket's directory",
         "connect() needs search permission on every directory of the path.",
         UNIX, "DirectoryMode=0755", sockets.closed_directory),
    Rule("SDA017", "warning", "Several sockets without FileDescriptorName=",
         "Their order is undefined: the names are all there is to tell them apart by.",
         "sd_listen_fds(3)", "FileDescriptorName=", sockets.unnamed),
    Rule("SDA018", "warning", "The service does not require its socket",
         "It can be started without, and then has nothing to serve.",
         SOCKET, "Requires= and After=", services.socket_not_required),
    Rule("SDA019", "error", "ExecStart= goes through a program that forks",
         "LISTEN_PID names the process that systemd started, not its child.",
         "sd_listen_fds(3)", "the interpreter itself, or `exec`", services.forks),
    Rule("SDA020", "error", "The service runs as root",
         "A hole in the application is a hole in the host.",
         EXEC, "DynamicUser=yes, or User=", services.root),
    Rule("SDA021", "warning", "IP lists on the service only",
         "They do not hold for a socket that it inherits.",
         "systemd.resource-control(5)", "the same lists in the socket unit", services.ip_lists),
    Rule("SDA022", "error", "The program lies under /home or /root",
         "ProtectHome= hides it and a dynamic user can't read it.",
         EXEC, "/srv or /opt", services.hidden_home),
    Rule("SDA101", "error", "The socket's file is gone or was replaced",
         "The unit stays active, but nobody can connect: the file is another one's.",
         "systemd issue 7274", "systemctl restart NAME.socket", live_sockets.file_lost),
    Rule("SDA102", "error", "The front can't connect",
         "One component of the path refuses it.",
         UNIX, "what that component needs", live_fronts.front_refused),
    Rule("SDA103", "error", "An ACL's mask hides the front's permission",
         "Named users and all groups have only what the mask leaves them.",
         "acl(5)", "setfacl -m m::rw", live_fronts.masked),
    Rule("SDA104", "error", "The running front lacks its group",
         "A process has the groups of its start; usermod changes those of the next.",
         "credentials(7)", "systemctl restart FRONT", live_fronts.group_after_start),
    Rule("SDA105", "warning", "Other services can connect as well",
         "They go round the front's authentication.",
         "unix(7)",
         "a group of the front's own, another user for the other service, or --allow-peer "
         "unit:FRONT",
         live_fronts.others_connect),
    Rule("SDA106", "error", "The front sees other files",
         "PrivateTmp=, a chroot or a mount namespace hides the socket from it.",
         "mount_namespaces(7)",
         "a path under /run, or inside the chroot",
         live_fronts.front_elsewhere),
    Rule("SDA107", "warning", "The backlog is nearly full",
         "When it is full, fronts answer 502 at once.",
         "listen(2)", "more threads or workers", live_sockets.backlog_full),
    Rule("SDA108", "warning", "The kernel shortens the backlog",
         "listen() takes at most net.core.somaxconn.",
         "listen(2)", "sysctl net.core.somaxconn=4096", live_sockets.somaxconn),
    Rule("SDA109", "error", "The socket unit has failed",
         "It listens no more, until it is restarted.",
         SOCKET,
         "mend the service, then systemctl restart NAME.socket",
         live_sockets.socket_failed),
    Rule("SDA110", "error", "The service has failed",
         "It is started for the next connection, and fails again.",
         "systemd.exec(5), Process Exit Codes",
         "what its last words say",
         live_services.service_failed),
    Rule("SDA111", "warning", "The front has logged that it could not connect",
         "Its clients got an error.",
         "measured: sdactivate/fronts.py", "see the finding", live_fronts.front_log),
    Rule("SDA112", "warning", "No compiled Python",
         "Where no .pyc files can be written, every start compiles everything (measured: 195 "
         "ms becomes 966).",
         "py_compile", "python -m compileall", live_services.not_compiled),
    Rule("SDA113", "error", "The service's user can't read the program",
         "systemd drops to the user before it starts the program.",
         EXEC, "chmod, or another place", live_services.program_unreadable),
    Rule("SDA114", "warning", "What runs isn't what its unit says",
         "A changed unit is read at a daemon-reload, and a socket's takes effect at a restart.",
         "systemctl(1)", "systemctl daemon-reload, then restart", live_sockets.differs),
    Rule("SDA115", "error", "A security module denied it",
         "SELinux and AppArmor refuse what the permissions allow.",
         "kernel log", "a rule in the policy", live_services.denied),
    Rule("SDA116", "error", "The socket unit isn't listening",
         "It was never started, or stopped.",
         "systemctl(1)", "systemctl enable --now NAME.socket", live_sockets.not_listening),
)
# fmt: on

BY_ID: dict[str, Rule] = {rule.id: rule for rule in TABLE}
