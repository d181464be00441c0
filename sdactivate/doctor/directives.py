"""What each unit directive outside the sandbox does, in words: a table for `explain`.

It has every directive that the generator writes (a test checks this), and others that are common in
sockets and their services. The sandbox has a table of its own, `sdactivate.sandbox`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

UNIT = "systemd.unit(5)"
SOCKET = "systemd.socket(5)"
SERVICE = "systemd.service(5)"
TIMER = "systemd.timer(5)"
EXEC = "systemd.exec(5)"
KILL = "systemd.kill(5)"
RESOURCES = "systemd.resource-control(5)"


class Word(NamedTuple):
    """What a directive is for, in one sentence, and the manual page that describes it."""

    why: str
    source: str


TABLE: Mapping[str, Word] = MappingProxyType(
    {
        # any unit
        "Description": Word("The name of the unit for people and logs.", UNIT),
        "Documentation": Word("The addresses of its documentation.", UNIT),
        "ConditionHost": Word("It starts only on the machine with this name.", UNIT),
        "Requires": Word("It starts with that unit, and stops when that one is stopped.", UNIT),
        "Wants": Word("It starts that unit too, but starts even if that one fails.", UNIT),
        "BindsTo": Word("It stops as soon as that unit stops, for whatever reason.", UNIT),
        "PartOf": Word("It is stopped and restarted together with that unit.", UNIT),
        "After": Word("It starts later than that unit: a service after its socket.", UNIT),
        "Before": Word("It starts earlier than that unit.", UNIT),
        "StartLimitIntervalSec": Word(
            "The period over which starts are counted; 0: a crash loop never makes the socket "
            "fail.",
            UNIT,
        ),
        "StartLimitBurst": Word("How many starts StartLimitIntervalSec= allows.", UNIT),
        "WantedBy": Word("The unit that starts it at boot, once it is enabled.", UNIT),
        "RequiredBy": Word("The unit that can't start without it, once it is enabled.", UNIT),
        "Also": Word("What is enabled and disabled along with it.", UNIT),
        # sockets
        "ListenStream": Word(
            "The address for connections: systemd creates the socket, and the service inherits it.",
            SOCKET,
        ),
        "SocketUser": Word("The owner of the socket. An owner can change its mode.", SOCKET),
        "SocketGroup": Word(
            "The group whose members may connect, if the mode gives the group write permission.",
            SOCKET,
        ),
        "SocketMode": Word(
            "Who may connect: connect() needs write permission. The default is 0666, everyone.",
            SOCKET,
        ),
        "DirectoryMode": Word(
            "The mode of the directories that systemd creates for the socket.", SOCKET
        ),
        "FileDescriptorName": Word(
            "The name by which the service tells its sockets apart; their order is undefined.",
            SOCKET,
        ),
        "Service": Word("The service that gets the sockets, if it has another name.", SOCKET),
        "AcceptFileDescriptors": Word(
            "Whether a peer may send open file descriptors, which the kernel then keeps.", SOCKET
        ),
        "Backlog": Word(
            "Connections that wait while the service starts; fronts answer 502 when it is full.",
            SOCKET,
        ),
        "Accept": Word("yes starts a process for each connection. WSGI servers need no.", SOCKET),
        "NoDelay": Word("Small responses are sent at once (TCP_NODELAY).", SOCKET),
        "FreeBind": Word("The address may be bound before its interface is up.", SOCKET),
        "ReusePort": Word("Several sockets may be bound to one port.", SOCKET),
        "BindIPv6Only": Word("Whether an IPv6 socket refuses IPv4 connections.", SOCKET),
        "MaxConnections": Word(
            "The maximum number of connections; it has no effect with Accept=no.", SOCKET
        ),
        "TriggerLimitIntervalSec": Word("The period over which activations are counted.", SOCKET),
        "TriggerLimitBurst": Word(
            "How often the socket may start the service in TriggerLimitIntervalSec=. Above that it "
            "fails.",
            SOCKET,
        ),
        "RemoveOnStop": Word("The socket's file is removed when the socket stops.", SOCKET),
        "FlushPending": Word(
            "Connections that are waiting when the service stops are dropped.", SOCKET
        ),
        # services
        "Type": Word(
            "When it counts as started; notify: when the service reports that it is ready.", SERVICE
        ),
        "NotifyAccess": Word(
            "Which processes may report to systemd; main: only the main process.", SERVICE
        ),
        "ExecStart": Word(
            "The program that it runs, without a shell, with exactly these arguments.", SERVICE
        ),
        "ExecStartPre": Word("A command that runs before each start.", SERVICE),
        "ExecReload": Word("What `systemctl reload` does.", SERVICE),
        "RefreshOnReload": Word("What a reload reads again, such as credentials.", SERVICE),
        "ExecStop": Word("The command that stops it, instead of a signal.", SERVICE),
        "Sockets": Word("The socket units that it inherits from.", SERVICE),
        "PIDFile": Word(
            "The file to which a daemon writes its process ID; socket activation doesn't need it.",
            SERVICE,
        ),
        "Restart": Word(
            "Whether it is restarted after a failure or an exit. After systemctl stop it is not.",
            SERVICE,
        ),
        "RestartSec": Word("The pause before a restart; connections wait in the backlog.", SERVICE),
        "RestartSteps": Word(
            "The number of steps in which the pause grows if it keeps failing.", SERVICE
        ),
        "RestartMaxDelaySec": Word("The longest pause.", SERVICE),
        "TimeoutStartSec": Word("How long it may take to become ready.", SERVICE),
        "TimeoutStopSec": Word(
            "How long requests in progress may take at a stop before systemd kills it.", SERVICE
        ),
        "WatchdogSec": Word(
            "How long it may send no WATCHDOG=1 before systemd treats it as hung.", SERVICE
        ),
        "FileDescriptorStoreMax": Word("How many file descriptors systemd keeps for it.", SERVICE),
        "RemainAfterExit": Word("It counts as running after its process has exited.", SERVICE),
        "KillMode": Word(
            "mixed: systemd signals the main process first, and kills the other processes at the "
            "end.",
            KILL,
        ),
        "KillSignal": Word("The signal that stops it.", KILL),
        # how it runs
        "User": Word(
            "The user that it runs as; with DynamicUser= a name that exists only while it runs.",
            EXEC,
        ),
        "Group": Word("Its primary group; the default is the user's own.", EXEC),
        "SupplementaryGroups": Word("Further groups that it is in.", EXEC),
        "WorkingDirectory": Word(
            "The directory in which it runs, and from which Python imports.", EXEC
        ),
        "Environment": Word(
            "A variable in its environment; SDACTIVATE_… are the server's settings (sdactivate "
            "serve).",
            EXEC,
        ),
        "EnvironmentFile": Word("A file of environment variables. systemd reads it as root.", EXEC),
        "LoadCredential": Word("A secret that only it can read, in $CREDENTIALS_DIRECTORY.", EXEC),
        "LoadCredentialEncrypted": Word(
            "Like LoadCredential=, but encrypted on disk: systemd-creds(1).", EXEC
        ),
        "StateDirectory": Word(
            "Its own directory in /var/lib ($STATE_DIRECTORY), for data that it keeps.", EXEC
        ),
        "StateDirectoryMode": Word(
            "The mode of StateDirectory=; 0700: no other user may enter it.", EXEC
        ),
        "CacheDirectory": Word(
            "Its own directory in /var/cache ($CACHE_DIRECTORY), for data that it can create "
            "again.",
            EXEC,
        ),
        "CacheDirectoryMode": Word(
            "The mode of CacheDirectory=; 0700: no other user may enter it.", EXEC
        ),
        "LogsDirectory": Word("Its own directory in /var/log.", EXEC),
        "RuntimeDirectory": Word(
            "Its own directory in /run. It is removed at a stop, with any socket in it.", EXEC
        ),
        "ReadWritePaths": Word(
            "Paths that it may write to although the system is read-only.", EXEC
        ),
        "ReadOnlyPaths": Word("Paths that it may not write to.", EXEC),
        "StandardOutput": Word("The destination of its output; the journal by default.", EXEC),
        "StandardError": Word(
            "The destination of its standard error; the journal by default.", EXEC
        ),
        "LimitNOFILE": Word(
            "The maximum number of file descriptors. Each connection needs one.", EXEC
        ),
        # limits
        "DeviceAllow": Word(
            "A device that it may open although DevicePolicy= is closed.", RESOURCES
        ),
        "IPAddressAllow": Word("Addresses that are allowed in spite of IPAddressDeny=.", RESOURCES),
        "MemoryMax": Word(
            "The memory limit; the kernel kills processes if it is exceeded.", RESOURCES
        ),
        "MemoryHigh": Word("The amount of memory above which it is slowed down.", RESOURCES),
        "CPUQuota": Word("The limit of CPU time, in per cent of one CPU.", RESOURCES),
        "TasksMax": Word("The maximum number of processes and threads.", RESOURCES),
        "Slice": Word("The group of units with which it shares resources.", RESOURCES),
        # timers
        "OnCalendar": Word("When it runs: a calendar event of systemd.time(7).", TIMER),
        "OnBootSec": Word("How long after the boot it runs first.", TIMER),
        "OnUnitActiveSec": Word("How long after its last run it runs again.", TIMER),
        "Persistent": Word(
            "If a run was missed while the machine was off, it runs at the next boot.", TIMER
        ),
        "RandomizedDelaySec": Word("It runs up to this much later, at random.", TIMER),
        "Unit": Word("The unit that it starts, if that has another name.", TIMER),
    }
)
