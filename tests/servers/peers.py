"""The front's side of the four protocols: a request as bytes, and an answer out of them.

Written from the specifications and not from the server's own modules, which it is there to try.
"""

import array
import fcntl
import socket
import termios
import time
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

Fields = list[tuple[str, str]]


@dataclass
class Request:
    """One request; `extra` are variables (over HTTP: none) that a front adds of its own."""

    path: str = "/"
    method: str = "GET"
    query: str = ""
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    host: str = "www.example.com"
    extra: dict[str, str] = field(default_factory=dict)
    version: str = "1.1"
    keep: bool = False


@dataclass
class Answer:
    """One response. whole: it came to the end that its protocol has."""

    status: int
    reason: str
    fields: Fields
    body: bytes
    whole: bool = True
    errors: bytes = b""  # FCGI_STDERR

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found.lower() == name.lower()]


def variables(request: Request) -> dict[str, str]:
    """What a front says over the CGI-like protocols (RFC 3875)."""
    found = {
        "CONTENT_LENGTH": str(len(request.body)) if request.body else "",
        "REQUEST_METHOD": request.method,
        "REQUEST_URI": request.path + (f"?{request.query}" if request.query else ""),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": request.host,
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "203.0.113.9",
        "REMOTE_PORT": "47011",
        "HTTP_HOST": request.host,
    }
    for name, value in request.fields:
        key = name.upper().replace("-", "_")
        found[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return {**found, **request.extra}


class Protocol:
    """How a request is written and an answer read."""

    def encode(self, request: Request) -> bytes:
        return self.header(variables(request)) + request.body

    def header(self, names: dict[str, str]) -> bytes:
        raise NotImplementedError

    def read(self, sock: socket.socket, request: Request) -> Answer:
        """Read one answer, to the end of the connection."""
        return cgi(until_end(sock))


class Scgi(Protocol):
    def header(self, names: dict[str, str]) -> bytes:
        names = {"CONTENT_LENGTH": names["CONTENT_LENGTH"] or "0", "SCGI": "1", **names}
        names["CONTENT_LENGTH"] = names["CONTENT_LENGTH"] or "0"
        block = "".join(f"{name}\0{value}\0" for name, value in names.items()).encode("latin-1")
        return b"%d:%b," % (len(block), block)


class Uwsgi(Protocol):
    def header(self, names: dict[str, str]) -> bytes:
        packet = b"".join(
            len(text).to_bytes(2, "little") + text.encode("latin-1")
            for pair in names.items()
            for text in pair
        )
        return b"\0" + len(packet).to_bytes(2, "little") + b"\0" + packet


class FastCgi(Protocol):
    def encode(self, request: Request) -> bytes:
        body = request.body
        pieces = [body[at : at + 65535] for at in range(0, len(body), 65535)]
        return self.header(variables(request), request.keep) + b"".join(
            record(5, piece) for piece in [*pieces, b""]
        )

    def header(self, names: dict[str, str], keep: bool = False) -> bytes:
        params = b"".join(
            size(name) + size(value) + (name + value).encode("latin-1")
            for name, value in names.items()
        )
        begin = record(1, bytes((0, 1, keep, 0, 0, 0, 0, 0)))
        pieces = [params[at : at + 65535] for at in range(0, len(params), 65535)]
        return begin + b"".join(record(4, piece) for piece in [*pieces, b""])

    def read(self, sock: socket.socket, request: Request) -> Answer:
        out, errors, ended = b"", b"", False
        while not ended and (head := exactly(sock, 8)):
            kind, length, padding = head[1], int.from_bytes(head[4:6], "big"), head[6]
            content = exactly(sock, length + padding)[:length]
            out += content if kind == 6 else b""
            errors += content if kind == 7 else b""
            ended = kind == 3
        answer = cgi(out)
        answer.errors = errors
        answer.whole = ended
        return answer


class Http(Protocol):
    def encode(self, request: Request) -> bytes:
        target = request.path + (f"?{request.query}" if request.query else "")
        fields = [
            ("Host", request.host),
            ("X-Forwarded-For", "203.0.113.9:47011"),
            *request.fields,
        ]
        if request.body:
            fields.append(("Content-Length", str(len(request.body))))
        if not request.keep:
            fields.append(("Connection", "close"))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        head = f"{request.method} {target} HTTP/{request.version}\r\n{lines}\r\n"
        return head.encode("latin-1") + request.body

    def read(self, sock: socket.socket, request: Request) -> Answer:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = exactly(sock, 1)
            if not byte:
                return Answer(0, "", [], head, whole=False)
            head += byte
        answer = parse_head(head[:-4], status_line=True)
        lengths = answer.all("Content-Length")
        if answer.all("Transfer-Encoding") == ["chunked"]:
            assert not lengths, "both Transfer-Encoding and Content-Length"
            answer.body, answer.whole = chunks(sock)
        elif request.method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            if answer.all("Connection") == ["close"]:
                answer.body = until_end(sock)
        elif lengths:
            answer.body = exactly(sock, int(lengths[0]))
            answer.whole = len(answer.body) == int(lengths[0])
        else:
            answer.body = until_end(sock)
        return answer


PROTOCOLS: dict[str, Protocol] = {
    "scgi": Scgi(),
    "fastcgi": FastCgi(),
    "uwsgi": Uwsgi(),
    "http": Http(),
}


def record(kind: int, content: bytes, number: int = 1, padding: int = 0) -> bytes:
    """A record of FastCGI (section 3.3)."""
    head = bytes((1, kind)) + number.to_bytes(2, "big") + len(content).to_bytes(2, "big")
    return head + bytes((padding, 0)) + content + bytes(padding)


def size(text: str) -> bytes:
    """A length of FastCGI (section 3.4), in one byte or four."""
    length = len(text)
    return bytes((length,)) if length < 128 else (length | 1 << 31).to_bytes(4, "big")


def send_apart(sock: socket.socket, *pieces: bytes) -> None:
    """Send each piece when the other side of a unix socket has read the one before.

    On TCP: when its kernel has them; they may be read together there.
    """
    unread = array.array("i", [0])
    for piece in pieces:
        sock.sendall(piece)
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unread)
        while unread[0]:
            time.sleep(0.001)
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unread)


