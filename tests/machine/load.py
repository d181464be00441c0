"""Keep asking a site for a page, over a unix socket or nginx, and say what became of every request.

    python load.py PROTOCOL ADDRESS CLIENTS SECONDS PAUSE

PROTOCOL is scgi, fastcgi, uwsgi or http; ADDRESS the socket's path, HOST:PORT, or a port on
127.0.0.1.
Runs inside the machine, with nothing but the standard library, until SECONDS have passed or its
standard input ends. Each client pauses up to PAUSE seconds after a request. Prints one JSON object:
requests, failed, longest (seconds), wrong (examples).

A client does what a front does: it keeps an http or fastcgi connection for its next request, and
where such a connection turns out to have been closed before a byte of the answer has come, asks
again on a new one.
"""

import json
import random
import socket
import struct
import sys
import threading
import time

PAGE = b"Hello, world!"


def scgi() -> bytes:
    fields = ["CONTENT_LENGTH", "0", "SCGI", "1", "REQUEST_METHOD", "GET", "PATH_INFO", "/"]
    header = "".join(f"{field}\0" for field in fields).encode()
    return b"%d:%b," % (len(header), header)


def fastcgi() -> bytes:
    def record(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content

    pairs = [(b"REQUEST_METHOD", b"GET"), (b"PATH_INFO", b"/"), (b"CONTENT_LENGTH", b"0")]
    params = b"".join(bytes((len(n), len(v))) + n + v for n, v in pairs)
    begin = record(1, bytes((0, 1, 1, 0, 0, 0, 0, 0)))
    return begin + record(4, params) + record(4, b"") + record(5, b"")


def uwsgi() -> bytes:
    fields = [b"REQUEST_METHOD", b"GET", b"PATH_INFO", b"/"]
    packed = b"".join(struct.pack("<H", len(field)) + field for field in fields)
    return struct.pack("<BHB", 0, len(packed), 0) + packed


def http() -> bytes:
    return b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


REQUESTS = {"scgi": scgi(), "fastcgi": fastcgi(), "uwsgi": uwsgi(), "http": http()}
# How the answer's end is told on a connection that stays; the others end with it
ENDS = {"fastcgi": struct.pack(">BBHHBx", 1, 3, 1, 8, 0) + bytes(8), "http": PAGE}


class Client(threading.Thread):
    def __init__(
        self, protocol: str, address: str, until: float, gone: threading.Event, pause: float
    ) -> None:
        super().__init__(daemon=True)
        self.request = REQUESTS[protocol]
        self.end = ENDS.get(protocol)
        self.address = address
        self.until = until
        self.gone = gone
        self.pause = pause
        self.connection: socket.socket | None = None
        self.requests = self.failed = 0
        self.longest = 0.0
        self.wrong: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self.until and not self.gone.is_set():
            began = time.monotonic()
            self.requests += 1
            try:
                answer = self.ask()
            except OSError as error:
                answer = repr(error).encode()
            if PAGE not in answer:
                self.failed += 1
                self.wrong.append(repr(answer[:200]))
                self.drop()
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(random.uniform(0, self.pause))

    def connect(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        if port.isdigit():
            return socket.create_connection((host or "127.0.0.1", int(port)), timeout=60)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(self.address)
        return connection

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def ask(self) -> bytes:
        for kept in (self.connection is not None, False):
            if self.connection is None:
                self.connection = self.connect()
            try:
                self.connection.sendall(self.request)
                answer = self.answer(self.connection)
            except ConnectionError:
                answer = b""
            if self.end is None or self.end not in answer or b"Connection: close" in answer:
                self.drop()
            if answer or not kept:
                return answer
        return b""

    def answer(self, connection: socket.socket) -> bytes:
        answer = b""
        while data := connection.recv(65536):
            answer += data
            if self.end is not None and self.end in answer:
                break
            if answer.startswith(b"HTTP/1.1 5") and b"\r\n\r\n" in answer:
                break  # a front's own error page: its length does not matter
        return answer


def main(protocol: str, address: str, clients: str, seconds: str, pause: str) -> None:
    gone = threading.Event()
    until = time.monotonic() + float(seconds)
    crowd = [Client(protocol, address, until, gone, float(pause)) for _ in range(int(clients))]
    for client in crowd:
        client.start()

    def listen() -> None:
        sys.stdin.read()
        gone.set()

    threading.Thread(target=listen, daemon=True).start()
    for client in crowd:
        client.join()
    found = {
        "requests": sum(client.requests for client in crowd),
        "failed": sum(client.failed for client in crowd),
        "longest": max(client.longest for client in crowd),
        "wrong": [wrong for client in crowd for wrong in client.wrong][:5],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
