"""The table of options that describe a site, for gen, sites.toml and install.

Each row is one option by its long name: `--run-as` on the command line, `run-as` in a file. The
parsers are those of `sdactivate.site`. The runtime's settings (`sdactivate.settings`) are options,
too. A generated unit sets them only as Environment=SDACTIVATE_... lines, so that an operator finds
all of them in one place and in one form.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sdactivate import backends, external_servers, fronts, settings, values
from sdactivate.errors import UsageError, option_value
from sdactivate.generate import background, schedule
from sdactivate.protected import Protected
from sdactivate.settings import DEFAULTS, Setting
from sdactivate.settings import TABLE as SETTINGS
from sdactivate.site import READ, Site
from sdactivate.systemd import names


class Option(NamedTuple):
    """One row."""

    name: str
    """The long name, without the leading dashes."""
    read: Callable[[str], Any]
    """The parser; raises UsageError, whose message begins with the value, if it is not valid.

    Never called for a flag, whose value is True.
    """
    help: str
    metavar: str = ""
    topic: str = "service"
    """The heading in the help."""
    many: bool = False
    """Whether it may be given several times; then the value is a tuple."""
    flag: bool = False
    """Whether it takes no value."""
    types: tuple[type, ...] = (str,)
    """Types that a file may use instead of a string."""
    words: bool = False
    """Whether its value consists of words, which a file may give as a list."""
    rows: "tuple[Option, ...]" = ()
    """The options of a table that a file may have instead of a string, one table for each name."""
    make: Callable[[str, Mapping[str, Any]], Any] | None = None
    """Returns the value of such a table, from its name and its values by field."""
    optional: bool = False
    """Whether its value may be left out; then it is True. A file may also have true or false."""

    @property
    def field(self) -> str:
        """The field of Site or the keyword of a kind's function."""
        return self.name.replace("-", "_")

    def parse(self, text: str, where: str) -> Any:
        """Return the value of `text`; `where` names the place it came from, such as --mode.

        Raises UsageError, which names the place, the value and what is allowed.
        """
        return option_value(where, self.read, text)


_NUMBERS: dict[Callable[[str], Any], tuple[type, ...]] = {
    **dict.fromkeys((settings.count, settings.positive, settings.size), (str, int)),
    settings.seconds: (str, int, float),
    settings.yes_or_no: (str, bool),
}


def _setting(setting: Setting) -> Option:
    def read(text: str) -> str:
        try:
            setting.parse(text, "")
        except UsageError as error:
            raise UsageError(str(error).removeprefix("=")) from None
        return text.strip()

    metavar = (setting.unit or "value").upper() if not setting.choices else ""
    choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
    return Option(
        setting.option.removeprefix("--"),
        read,
        setting.help + choices,
        metavar or setting.name.upper(),
        "runtime",
        types=_NUMBERS.get(setting.read, (str,)),
        words=isinstance(setting.default, tuple),
    )


def _distribution(text: str) -> str:
    if text not in fronts.DISTRIBUTIONS:
        raise UsageError(f"{text!r} is not one of {', '.join(fronts.DISTRIBUTIONS)}")
    return text


DISTRIBUTION = Option(
    "distribution",
    _distribution,
    "the distribution that packages the front (default: this system's): "
    f"{', '.join(fronts.DISTRIBUTIONS)}",
    "NAME",
    "socket",
)


def _field(
    name: str,
    help: str,
    metavar: str = "",
    topic: str = "service",
    many: bool = False,
    types: tuple[type, ...] = (str,),
) -> Option:
    """Return the option for a field of Site, with the parser of that field."""
    read = READ[name.replace("-", "_")]
    return Option(name, read, help, metavar, topic, many=many, types=types)


