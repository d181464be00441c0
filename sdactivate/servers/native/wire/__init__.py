"""The wire protocols as functions of bytes: no sockets, no clocks, no threads.

Every parser gets the bytes that have arrived so far. It returns a result or None (more bytes are
needed), or raises `Malformed` with the reason. The three CGI-like protocols (SCGI, uwsgi, FastCGI)
have the same result: a dictionary of variables.
"""

import re
from ipaddress import AddressValueError, IPv6Address

Variables = dict[str, str]


class Malformed(Exception):
    """The peer violated its protocol. The message says how; `status` is the response's status."""

    def __init__(self, reason: str, status: str = "400 Bad Request") -> None:
        super().__init__(reason)
        self.status = status


class TooLarge(Malformed):
    """A request's header is over its limit."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "431 Request Header Fields Too Large")


METHODS: frozenset[str] = frozenset(
    {
        *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"),
        *("COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK"),
        *("BIND", "REBIND", "UNBIND", "ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE"),
        *("M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE", "MKCALENDAR"),
        *("LINK", "UNLINK", "SOURCE"),
    }
)
"""The known methods: those of llhttp, which accepts no others over HTTP. A request with another
method is answered 501 in every protocol (RFC 9110, section 9.1)."""

# RFC 3986, section 3.2.2: an address in brackets, or a registered name or an IPv4 address
_HOST = re.compile(
    r"(?:\[(?:(?P<ipv6>[0-9A-Fa-f:.]+)|v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\]"
    r"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)"
    r"(?::[0-9]*)?"
)
# The longest name by RFC 1035, section 2.3.4, and a port
_LONGEST_HOST = 255 + len(":65535")

HOSTS: set[str] = set()
"""Hosts that `is_host` has found to be valid, so that later requests need no check: at most
`_HOSTS_KEPT`, of at most `_LONGEST_HOST` characters, because clients choose them."""
_HOSTS_KEPT = 1024


def is_host(text: str) -> bool:
    """Whether `text` is a host with an optional port, as in a Host field.

    RFC 9110, section 7.2: uri-host [ ":" port ]; an empty one is not accepted here.
    """
    found = _HOST.fullmatch(text) if len(text) <= _LONGEST_HOST else None
    if found is None:
        return False
    if found["ipv6"]:
        try:
            IPv6Address(found["ipv6"])
        except AddressValueError:
            return False
    if len(HOSTS) >= _HOSTS_KEPT:
        HOSTS.clear()
    HOSTS.add(text)
    return True


def check_host(host: str) -> None:
    """Raise Malformed unless `host` is a host or empty (RFC 9112, section 3.2)."""
    if host and host not in HOSTS and not is_host(host):
        raise Malformed(f"Host {host[:100]!r} is not a host name or address with an optional port")


class Joined(Variables):
    """Variables some of which are repeated; an ordinary dictionary would keep the last of each.

    Fields of the client's header are joined as in RFC 9110 (section 5.3) and RFC 6265 (section
    5.4). For others, such as CONTENT_LENGTH, the last value counts. nginx, HAProxy and Cherokee
    repeat HTTP_COOKIE.

    Raises Malformed for two different HTTP_HOST: for an absolute target, Cherokee sends both the
    client's Host and the host that it used itself, and nothing shows which is which.
    """

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] = {}

    def __setitem__(self, name: str, value: str) -> None:
        if name in self and name.startswith("HTTP_"):
            if name != "HTTP_HOST":
                self._repeated.setdefault(name, [self[name]]).append(value)
            elif value != self[name]:
                raise Malformed(f"two hosts, {self[name][:100]!r} and {value[:100]!r}")
        else:
            super().__setitem__(name, value)

    def plain(self) -> Variables:
        """Return them as a dictionary. Repeated ones are joined only here, in linear time."""
        found = dict(self)
        for name, values in self._repeated.items():
            found[name] = ("; " if name == "HTTP_COOKIE" else ", ").join(values)
        return found


def joined(fields: list[str]) -> Variables:
    """Return the variables of alternating names and values, some of which are repeated."""
    variables = Joined()
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        variables[name] = value
    return variables.plain()


# Each piece is an object with an overhead of about 40 bytes, and a peer may send one byte in each:
# pieces shorter than this are joined
_SMALL = 4096


class Message:
    """A request whose header is complete and whose body may still be arriving.

    Used by the parsers of the protocols that carry several requests on one connection.

    length: bytes of the body according to its header; None: unknown before its end. body: the
    pieces that have arrived and were not read yet; received: bytes so far. complete: whether
    nothing more will arrive. aborted: whether the peer has aborted the request. awaits_continue:
    whether the peer sends the body only after 100 Continue. is_plain: whether it was read in one
    call, and has its environ already. keep_alive: whether the peer keeps the connection after the
    response.
    """

    length: int | None = None
    received = 0
    complete = False
    aborted = False
    awaits_continue = False
    is_plain = False

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.body: list[bytes | bytearray] = []

    def expect(self, length: int) -> None:
        """Set the length of the body to `length` bytes, whatever the peer sends."""
        self.length = length
        if self.received > length:
            self.body[:] = [b"".join(self.body)[:length]]
            self.received = length

    def take(self, data: bytes) -> None:
        """Keep a piece of the body; bytes beyond its length are dropped."""
        if self.length is not None:
            data = data[: self.length - self.received]
        if data:
            body = self.body
            self.received += len(data)
            if len(data) >= _SMALL or not body:
                body.append(data)
            elif type(body[-1]) is bytearray:
                body[-1] += data
            else:
                body.append(bytearray(data))
