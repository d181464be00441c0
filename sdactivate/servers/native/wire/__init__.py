"""The wire protocols as functions of bytes: no sockets, no clocks, no threads in here.

Every parser is given what has arrived so far and answers one of three things: a result, None
(more bytes are needed), or `Malformed` with the reason. The three CGI-like protocols (SCGI,
uwsgi, FastCGI) all come down to the same thing: a dictionary of variables.
"""

Variables = dict[str, str]


class Malformed(Exception):
    """The peer broke its protocol. The message says how; `status` is the answer it is due."""

    def __init__(self, reason: str, status: str = "400 Bad Request") -> None:
        super().__init__(reason)
        self.status = status


class TooLarge(Malformed):
    """A request's header is over its limit."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "431 Request Header Fields Too Large")


class Joined(Variables):
    """Variables of which some come repeatedly; an ordinary dictionary keeps the last of each.

    Fields of the client's header are joined as RFC 9110 (section 5.3) and RFC 6265 (section
    5.4) do; of the rest, CONTENT_LENGTH for one, the last value counts. nginx, HAProxy and
    Cherokee repeat HTTP_COOKIE.
    """

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] = {}

    def __setitem__(self, name: str, value: str) -> None:
        if name in self and name.startswith("HTTP_"):
            self._repeated.setdefault(name, [self[name]]).append(value)
        else:
            super().__setitem__(name, value)

    def plain(self) -> Variables:
        """Return them as a dictionary. They are joined here, at once: a name may come often."""
        found = dict(self)
        for name, values in self._repeated.items():
            found[name] = ("; " if name == "HTTP_COOKIE" else ", ").join(values)
        return found


def joined(fields: list[str]) -> Variables:
    """Return the variables of alternating names and values, some of which come repeatedly."""
    variables = Joined()
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        variables[name] = value
    return variables.plain()


# A piece is an object with some 40 bytes of its own, and a peer may send one byte in each:
# those shorter than this are put together
_SMALL = 4096


class Message:
    """A request whose header is complete and whose body may still be arriving.

    Kept by the parsers of the protocols that carry several requests on one connection.

    length: bytes of the body by its header; None: nobody knows before its end.
    body: the pieces that have arrived and were not taken yet; received: bytes so far.
    complete: nothing more comes. aborted: the peer has given the request up.
    awaits_continue: the peer sends the body only when it is told to.
    keep_alive: the peer lets the connection live on after the response.
    """

    length: int | None = None
    received = 0
    complete = False
    aborted = False
    awaits_continue = False

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.body: list[bytes | bytearray] = []

    def expect(self, length: int) -> None:
        """The body has `length` bytes, whatever the peer sends."""
        self.length = length
        if self.received > length:
            self.body[:] = [b"".join(self.body)[:length]]
            self.received = length

    def take(self, data: bytes) -> None:
        """Keep a piece of the body; what is over its length is dropped."""
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
