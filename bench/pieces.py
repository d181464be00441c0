"""Clients that send each request in pieces: python -m bench.pieces ADDRESS PROTOCOL CLIENTS.

ADDRESS is a unix socket's path or a port of this host. The head, and two halves of the body, are
writes of their own with a pause between them. Connections are kept where the protocol has that. At
TERM every client finishes what it has begun, and the counts are printed as JSON:

requests: answered whole. again: sent on a new connection, because the kept one was closed or
refused the first byte, as any client of a kept connection must do. lost: by reason. hung: no answer
within ten seconds.
"""

import json
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from bench.apps import BODY
from bench.wire import PARAMS, fastcgi, http, scgi, uwsgi

PIECES = 2
PIECE = b"x" * 400
PAUSE_S = 0.001
PATIENCE_S = 10.0
KEPT = ("fastcgi", "http")


def request(protocol: str) -> tuple[bytes, bytes, bytes]:
    """The head, each piece of the body, and the end."""
    length = str(PIECES * len(PIECE))
    params = PARAMS | {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length}
    if protocol == "fastcgi":
        record = b"\1\5\0\1" + len(PIECE).to_bytes(2, "big") + b"\0\0" + PIECE
        whole = fastcgi(params)
        return whole[:-8], record, whole[-8:]
    return {"scgi": scgi, "uwsgi": uwsgi, "http": http}[protocol](params), PIECE, b""


def end_of_http(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if b"chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
    return bool(found) and len(body) >= int(length or b"1000000")


def end_of_fastcgi(data: bytes) -> bool:
    while len(data) >= 8:
        if data[1] == 3:
            return True
        data = data[8 + int.from_bytes(data[4:6], "big") + data[6] :]
    return False


ENDS: dict[str, Callable[[bytes], bool]] = {"fastcgi": end_of_fastcgi, "http": end_of_http}


class Client:
    """One client: a request after the other, with pauses that are mostly short."""

    def __init__(self, address: str, protocol: str, seed: int) -> None:
        self.address = address
        self.protocol = protocol
        self.head, self.piece, self.tail = request(protocol)
        self.counts: Counter[str] = Counter()
        self.sock: socket.socket | None = None
        self.random = random.Random(seed)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            reason = self.once()
            self.counts[reason] += 1
            if reason != "requests" or self.protocol not in KEPT:
                self.close()
            # Most ask again at once; some let the connection rest
            longest = 0.01 if self.random.random() < 0.9 else 0.3
            time.sleep(self.random.uniform(0, longest))
        self.close()

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def connect(self) -> socket.socket:
        tcp = self.address.isdigit()
        sock = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", int(self.address)) if tcp else self.address)
        return sock

    def once(self) -> str:
        """Send one request and read its answer; returns the count that it belongs to."""
        kept = self.sock is not None
        try:
            if self.sock is None:
                self.sock = self.connect()
            self.sock.sendall(self.head)
        except OSError:
            self.close()
            return "again" if kept else "lost: refused"
        try:
            for piece in self.pieces():
                self.sock.sendall(piece)
        except TimeoutError:
            return "hung"
        except OSError:
            return "lost: the body met a closed connection"
        return self.answer(self.sock)

    def pieces(self) -> Iterator[bytes]:
        for _ in range(PIECES):
            time.sleep(PAUSE_S)
            yield self.piece
        if self.tail:
            yield self.tail

    def answer(self, sock: socket.socket) -> str:
        data, ends = b"", ENDS.get(self.protocol)
        try:
            while not (ends and ends(data)):
                piece = sock.recv(65536)
                if not piece:
                    break
                data += piece
        except TimeoutError:
            return "hung"
        except OSError:
            return "lost: the answer was reset" if data else "lost: no answer"
        if BODY not in data or (ends and not ends(data)):
            status = data.partition(b"\r\n")[0][:40].decode("latin-1")
            return f"lost: {status}" if data else "lost: no answer"
        if self.protocol == "http" and b"Connection: close" in data:
            self.close()
        return "requests"


def main() -> None:
    address, protocol, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    stop = threading.Event()
    clients = [Client(address, protocol, seed) for seed in range(count)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total: Counter[str] = sum((client.counts for client in clients), Counter())
    print(json.dumps(total))


if __name__ == "__main__":
    main()
