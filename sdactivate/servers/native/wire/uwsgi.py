"""Parse uwsgi requests.

    modifier1 (u8) | size (u16, little-endian) | modifier2 (u8) | vars | body
    vars: length (u16) name length (u16) value …

Modifier1 0 is a WSGI request; 100 is a ping, answered with 100, modifier2 1 and no vars. There is
one request per connection; the response has CGI's form with an HTTP status line, and ends with the
connection. See https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html.
"""

from sdactivate.servers.native.wire import Joined, Malformed, TooLarge, Variables

WSGI = 0
PING = 100
PONG = b"\x64\x00\x00\x01"


def parse(data: bytes | bytearray, limit: int) -> tuple[Variables, int] | None:
    """Read the vars of a request from its first bytes, `data`.

    Returns the variables (latin-1) and the offset at which the body begins; None while they are not
    complete; an empty dictionary for a ping. `limit` is the most bytes the vars may have. Raises
    Malformed, or TooLarge for a packet over the limit.
    """
    if len(data) < 4:
        if data and data[0] not in (WSGI, PING):
            raise Malformed(f"uwsgi: modifier1 {data[0]} is not served here, only 0 (WSGI)")
        return None
    modifier1, size = data[0], data[1] | data[2] << 8
    if modifier1 == PING:
        if data[:4].isalpha():  # "dele": a ping begins with the letter d
            raise Malformed("HTTP: a method that begins with d", "501 Not Implemented")
        return {}, 4
    if modifier1 != WSGI:
        raise Malformed(f"uwsgi: modifier1 {modifier1} is not served here, only 0 (WSGI)")
    if not size:
        raise Malformed("uwsgi: a request without vars")
    if size > limit:
        raise TooLarge(f"uwsgi: the vars have over {limit} bytes")
    end = 4 + size
    if len(data) < end:
        return None
    variables: Variables = {}
    if _read(data, end, variables) != len(variables):
        repeated = Joined()
        _read(data, end, repeated)
        variables = repeated.plain()
    return variables, end


def _read(data: bytes | bytearray, end: int, into: Variables) -> int:
    """Put the vars before the offset `end` into a dictionary, and return their number."""
    # Decode everything once; slicing the text is faster than decoding each value
    text = data[:end].decode("latin-1")
    count = 0
    at = 4
    try:
        while at < end:
            start = at + 2
            # (most lengths are below 256, and even adding zero takes time)
            high = data[at + 1]
            middle = start + (data[at] | high << 8 if high else data[at])
            high = data[middle + 1]
            at = middle + 2 + (data[middle] | high << 8 if high else data[middle])
            into[text[start:middle]] = text[middle + 2 : at]
            count += 1
    except IndexError:
        raise Malformed("uwsgi: the vars end inside a name or before its value") from None
    if at != end:
        raise Malformed("uwsgi: a value reaches beyond the vars")
    return count
