"""The client of tests/machine/test_certificates.py: HTTPS, by HTTP/2 too, from inside the machine.

    https_client.py ask HOST PATH    by HTTP/2, with the fields that standard input has as JSON
    https_client.py load HOST PATH   until its standard input ends

`ask` prints, as JSON, each status and body, or what came instead. `load` prints what became of its
requests. The standard library only: what is sent is what is written here, valid or not.
"""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterable

LOGIN = ("authorization", "Basic " + base64.b64encode(b"alice:secret").decode())
Fields = Iterable[tuple[str, str]]

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
ACK = END_STREAM = 1
END_HEADERS = 4
STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
"""RFC 7541, appendix A."""


def connect(host: str, *protocols: str) -> ssl.SSLSocket:
    """Return a connection by TLS; whose certificate it is, is another test's business."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    sock = socket.create_connection(("127.0.0.1", 443), 30)
    return context.wrap_socket(sock, server_hostname=host)


# --- HTTP/2 (RFC 9113, RFC 7541) ----------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def number(value: int, bits: int, first: int = 0) -> bytes:
    """Return an integer with a prefix of `bits` (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out, value = bytearray((first | most,)), value - most
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    return bytes((*out, value))


def block(fields: Fields) -> bytes:
    """Return the fields as literals, none of them compressed."""
    out = b""
    for name, value in fields:
        parts = (name.encode(), value.encode())
        out += b"\0" + b"".join(number(len(part), 7) + part for part in parts)
    return out


def status(received: bytes) -> int:
    """Return the status of a response's header: its first field. 0 for one that is not known."""
    while received and received[0] >> 5 == 1:  # the size of a table
        received = received[1:] if received[0] & 31 < 31 else received[2:]
        while received and received[0] >> 7:
            received = received[1:]
    if received[0] >> 7:
        return STATUS.get(received[0] & 127, 0)
    value = received[2 : 2 + (received[1] & 127)]
    if not received[1] >> 7:
        return int(value)
    bits, digits = "".join(f"{byte:08b}" for byte in value), ""
    codes = {f"{n:05b}": str(n) for n in range(3)} | {f"{22 + n:06b}": str(n) for n in range(3, 10)}
    while len(digits) < 3:
        size = 5 if bits[:5] in codes else 6
        digits, bits = digits + codes[bits[:size]], bits[size:]
    return int(digits)


def exactly(sock: ssl.SSLSocket, length: int) -> bytes:
    """Read that many bytes. Raises ConnectionError at the end."""
    data = b""
    while len(data) < length:
        if not (more := sock.recv(length - len(data))):
            raise ConnectionError("closed")
        data += more
    return data


class NotProcessedError(ConnectionError):
    """The server says goodbye, without an error and before it looked at the request."""


def by_http2(host: str, path: str, fields: Fields = (), method: str = "GET") -> tuple[int, bytes]:
    """Return the status and the body of one request.

    Raises ConnectionError for a refusal, and NotProcessedError for one that RFC 9113, section 8.7,
    lets a client send again by another connection.
    """
    pseudo = ((":method", method), (":scheme", "https"), (":authority", host), (":path", path))
    names = [name for name, _ in fields]
    said = [(name, value) for name, value in pseudo if name not in names]
    said += sorted(fields, key=lambda field: field[0][:1] != ":")
    with connect(host, "h2") as sock:
        if sock.selected_alpn_protocol() != "h2":
            raise ConnectionError("no HTTP/2")
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        sock.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(said)))
        header, body = b"", b""
        while True:
            (length, kind, flags, stream) = struct.unpack(">IBBI", b"\0" + exactly(sock, 9))
            content = exactly(sock, length)
            if kind == SETTINGS and not flags & ACK:
                sock.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                sock.sendall(frame(PING, ACK, 0, content))
            elif kind == GOAWAY:
                last, error = struct.unpack(">II", content[:8])
                if error:
                    raise ConnectionError(f"GOAWAY {error:08x}")
                if last < 1:
                    raise NotProcessedError("GOAWAY")
            elif kind == RST_STREAM:
                raise ConnectionError(f"RST_STREAM {content.hex()}")
            elif kind in (HEADERS, CONTINUATION) and stream == 1:
                header += content
            elif kind == DATA:
                body += content
            if stream == 1 and kind in (HEADERS, DATA) and flags & END_STREAM:
                return status(header), body


# --- load -----------------------------------------------------------------------------------------


def by_http1(sock: ssl.SSLSocket, host: str, path: str) -> bytes:
    """Send a request and return the body of the response. Raises OSError where none comes."""
    name, value = LOGIN
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{name}: {value}\r\n\r\n".encode())
    with http.client.HTTPResponse(sock) as response:
        response.begin()  # http.client.RemoteDisconnected is an OSError
        return response.read()


class Client(threading.Thread):
    """One who asks again and again: by HTTP/2, or by HTTP/1.1 with a kept connection or without."""

    def __init__(self, host: str, path: str, how: str, end: threading.Event) -> None:
        super().__init__(daemon=True)
        self.host, self.path, self.how, self.end = host, path, how, end
        self.requests = 0
        self.failed: list[str] = []
        self.kept: ssl.SSLSocket | None = None

    def run(self) -> None:
        while not self.end.is_set():
            self.requests += 1
            try:
                answer = self.ask()
                if b"the site" not in answer:
                    self.failed.append(f"{self.how}: {answer[:200]!r}")
            except OSError as error:
                self.failed.append(f"{self.how}: {error!r}")
            time.sleep(0.01)

    def ask(self) -> bytes:
        if self.how == "HTTP/2":
            # A process of nginx's that is to end says goodbye even to those who have just come;
            # browsers and curl ask again.
            with contextlib.suppress(NotProcessedError):
                return by_http2(self.host, self.path, [LOGIN])[1]
            return by_http2(self.host, self.path, [LOGIN])[1]
        if self.how == "new":
            with connect(self.host, "http/1.1") as sock:
                return by_http1(sock, self.host, self.path)
        if self.kept:
            # What a front has closed since the last answer is asked for again, as browsers do.
            with contextlib.suppress(OSError):
                return by_http1(self.kept, self.host, self.path)
            self.kept.close()
        self.kept = connect(self.host, "http/1.1")
        return by_http1(self.kept, self.host, self.path)


def load(host: str, path: str) -> dict[str, object]:
    """Ask until standard input ends."""
    end = threading.Event()
    clients = [Client(host, path, how, end) for how in ("HTTP/2", "new", "kept")]
    for client in clients:
        client.start()
    sys.stdin.read()
    end.set()
    for client in clients:
        client.join()
    return {
        "requests": {client.how: client.requests for client in clients},
        "failed": [failed for client in clients for failed in client.failed],
    }


def ask(host: str, path: str, fields: Fields) -> tuple[int, str]:
    """Return status and body of a request by alice; 0 and why, where it is refused."""
    try:
        code, body = by_http2(host, path, [LOGIN, *fields])
    except ConnectionError as error:
        return 0, str(error)
    return code, body.decode(errors="replace")


def main(what: str, host: str, path: str) -> None:
    if what == "load":
        print(json.dumps(load(host, path)))
    else:
        print(json.dumps([ask(host, path, fields) for fields in json.load(sys.stdin)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
