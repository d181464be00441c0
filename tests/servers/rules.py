"""Rules of HTTP, CGI and WSGI as bytes: what is sent, where it is written, the right answer.

A row is one rule. `ask` is a request that every protocol can express, or the bytes themselves by
protocol where only some can. The application is that of the path in `rule_applications`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.servers.peers import Request

Bytes = Mapping[str, bytes]


@dataclass(frozen=True)
class Rule:
    """One rule.

    section: the document and the place in it. status, body, has, lacks: the answer's, its fields
    that must be there and those that must not. environ: variables that the application gets, None:
    not at all (ask for /environ). logged: what stands in the log, as a regular expression.
    body None: any, where the answer is one of the server's own.
    """

    name: str
    section: str
    ask: Request | Bytes
    status: int = 200
    body: bytes | None = None
    has: Mapping[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    environ: Mapping[str, str | None] = field(default_factory=dict)
    logged: str = ""


def get(path: str, query: str = "", method: str = "GET", body: bytes = b"") -> Request:
    """A request that may be followed by another one where the protocol can."""
    return Request(path, method, query, body=body, keep=True)


RULES = [
    # The environ is the application's (PEP 3333)
    Rule(
        "HEAD has no body though the application makes it a GET",
        "RFC 9110, 9.3.2; PEP 3333, environ Variables",
        get("/becomes", "GET", "HEAD"),
        body=b"",
    ),
    Rule(
        "POST has its body though the application makes it a HEAD",
        "RFC 9112, 6.3; PEP 3333, environ Variables",
        get("/becomes", "HEAD", "POST", b"hello"),
        body=b"became HEAD",
    ),
    Rule(
        "an application may clear its environ",
        "PEP 3333, environ Variables",
        get("/cleared"),
        body=b"cleared",
    ),
]
