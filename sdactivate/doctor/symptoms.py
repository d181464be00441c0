"""The table of symptoms: what programs print if a rule is broken.

`sdactivate doctor --explain` and docs/cases.md are made from it. In all rows the site is mysite and
its socket is /run/mysite.sock. For a rule without symptoms no program prints anything.

tests/machine/test_symptoms.py and test_doctor.py break each rule on a real system and look for
these words. The messages of the fronts are not repeated here: they are in `fronts`, and tested
there.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sdactivate.fronts import FRONTS

SOCKET = "/run/mysite.sock"
PLACES: Mapping[str, str] = {
    "systemd": "journalctl -u mysite.socket -u mysite.service",
    "site": "journalctl -u mysite.service",
    "systemctl": "systemctl status mysite.socket mysite.service",
    "file": f"ls -l {SOCKET}",
    "queue": "ss -xl",
    "ports": "ss -tl",
    "shell": "a shell",
    "nginx": "tail /var/log/nginx/error.log",
    "kernel": "journalctl -k",
    "client": "curl -i http://localhost/",
}
"""The command that shows each kind of message. Those for the fronts are in `fronts`."""


class Symptom(NamedTuple):
    """A message that a program prints."""

    place: str
    """Where it appears: a key of PLACES, or the name of a front."""
    words: str
    """Part of a printed line, without process IDs and times."""
    kind: str = ""
    """How connect() failed, for a front's message: missing, forbidden or refused."""

    @property
    def shown_by(self) -> str:
        """The command that shows it."""
        front = FRONTS.get(self.place)
        packaged = front.packaging.get("debian") if front else None
        return packaged.log_command if packaged else PLACES.get(self.place, "")


def connecting(kind: str) -> Iterator[Symptom]:
    """Yield what each front logs if it can't connect.

    kind: missing, forbidden or refused. HAProxy and Cherokee log the same for all three.
    """
    for front in FRONTS.values():
        words = getattr(front.failures, kind)
        packaged = front.packaging.get("debian")
        socket = packaged.default_socket("mysite") if packaged else SOCKET
        yield Symptom(front.name, words.replace("SOCKET", socket).strip(), kind)


_MISSING, _FORBIDDEN, _REFUSED = (
    tuple(connecting(kind)) for kind in ("missing", "forbidden", "refused")
)
_OPEN = Symptom("file", "srw-rw-rw-")
_FULL = Symptom(
    "nginx", f"connect() to unix:{SOCKET} failed (11: Resource temporarily unavailable)"
)
_RESET = Symptom("nginx", "recv() failed (104: Connection reset by peer) while reading response "
                 "header from upstream")  # fmt: skip
_SERVICE_LIMIT = (
    Symptom("systemd", "mysite.service: Start request repeated too quickly."),
    Symptom("systemd", "mysite.socket: Failed with result 'service-start-limit-hit'."),
)
_NO_FILE = Symptom("systemd", "mysite.service: Failed to load environment files: No such file or "
                   "directory")  # fmt: skip
_NOT_LOADED = (
    Symptom("systemd", "mysite.socket: Socket service mysite.service not loaded, refusing."),
    *_MISSING,
)


