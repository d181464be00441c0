"""Parse SCGI requests.

    70:CONTENT_LENGTH\\0 27\\0 SCGI\\0 1\\0 REQUEST_METHOD\\0 POST\\0 … ,<27 bytes of body>

There is one request per connection; the response has CGI's form and ends with the connection. The
specification is https://python.ca/scgi/protocol.txt (2006). Netstrings are D. J. Bernstein's
(1997): decimal digits without leading zeros, a colon, the bytes, a comma.
"""

from sdactivate.servers.native.wire import Malformed, TooLarge, Variables, joined

# "999999999:" is far beyond any limit: a longer length is refused without reading more.
_LONGEST_LENGTH = 9


def parse(data: bytes | bytearray, limit: int) -> tuple[Variables, int] | None:
    """Read the header of a request from its first bytes, `data`.

    Returns the variables (latin-1, as PEP 3333 requires) and the offset at which the body begins;
    None while the header is not complete. `limit` is the most bytes the header block may have.
    Raises Malformed, or TooLarge for one over the limit.
    """
    colon = data.find(b":", 0, _LONGEST_LENGTH + 1)
    digits = data[:colon] if colon >= 0 else data[: _LONGEST_LENGTH + 1]
    if not digits.isdigit() or digits[0] == 0x30 or len(digits) > _LONGEST_LENGTH:
        if not data:
            return None
        raise Malformed("SCGI: the header's length is not a decimal number and a colon")
    if colon < 0:
        return None
    if int(digits) > limit:
        raise TooLarge(f"SCGI: the header has over {limit} bytes")
    end = colon + 1 + int(digits)
    if len(data) <= end:
        return None
    if data[end] != 0x2C:
        raise Malformed("SCGI: no comma after the header")
    if data[end - 1]:
        raise Malformed("SCGI: the header does not end with NUL")
    fields = data[colon + 1 : end - 1].decode("latin-1").split("\0")
    pairs = iter(fields)
    try:
        variables = dict(zip(pairs, pairs, strict=True))
    except ValueError:
        raise Malformed("SCGI: a name without a value") from None
    if len(variables) * 2 != len(fields):
        variables = joined(fields)
    return variables, end + 1
