"""What each unit directive outside the sandbox does, in words: a table for `explain`.

What the generator writes is all here (a test holds it), and what others write round a socket
often. The sandbox has a table of its own, `sdactivate.sandbox`.
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
    """What a directive is there for, in one sentence, and the manual page that has the rest."""

    why: str
    source: str


TABLE: Mapping[str, Word] = MappingProxyType(
    {
        # any unit
        "Description": Word("What people and logs call the unit.", UNIT),
        "Documentation": Word("Where its documentation is.", UNIT),
        "ConditionHost": Word("It is started on the machine of that name alone.", UNIT),
        "Requires": Word("It starts with that unit, and stops when that one is stopped.", UNIT),
        "Wants": Word("It pulls that unit in, and does without it if need be.", UNIT),
        "BindsTo": Word("It stops as soon as that unit is gone, for whatever reason.", UNIT),
        "PartOf": Word("It is stopped and restarted together with that unit.", UNIT),
        "After": Word("It starts later than that unit: a service after its socket.", UNIT),
        "Before": Word("It starts earlier than that unit.", UNIT),
        "StartLimitIntervalSec": Word(
            "Over what time starts are counted; 0: no crash loop ever fails the socket for good.",
            UNIT,
        ),
        "StartLimitBurst": Word("How many starts are allowed in that time.", UNIT),
        "WantedBy": Word("What pulls it in at boot, once it is enabled.", UNIT),
        "RequiredBy": Word("What can't start without it, once it is enabled.", UNIT),
        "Also": Word("What is enabled and disabled along with it.", UNIT),
        # sockets
        "ListenStream": Word(
            "Where connections are taken: systemd makes the socket, the service inherits it.",
            SOCKET,
        ),
        "SocketUser": Word("Who owns the socket; an owner could change its mode.", SOCKET),
        "SocketGroup": Word(
            "Whose members may connect, where the mode lets the group write.", SOCKET
        ),
        "SocketMode": Word(
            "Who may connect: that takes write permission. Left out it is 0666, everyone.", SOCKET
        ),
        "DirectoryMode": Word("The mode of the directories that are made for the socket.", SOCKET),
        "FileDescriptorName": Word(
            "The name by which the service tells its sockets apart; their order means nothing.",
            SOCKET,
        ),
        "Service": Word("The service that gets the sockets, where it has another name.", SOCKET),
        "AcceptFileDescriptors": Word(
            "Whether who connects may send open files along, which the kernel then keeps.", SOCKET
        ),
        "Backlog": Word(
            "Connections that wait while the service starts; fronts answer 502 when it is full.",
            SOCKET,
        ),
        "Accept": Word(
            "yes starts a process for each connection, which no WSGI server wants.", SOCKET
        ),
        "NoDelay": Word("A small answer leaves at once (TCP_NODELAY).", SOCKET),
        "FreeBind": Word("The address may be bound before its interface is up.", SOCKET),
        "ReusePort": Word("Several sockets may be bound to one port.", SOCKET),
        "BindIPv6Only": Word("Whether an IPv6 socket takes IPv4 connections, too.", SOCKET),
        "MaxConnections": Word("Connections at most; has no effect with Accept=no.", SOCKET),
        "TriggerLimitIntervalSec": Word("Over what time activations are counted.", SOCKET),
        "TriggerLimitBurst": Word(
            "How often the socket may start the service in that time before it fails for good.",
            SOCKET,
        ),
        "RemoveOnStop": Word("The socket's file goes when the socket is stopped.", SOCKET),
        "FlushPending": Word("Connections that wait when the service ends are dropped.", SOCKET),
        # services
        "Type": Word(
            "What counts as started; notify: when the service itself says that it serves.", SERVICE
        ),
        "NotifyAccess": Word("Whose word that is: the main process's only.", SERVICE),
        "ExecStart": Word("What runs, without a shell, with exactly these arguments.", SERVICE),
        "ExecStartPre": Word("What runs before it, each time.", SERVICE),
        "ExecReload": Word("What `systemctl reload` does.", SERVICE),
        "RefreshOnReload": Word("What a reload reads again: its credentials.", SERVICE),
        "ExecStop": Word("What asks it to stop, instead of a signal.", SERVICE),
        "Sockets": Word("The socket units that it inherits from.", SERVICE),
        "PIDFile": Word("Where a daemon writes its process ID; activation needs none.", SERVICE),
        "Restart": Word("It is started again after a failure; a wanted stop is none.", SERVICE),
        "RestartSec": Word("The pause before that; connections wait in the backlog.", SERVICE),
        "RestartSteps": Word("In how many steps the pause grows if it keeps failing.", SERVICE),
        "RestartMaxDelaySec": Word("How long the pause gets at most.", SERVICE),
        "TimeoutStartSec": Word("How long it may take until it is ready.", SERVICE),
        "TimeoutStopSec": Word(
            "How long accepted requests may take at a stop before it is killed.", SERVICE
        ),
        "WatchdogSec": Word("How long it may be silent before it is taken for stuck.", SERVICE),
        "FileDescriptorStoreMax": Word("How many descriptors systemd keeps for it.", SERVICE),
        "RemainAfterExit": Word("It counts as running when its process has ended.", SERVICE),
        "KillMode": Word(
            "mixed: the main process is asked to stop, and only then is the rest killed.", KILL
        ),
        "KillSignal": Word("The signal that asks it to stop.", KILL),
        # how it runs
        "User": Word("Whom it runs as; with DynamicUser= a name that exists while it runs.", EXEC),
        "Group": Word("Its primary group; the user's own where nothing is said.", EXEC),
        "SupplementaryGroups": Word("Further groups it is in.", EXEC),
        "WorkingDirectory": Word("Where it runs, and what Python imports from.", EXEC),
        "Environment": Word(
            "A variable it finds; SDACTIVATE_… are the server's settings (sdactivate serve).", EXEC
        ),
        "EnvironmentFile": Word("A file of such variables, read by systemd as root.", EXEC),
        "LoadCredential": Word(
            "A secret it finds in $CREDENTIALS_DIRECTORY, and nobody else does.", EXEC
        ),
        "LoadCredentialEncrypted": Word("The same, encrypted on disk: systemd-creds(1).", EXEC),
        "StateDirectory": Word(
            "Its own directory under /var/lib, $STATE_DIRECTORY: data that it keeps.", EXEC
        ),
        "StateDirectoryMode": Word("Who else may look into it: nobody.", EXEC),
        "CacheDirectory": Word(
            "Its own directory under /var/cache, $CACHE_DIRECTORY: data it can make again.", EXEC
        ),
        "CacheDirectoryMode": Word("Who else may look into it: nobody.", EXEC),
        "LogsDirectory": Word("Its own directory under /var/log.", EXEC),
        "RuntimeDirectory": Word(
            "Its own directory under /run, removed at its stop, with any socket in it.", EXEC
        ),
        "ReadWritePaths": Word("What it may write to although the system is read-only.", EXEC),
        "ReadOnlyPaths": Word("What it may not write to.", EXEC),
        "StandardOutput": Word("Where its output goes; the journal by default.", EXEC),
        "StandardError": Word("Where its errors go; the journal by default.", EXEC),
        "LimitNOFILE": Word("Descriptors at most: each connection is one.", EXEC),
        # limits
        "DeviceAllow": Word("A device it may open although DevicePolicy= is closed.", RESOURCES),
        "IPAddressAllow": Word("Addresses that IPAddressDeny= does not cover.", RESOURCES),
        "MemoryMax": Word("Memory at most; the kernel kills what takes more.", RESOURCES),
        "MemoryHigh": Word("Memory beyond which it is slowed down.", RESOURCES),
        "CPUQuota": Word("Processor time at most, in per cent of one processor.", RESOURCES),
        "TasksMax": Word("Processes and threads at most.", RESOURCES),
        "Slice": Word("The group of units it shares resources with.", RESOURCES),
        # timers
        "OnCalendar": Word("When it runs: a calendar event of systemd.time(7).", TIMER),
        "OnBootSec": Word("How long after the boot it runs first.", TIMER),
        "OnUnitActiveSec": Word("How long after its last run it runs again.", TIMER),
        "Persistent": Word("A run that was missed while the machine was off is made up.", TIMER),
        "RandomizedDelaySec": Word("It runs up to this much later, at random.", TIMER),
        "Unit": Word("What it starts, where that has another name.", TIMER),
    }
)
