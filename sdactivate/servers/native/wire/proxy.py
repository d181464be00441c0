"""Parse the PROXY protocol, versions 1 and 2.

    PROXY TCP4 192.0.2.1 192.0.2.2 47011 443\\r\\n            (version 1: a line)
    \\r\\n\\r\\n\\0\\r\\nQUIT\\n, version and command, family, length, addresses  (version 2)

The specification is haproxy's doc/proxy-protocol.txt.
"""

import ipaddress

from sdactivate.servers.native.wire import Malformed

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY "
# "PROXY UNKNOWN" with two of the longest addresses and ports (section 2.1)
_LONGEST_LINE = 107
_INET, _INET6 = 1, 2

Client = tuple[str, int]


def begins(data: bytes | bytearray) -> bool | None:
    """Whether `data`, the first bytes of a connection, begin a PROXY header.

    None if more bytes are needed: POST begins like PROXY, and an empty line, which may precede a
    request (RFC 9112, section 2.2), like version 2.
    """
    if data.startswith((SIGNATURE, LINE)):
        return True
    start = bytes(data[: len(SIGNATURE)])
    return None if SIGNATURE.startswith(start) or LINE.startswith(start) else False


def parse(data: bytes | bytearray) -> tuple[int, Client | None] | None:
    """Read the header at the beginning of `data`.

    Returns the offset after it and the client's address and port (None if the header has none: a
    health check, another family); returns None while the header is not complete. Raises Malformed.
    """
    if data[:1] == b"P":
        return _parse_line(data)
    return _parse_binary(data)


def _parse_line(data: bytes | bytearray) -> tuple[int, Client | None] | None:
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise Malformed("PROXY: the line has no CRLF within 107 bytes")
        return None
    words = data[:end].decode("latin-1").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return end + 2, None
    try:
        _, family, source, _, port, _ = words
        if ipaddress.ip_address(source).version != {"TCP4": 4, "TCP6": 6}[family]:
            raise ValueError
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError
        return end + 2, (source, int(port))
    except (KeyError, ValueError):
        raise Malformed("PROXY: the line can't be parsed") from None


def _parse_binary(data: bytes | bytearray) -> tuple[int, Client | None] | None:
    start = len(SIGNATURE) + 4
    if len(data) < start:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (0x20, 0x21):
        raise Malformed(f"PROXY: version and command 0x{command:02x} are unknown")
    end = start + length
    if len(data) < end:
        return None
    size = {_INET: 4, _INET6: 16}.get(family >> 4)
    if command == 0x20 or size is None:
        return end, None
    if length < 2 * size + 4:
        raise Malformed("PROXY: the addresses are truncated")
    port = int.from_bytes(data[start + 2 * size : start + 2 * size + 2], "big")
    return end, (str(ipaddress.ip_address(bytes(data[start : start + size]))), port)