SITE: tuple[Option, ...] = (
    _field(
        "listen",
        "the socket's address (default /run/NAME.sock): /path, @abstract, 127.0.0.1:8000, "
        "[::1]:8000, vsock:CID:PORT; may be given several times",
        "ADDRESS",
        "socket",
        many=True,
    ),
    Option(
        "front",
        fronts.find,
        "the web server in front: sets --group to its group, and --listen to an address it can "
        f"reach ({', '.join(fronts.FRONTS)})",
        "FRONT",
        "socket",
    ),
    DISTRIBUTION,
    _field("user", "owner of the socket (default root)", "USER", "socket"),
    _field("group", "group that may connect: the front's", "GROUP", "socket"),
    _field(
        "mode",
        "permissions of the socket (default 0660): 0660 or u=rw,g=rw,o=",
        "MODE",
        "socket",
    ),
    _field(
        "app",
        "the application: mysite.wsgi:application, mysite:create_app(), or a file",
        "MODULE:NAME",
    ),
    _field("chdir", "working directory, and where the code is imported from", "DIR"),
    _field(
        "python",
        "interpreter, usually of a virtual environment (default: the one that runs this)",
        "PATH",
    ),
    _field("run-as", "run as USER instead of a dynamic user", "USER"),
    _field(
        "join",
        "a supplementary group of the service, to connect to a socket of that group: redis",
        "GROUP",
        many=True,
    ),
    _field("env", "an environment variable", "NAME=VALUE", many=True),
    _field("env-file", "a file of environment variables", "PATH", many=True),
    Option(
        "network",
        values.network,
        "allow connections to all machines; `--network local`: TCP to this host only",
        values.LOCAL,
        topic="sandbox",
        optional=True,
    ),
    Option(
        "jit",
        bool,
        "allow writable executable memory (a JIT compiler), and executing files it has written",
        topic="sandbox",
        flag=True,
    ),
    Option("home", bool, "allow reading below /home and /root", topic="sandbox", flag=True),
    Option(
        "proc",
        bool,
        "allow reading /proc/meminfo, /proc/cpuinfo and the like (psutil)",
        topic="sandbox",
        flag=True,
    ),
    _field(
        "writable",
        "allow writing to this path, in addition to the state and cache directories",
        "PATH",
        "sandbox",
        many=True,
    ),
    _field("device", "allow this device", "PATH", "sandbox", many=True),
    Option(
        "control-sockets",
        bool,
        "allow the sockets of the system bus, systemd and container engines",
        topic="sandbox",
        flag=True,
    ),
    _field(
        "allow-syscall",
        "allow this system call, which the sandbox would refuse: listen, @keyring",
        "NAME",
        "sandbox",
        many=True,
    ),
    _field(
        "credential",
        "a secret: the file NAME in $CREDENTIALS_DIRECTORY, read from PATH as root",
        "NAME=PATH",
        many=True,
    ),
    _field(
        "encrypted-credential",
        "like --credential, from a file that `systemd-creds encrypt` wrote",
        "NAME=PATH",
        many=True,
    ),
    _field(
        "memory-max",
        "memory limit: 512M, 2G, 25% (default 80%)",
        "BYTES",
        "limits",
    ),
    _field("cpu-quota", "processor limit: 50%, 200% (two processors)", "PERCENT", "limits"),
    _field(
        "tasks-max",
        "limit on processes and threads (default 1024, or more if --workers and --threads need it)",
        "NUMBER",
        "limits",
        types=(str, int),
    ),
    *(_setting(setting) for setting in SETTINGS),
)

BY_HAND = Option(
    "by-hand",
    schedule.command,
    "a command of manage.py to run by hand, as `systemctl start NAME-COMMAND`: migrate",
    "COMMAND",
    "timer",
    many=True,
)

TIMER: tuple[Option, ...] = (
    Option(
        "command",
        schedule.command,
        "a command of manage.py that a timer runs beside the site: clearsessions",
        "COMMAND",
        "timer",
        many=True,
    ),
    Option(
        "every",
        schedule.every,
        "when the --command runs (default daily): daily, 'Mon 04:00', 15min; see systemd.time(7)",
        "WHEN",
        "timer",
    ),
    Option(
        "once-on",
        schedule.host,
        "of several machines that serve the site, the one whose timers run, by its host name",
        "HOST",
        "timer",
    ),
)
"""Options of the timer kinds."""

_NETWORK = next(row for row in SITE if row.name == "network")


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= background.MOST:
        return int(text)
    raise UsageError(f"{text!r} is not a whole number from 1 to {background.MOST}")


def _span(text: str) -> str:
    if schedule.is_span(text) and settings.seconds(text):
        return text
    raise UsageError(f"{text!r} is not a time span such as 30, 10min or '1h 30min'")