# fmt: off
TABLE: Mapping[str, tuple[Symptom, ...]] = {
    "SDA001": (_OPEN,),
    "SDA002": (_OPEN,),
    "SDA003": _FORBIDDEN,
    "SDA004": (
        Symptom("systemctl", "Unit mysite.socket has a bad unit file setting."),
        Symptom("systemd", "ignoring: File name too long"),
        Symptom("systemd", "mysite.socket: Unit has no Listen setting (ListenStream=, "
                           "ListenDatagram=, ListenFIFO=, ...). Refusing."),
    ),
    "SDA005": (Symptom("queue", "@mysite"),),
    "SDA006": (Symptom("ports", "127.0.0.1:8000"),),
    "SDA007": (
        Symptom("systemd", "mysite.socket: Failed to resolve user mysite: No such process"),
        Symptom("systemd", "mysite.socket: Control process exited, code=exited, status=217/USER"),
    ),
    "SDA008": _MISSING,
    "SDA009": _MISSING,
    "SDA010": _MISSING,
    "SDA011": (_RESET,),
    "SDA012": (
        Symptom("systemd", "mysite.socket: Failed to queue service startup job (Maybe the service "
                           "file is missing or not a template unit?)"),
        Symptom("systemd", "mysite.socket: Failed with result 'resources'."),
    ),
    "SDA013": (),
    "SDA014": (
        Symptom("systemd", "mysite.socket: Trigger limit hit, refusing further activation."),
        Symptom("systemd", "mysite.socket: Failed with result 'trigger-limit-hit'."),
        *_REFUSED,
    ),
    "SDA015": (_FULL,),
    "SDA016": _FORBIDDEN,
    "SDA017": (),
    "SDA018": (),
    "SDA019": (
        Symptom("site", "something between the supervisor and this program forked instead of "
                        "exec'ing"),
        Symptom("systemd", "mysite.service: Failed with result 'protocol'."),
        *_SERVICE_LIMIT,
    ),
    "SDA020": (),
    "SDA021": (),
    "SDA022": (
        Symptom("systemd", "mysite.service: Failed at step EXEC spawning /root/venv/bin/python"),
        Symptom("systemd", "mysite.service: Main process exited, code=exited, status=203/EXEC"),
    ),
    "SDA023": (),
    "SDA024": (),
    "SDA025": (
        Symptom("systemd", "mysite.service: start operation timed out. Terminating."),
        Symptom("systemd", "mysite.service: Failed with result 'timeout'."),
    ),
    "SDA026": (Symptom("systemd", "mysite.socket: Deactivated successfully."), *_REFUSED),
    "SDA027": (),
    "SDA028": (
        _OPEN,
        Symptom("site", f"changing permissions of '{SOCKET}': Operation not permitted"),
        Symptom("systemd", "mysite.service: Control process exited, code=exited, status=1/FAILURE"),
    ),
    "SDA029": (),
    "SDA030": (
        Symptom("systemd", "Reloaded mysite.service"),
        Symptom("systemd", "mysite.service: Deactivated successfully."),
    ),
    "SDA031": (_NO_FILE,),
    "SDA032": _NOT_LOADED,
    "SDA033": (
        Symptom("systemd", "mysite.service: Watchdog timeout (limit 1s)!"),
        Symptom("systemd", "mysite.service: Failed with result 'watchdog'."),
    ),
    "SDA034": _SERVICE_LIMIT,
    "SDA035": (
        Symptom("systemd", "mysite.service: State 'stop-sigterm' timed out. Killing."),
        Symptom("systemd", "mysite.service: Failed with result 'timeout'."),
    ),
    "SDA036": (),
    "SDA037": (
        Symptom("systemd", "mysite.socket: Failed to resolve group mysite: No such process"),
        Symptom("systemd", "mysite.socket: Control process exited, code=exited, status=216/GROUP"),
        *_FORBIDDEN,
    ),
    "SDA038": (
        Symptom("systemd", "Unknown key '"),
        Symptom("systemd", "Unknown section '"),
        Symptom("systemd", "Invalid environment assignment, ignoring: "),
    ),
    "SDA039": (
        Symptom("systemd", "Neither a valid executable name nor an absolute path: "),
        Symptom("systemd", "mysite.service: Main process exited, code=exited, status=203/EXEC"),
    ),
    "SDA101": (*_MISSING, *_REFUSED),
    "SDA102": _FORBIDDEN,
    "SDA103": _FORBIDDEN,
    "SDA104": _FORBIDDEN,
    "SDA105": (),
    "SDA106": _MISSING,
    "SDA107": (_FULL,),
    "SDA108": (_FULL,),
    "SDA109": (
        Symptom("systemd", "mysite.socket: Failed to resolve group nowhere: No such process"),
        Symptom("systemd", "mysite.socket: Control process exited, code=exited, status=216/GROUP"),
        *_FORBIDDEN,
    ),
    "SDA110": (
        Symptom("client", "503 Service Unavailable"),
        _RESET,
        Symptom("systemd", "mysite.service: Failed to determine user credentials: No such process"),
        Symptom("systemd", "mysite.service: Failed to set up mount namespacing"),
        Symptom("systemd", "mysite.service: Main process exited, code=exited, "
                           "status=226/NAMESPACE"),
        *_SERVICE_LIMIT,
    ),
    "SDA111": (*_MISSING, *_FORBIDDEN, *_REFUSED),
    "SDA112": (),
    "SDA113": (
        Symptom("systemd", "mysite.service: Changing to the requested working directory failed: "
                           "Permission denied"),
        Symptom("systemd", "mysite.service: Main process exited, code=exited, status=200/CHDIR"),
    ),
    "SDA114": (
        Symptom("systemctl", "changed on disk. Run 'systemctl daemon-reload' to reload units."),
    ),
    "SDA115": (
        Symptom("kernel", 'apparmor="DENIED"'),
        Symptom("kernel", "avc:  denied"),
        *_FORBIDDEN,
    ),
    "SDA116": (Symptom("systemctl", "Active: inactive (dead)"), *_REFUSED),
    "SDA117": (*_REFUSED, _FULL),
    "SDA118": (),
    "SDA119": (),
    "SDA120": (),
    "SDA121": (Symptom("client", "404 Not Found"),),
    "SDA122": _NOT_LOADED,
    "SDA123": (_FULL,),
    "SDA124": (
        Symptom("site", "[Errno 97] Address family not supported by protocol"),
        Symptom("site", "[Errno 30] Read-only file system"),
    ),
    "SDA125": (
        Symptom("site", "the application has written nothing to standard error about it."),
    ),
    "SDA126": _MISSING,
    "SDA127": (),
    "SDA128": (
        _NO_FILE,
        Symptom("systemd", "mysite.service: Failed to set up credentials: Protocol error"),
        Symptom("systemd", "mysite.service: Main process exited, code=exited, "
                           "status=243/CREDENTIALS"),
    ),
    "SDA129": (
        Symptom("site", "KeyError: 'getpwuid(): uid not found: "),
        Symptom("shell", "whoami: cannot find name for user ID "),
        Symptom("shell", "No user exists for uid "),
        Symptom("shell", "chown: invalid user: "),
        Symptom("shell", ": no such user"),
    ),
    "SDA130": (Symptom("site", "PermissionError: [Errno 13] Permission denied: "),),
    "SDA140": (Symptom("client", "502 Bad Gateway"),),
    "SDA141": (
        Symptom("site", "*** no app loaded. going in full dynamic mode ***"),
        Symptom("site", "[ERROR] Shutting down: Master"),
        Symptom("site", "exited with code 3."),
        Symptom("site", "[emperor-tyrant] invalid permissions for vassal "),
        Symptom("site", " exited with code "),
    ),
    "SDA142": (
        Symptom("site", "Invalid session "),
        Symptom("site", "invalid request block size: "),
        Symptom("site", "[CRITICAL] WORKER TIMEOUT (pid:"),
        Symptom("site", "Request Line is too large ("),
    ),
    "SDA143": (
        Symptom("nginx", "failed (13: Permission denied), client: "),
        Symptom("apache", "AH01630: client denied by server configuration: "),
    ),
    "SDA144": (),
    "SDA145": (),
    "SDA146": (Symptom("kernel", "not responding, still trying"),),
    "SDA147": (
        Symptom("systemctl", "Loaded: bad-setting (Reason: Unit mysite.service has a bad unit "
                             "file setting.)"),
        Symptom("shell", "has a bad unit file setting."),
    ),
    "SDA148": (
        Symptom("client", "413 Request Entity Too Large"),
        Symptom("nginx", "client intended to send too large body: "),
        Symptom("lighttpd", "request-size too long: "),
        Symptom("caddy", "HTTP 413: http: request body too large"),
    ),
    "SDA149": (
        Symptom("client", "400 Bad Request"),
        Symptom("site", "Invalid HTTP_HOST header: "),
    ),
    "SDA150": (
        Symptom("client", "400 Bad Request"),
        Symptom("site", "You may need to add 'www.example.com' to ALLOWED_HOSTS."),
    ),
    "SDA151": (Symptom("systemctl", "Active: inactive (dead)"),),
    "SDA152": (Symptom("client", "404 Not Found"), Symptom("client", "400 Bad Request")),
    "SDA153": (
        Symptom("client", "504 Gateway Time-out"),
        Symptom("nginx", "upstream timed out (110: Connection timed out) while reading response "
                         "header from upstream"),
        Symptom("nginx", "upstream sent too big header while reading response header from "
                         "upstream"),
        Symptom("apache", "AH01102: error reading status line from remote server "),
        Symptom("apache", "AH10124: header size is over the limit allowed by ResponseFieldSize"),
        Symptom("haproxy", " sH-- "),
        Symptom("haproxy", " PH-- "),
        Symptom("lighttpd", "read timeout on socket: "),
        Symptom("lighttpd", "response headers too large for "),
        Symptom("caddy", "timeout awaiting response headers"),
    ),
    "SDA154": (
        Symptom("client", "500 Internal Server Error"),
        Symptom("apache", "AH01144: No protocol handler was valid for the URL "),
    ),
    "SDA155": (
        Symptom("client", "403 Forbidden"),
        Symptom("site", "Forbidden (Origin checking failed - https://"),
    ),
    "SDA156": (
        Symptom("client", "404 Not Found"),
        Symptom("nginx", "failed (2: No such file or directory), client: "),
    ),
    "SDA157": (Symptom("client", "404 Not Found"),),
    "SDA158": (Symptom("client", "404 Not Found"),),
    "SDA159": (),
    "SDA160": (),
    "SDA161": (Symptom("nginx", "[emerg]"), Symptom("systemctl", "Active: failed")),
    "SDA162": (
        Symptom("client", "503 Service Unavailable"),
        Symptom("haproxy", " is DOWN, reason: Layer7"),
    ),
    "SDA163": (Symptom("client", "404 Not Found"), Symptom("client", "500 Internal Server Error")),
    "SDA164": (),
    "SDA165": (Symptom("client", "404 Not Found"),),
    "SDA166": (Symptom("client", "404 Not Found"),),
    "SDA167": (
        Symptom("nginx", "upstream prematurely closed connection while reading response header"),
        Symptom("nginx", "rewrite or internal redirection cycle"),
        Symptom("nginx", "no resolver defined to resolve "),
        Symptom("apache", "AH00898: Error reading from remote server"),
        Symptom("apache", "AH00124: Request exceeded the limit of "),
    ),
    "SDA168": (Symptom("client", "404 Not Found"),),
    "SDA169": (Symptom("client", "400 Bad Request"),),
    "SDA170": (Symptom("client", "401 Unauthorized"),),
    "SDA171": (),
    "SDA172": _MISSING,
}
# fmt: on
