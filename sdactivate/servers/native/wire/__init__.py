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

    def __setitem__(self, name: str, value: str) -> None:
        if name in self and name.startswith("HTTP_"):
            value = self[name] + ("; " if name == "HTTP_COOKIE" else ", ") + value
        super().__setitem__(name, value)


def joined(fields: list[str]) -> Variables:
    """Return the variables of alternating names and values, some of which come repeatedly."""
    variables = Joined()
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        variables[name] = value
    return dict(variables)


# A piece is an object with some 40 bytes of its own, and a peer may send one byte in each
_PIECES = 256


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
        self.body: list[bytes] = []

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
            body.append(data)
            self.received += len(data)
            if len(body) > _PIECES:
                body[:] = [b"".join(body)]