WORKER = Option(
    "worker",
    background.worker,
    "a background worker: a command that runs beside the site in the same sandbox, such as "
    "mail='celery -A mysite worker' or loop='python manage.py db_worker'",
    "NAME=COMMAND",
    "timer",
    many=True,
    rows=(
        Option("command", background.command, "what it runs"),
        Option("count", _number, "how many of it run", types=(str, int)),
        _NETWORK,
        _field("memory-max", "memory limit", "BYTES"),
        _field("env", "an environment variable", "NAME=VALUE", many=True),
        Option("stop-timeout", _span, "how long a task may take to finish", types=(str, int)),
    ),
    make=background.from_table,
)

SYSUSERS: tuple[Option, ...] = (
    Option(
        "member",
        names.account,
        "a user to add to the group: the front's user",
        "USER",
        "socket",
        many=True,
    ),
)
"""Options of the sysusers kind."""

FIELDS = frozenset(row.field for row in SITE)
"""The options that describe the site itself."""

_SETTINGS = frozenset(setting.name for setting in SETTINGS)

TOLD_TO_SERVICE = frozenset({"mount", "auth_file", "protected"})
"""Options of a front that the service must know as well: see `_told`, `_uploads`."""


def _told(front: fronts.Front, given: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that make a service trust what its generated `front` sends over HTTP.

    The other protocols have variables for this, and external servers have no such settings.
    """
    backend = backends.find(given.get("server", DEFAULTS.server))
    protocol = backend.front_protocol(given.get("protocol", "auto"), tuple(front.protocols))
    if backend.name != DEFAULTS.server or protocol != "http":
        return {}
    told = {}
    if "mount" in given:
        fields = settings.header_names(given.get("trust_headers", ""))
        told["trust_headers"] = " ".join(dict.fromkeys((*fields, "X-Script-Name")))
    if "auth_file" in given and "remote_user" not in given:
        told["remote_user"] = "yes"
    return told


def _body_limit(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the setting that gives the service the front's limit, `--max-body`.

    Some fronts check only the length that the client announces, and a chunked body has none. Of the
    external servers only uWSGI has such a limit.
    """
    host = external_servers.SERVERS.get(given.get("server", settings.DEFAULTS.server))
    if "max_body" not in given or (host and "body_bytes" not in host.options):
        return {}
    return {"body_bytes": str(given["max_body"])}


def _uploads(front: fronts.Front | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of Site that let it write what its front reads: --media, --protected."""
    media, hidden = given.get("media", ()), given.get("protected", ()) if front else ()
    found: dict[str, Any] = {}
    if front and hidden and front.lets_out:
        found["protected"] = Protected(front.lets_out, tuple(map(tuple, hidden)))
    if paths := [it.directory.rstrip("/") for it in (*media, *hidden)]:
        found["uploads"] = tuple(dict.fromkeys(paths))
    return found


HEALTH_READS = frozenset({"server_name", "tls"})
"""Options of a front that decide how the health check asks for the page of --health."""


def _health(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the setting `health` with the site's first server name, if it has no host itself."""
    page, names = given.get("health", ""), given.get("server_name")
    if not page.startswith("/") or not names:
        return {}
    return {"health": f"{'https' if 'tls' in given else 'http'}://{names[0]}{page}"}


def site(name: str, given: Mapping[str, Any]) -> Site:
    """Return the site `name` with the parsed values `given`, by field.

    `front` (see `sdactivate.fronts`) and `distribution` are not fields of it: they set its group
    and address if these are not given. Options that only kinds read are ignored here.

    Raises UsageError if the values conflict.
    """
    fields = {key: given[key] for key in given if key in FIELDS and key not in _SETTINGS}
    front, distribution = fields.pop("front", None), fields.pop("distribution", None)
    fields |= _uploads(front, given)
    if front:
        packaging = front.packaging.get(distribution := distribution or fronts.distribution())
        if "group" not in fields:
            fields["group"] = fronts.packaging(front, distribution).group
        if packaging and packaging.chroot:
            seen = packaging.default_socket(name)
            for address in fields.setdefault("listen", (values.parse_listen(seen),)):
                if address.path and not packaging.path_inside(address.path):
                    raise UsageError(
                        f"--listen {address}: {front.title} makes {packaging.chroot} its root "
                        f"directory and can't see a socket outside; use {seen}"
                    )
    runtime = {key: value for key, value in given.items() if key in _SETTINGS}
    runtime = {**_body_limit(given), **runtime, **_health(given)}
    if front:
        runtime |= _told(front, given)
    return Site(name, **fields, settings=runtime)