def exactly(sock: socket.socket, count: int) -> bytes:
    """So many bytes, fewer only at the end of the connection."""
    data = bytearray()
    while len(data) < count:
        try:
            piece = sock.recv(min(count - len(data), 1 << 20))
        except ConnectionResetError:
            break
        if not piece:
            break
        data += piece
    return bytes(data)


def until_end(sock: socket.socket) -> bytes:
    """All bytes to the end of the connection."""
    return exactly(sock, 1 << 62)


def chunks(sock: socket.socket) -> tuple[bytes, bool]:
    """A chunked body (RFC 9112, section 7.1), and whether its last chunk came."""
    body = b""
    while True:
        line = b""
        while not line.endswith(b"\r\n"):
            byte = exactly(sock, 1)
            if not byte:
                return body, False
            line += byte
        length = int(line, 16)
        piece = exactly(sock, length + 2)
        if len(piece) < length + 2:
            return body + piece, False
        if not length:
            return body, True
        body += piece[:-2]


def parse_head(head: bytes, status_line: bool) -> Answer:
    """The lines of a head, each of which must be one."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    assert version == ("HTTP/1.1" if status_line else "Status:"), first
    code, _, reason = status.partition(" ")
    fields = []
    for line in lines:
        name, colon, value = line.partition(": ")
        assert colon, line
        assert name, line
        fields.append((name, value))
    return Answer(int(code), reason, fields, b"")


def cgi(data: bytes) -> Answer:
    """An answer in CGI's form (RFC 3875, section 6), or with an HTTP status line (uwsgi)."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return Answer(0, "", [], data, whole=False)
    answer = parse_head(head, status_line=head.startswith(b"HTTP/"))
    answer.body = body
    if lengths := answer.all("Content-Length"):
        answer.whole = len(body) == int(lengths[0])
    return answer


def ask(sock: socket.socket, protocol: str, request: Request) -> Answer:
    """Send one request and read its answer."""
    wire = PROTOCOLS[protocol]
    sock.sendall(wire.encode(request))
    return wire.read(sock, request)
