"""Rules of HTTP, CGI and WSGI as bytes: what is sent, where it is written, the right answer.

A row is one rule. `ask` is a request that every protocol can express, or the bytes themselves by
protocol where only some can. The application is that of the path in `rule_applications`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.servers.peers import Request
from tests.servers.rule_applications import CONTENT

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


def answering(status: str, *headers: tuple[str, str], method: str = "GET") -> Request:
    """A request that the application answers with this status and these headers."""
    return get("/answers", quote(json.dumps([status, headers])), method)


def refused(name: str, section: str, ask: Request, logged: str) -> Rule:
    """A rule about an answer that must not be sent."""
    return Rule(name, section, ask, 500, b"500 Internal Server Error\n", {}, ("X-A",), {}, logged)


CONTENT_LENGTH = ("Content-Length", "5")

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
    # What start_response takes
    *(
        refused(
            f"status {status} is not an application's", "RFC 9110, 15.2", answering(status), why
        )
        for status, why in [
            ("100 Continue", "'100 Continue' is not that of a final response"),
            ("101 Switching Protocols", "'101 Switching Protocols' is not"),
            ("199 Unknown", "'199 Unknown' is not"),
            ("099 Less", "'099 Less' is not"),
        ]
    ),
    *(
        refused(
            f"status {status!r} is no status", "PEP 3333, start_response()", answering(status), why
        )
        for status, why in [
            ("OK", "the status must be a str like '200 OK', not 'OK'"),
            ("2000 OK", "not '2000 OK'"),
            ("20", "not '20'"),
            ("\u0662\u0660\u0660 OK", "the status must be"),
            ("200 \u20ac", "characters that a status must not have"),
            ("200 a\tb\x7f", "characters that a status must not have"),
        ]
    ),
    Rule(
        "a status without a reason has its space",
        "RFC 9112, 4; RFC 3875, 6.3.3",
        answering("200"),
        body=b"hello",
    ),
    *(
        refused(
            f"header {name!r} is no field", "RFC 9110, 5.6.2", answering("200 OK", (name, "b")), why
        )
        for name, why in [
            ("", "response header '': the name must be a token"),
            ("X A", "response header 'X A'"),
            ("X-A:", "response header 'X-A:'"),
            ("X-A\t", r"response header 'X-A\\t'"),
            ("X-\xe4", "response header 'X-\xe4'"),
            ("(X)", r"response header '\(X\)'"),
        ]
    ),
    *(
        refused(
            f"the value {value!r} is no field's",
            "RFC 9110, 5.5",
            answering("200 OK", ("X-A", value)),
            why,
        )
        for value, why in [
            ("a\nb", r"response header 'X-A': the value 'a\\nb' has the control character"),
            ("a\rb", r"response header 'X-A': the value 'a\\rb' has"),
            ("a\0b", r"response header 'X-A': the value 'a\\x00b' has"),
            ("a\x1bb", r"response header 'X-A': the value 'a\\x1bb' has"),
            ("a\x7fb", r"response header 'X-A': the value 'a\\x7fb' has"),
            ("a\u20acb", "response header 'X-A': the value 'a.+b' has characters outside latin-1"),
        ]
    ),
    *(
        Rule(
            f"the value {value!r} is a field's",
            "RFC 9110, 5.5",
            answering("200 OK", ("X-A", value)),
            body=b"hello",
            has={"X-A": value},
        )
        for value in ["a\tb", "a \xa0\xad\xe4 b", "", "a" * 2000]
    ),
    refused(
        "a header's value is a str",
        "PEP 3333, start_response()",
        answering("200 OK", ("X-A", 5)),  # type: ignore[arg-type]
        "response header 'X-A': the value must be a str, not 5",
    ),
    refused(
        "two lengths that differ",
        "RFC 9110, 8.6",
        answering("200 OK", CONTENT_LENGTH, ("content-length", "6")),
        "Content-Length: 6 after another one: 5",
    ),
    Rule(
        "one length that comes twice goes out once",
        "RFC 9110, 8.6",
        answering("200 OK", CONTENT_LENGTH, ("content-length", "5")),
        body=b"hello",
        has={"Content-Length": "5"},
    ),
    *(
        refused(
            f"the length {value!r} is no number",
            "RFC 9110, 8.6",
            answering("200 OK", ("Content-Length", value)),
            "is not a number of bytes|outside latin-1",
        )
        for value in ["", "-1", "+5", "5, 5", "\xb2", "\u0665", "0x5", " 5"]
    ),
    refused(
        "204 with a length",
        "RFC 9110, 8.6",
        answering("204 No Content", CONTENT_LENGTH),
        "Content-Length: 5, but a response with status 204 No Content has no body",
    ),
    Rule(
        "204 has no Content-Length, which frameworks set to 0",
        "RFC 9110, 8.6",
        answering("204 No Content", ("Content-Length", "0")),
        204,
        b"",
        lacks=("Content-Length", "Transfer-Encoding"),
    ),
    Rule(
        "304 may have the length that 200 would have had",
        "RFC 9110, 8.6",
        answering("304 Not Modified", CONTENT_LENGTH),
        304,
        b"",
        has={"Content-Length": "5"},
        lacks=("Transfer-Encoding",),
    ),
    Rule(
        "304 does not say that 200 would have been empty",
        "RFC 9110, 8.6",
        answering("304 Not Modified", ("Content-Length", "0")),
        304,
        b"",
        lacks=("Content-Length", "Transfer-Encoding"),
    ),
    *(
        Rule(
            f"an application's {name} does not go out",
            "PEP 3333, Other HTTP Features",
            answering("200 OK", (name, "x"), ("X-A", "a")),
            body=b"hello",
            has={"X-A": "a"},
            lacks=(name,),
        )
        for name in ["Keep-Alive", "Upgrade", "TE", "Trailer", "Transfer-Encoding"]
    ),
    Rule(
        "a header called Status is not the status",
        "RFC 3875, 6.3.3; PEP 3333, start_response()",
        answering("200 OK", ("Status", "404 Not Found")),
        body=b"hello",
        lacks=("Status",),
    ),
    Rule(
        "the application hears of it in start_response",
        "PEP 3333, start_response()",
        get("/recovers"),
        409,
        b"heard: ValueError",
    ),
    Rule(
        "headers are the server's once they are given",
        "PEP 3333, start_response()",
        get("/changes_headers"),
        body=b"hello",
        has={"X-Here": "yes"},
        lacks=("X-Late", "X-Evil"),
    ),
    # Bodies
    *(
        Rule(
            f"a body of {kind} ({way})",
            "PEP 3333, Specification Details",
            get("/body", f"{kind},{way}"),
            body=b"hello",
        )
        for kind in ["bytes", "subclass", "bytearray", "memoryview", "array"]
        for way in ["only", "tuple", "two", "generator", "written"]
    ),
    *(
        refused(
            f"no body is of {kind} ({way})",
            "PEP 3333, A Note on String Types",
            get("/body", f"{kind},{way}"),
            f"expected a bytes-like object, {kind} found",
        )
        for kind in ["str", "int"]
        for way in ["only", "tuple", "two", "generator", "written"]
    ),
    *(
        Rule(
            f"no more than Content-Length, in pieces of {size}",
            "PEP 3333, Handling Content-Length",
            get("/overruns", str(size)),
            body=(b"0123456789"[:size] * 10)[:10],
        )
        for size in [1, 3, 5, 10]
    ),
    *(
        Rule(
            f"HEAD ends though the body has no end ({status})",
            "RFC 9110, 9.3.2",
            get("/endless", quote(status), "HEAD"),
            body=b"",
        )
        for status in ["200 OK"]
    ),
    *(
        Rule(
            f"{status} ends though the body has no end",
            "RFC 9110, 6.4.1",
            get("/endless", quote(status)),
            int(status[:3]),
            b"",
        )
        for status in ["204 No Content", "304 Not Modified"]
    ),
    # wsgi.file_wrapper: what read() gives
    *(
        Rule(
            f"a file: {kind}",
            "PEP 3333, Platform-Specific File Handling",
            get("/file", quote(kind)),
            body=body,
        )
        for kind, body in [
            ("gzip", CONTENT),
            ("gzip proxy", CONTENT),
            ("shouting", CONTENT.replace(b"0", b"O")),
            ("buffered shouting", None),
            ("plain", CONTENT[10:]),
            ("unbuffered", CONTENT[10:]),
            ("changing", CONTENT[10:]),
            ("appended", CONTENT[10:] + b"more"),
            ("proxy", CONTENT[10:]),
            ("named", CONTENT[10:]),
            ("pipe", CONTENT[:1000]),
            ("at its end", b""),
            ("pseudo", b"Linux\n"),
        ]
    ),
    *(
        refused(
            f"a file: {kind}",
            "PEP 3333, Platform-Specific File Handling",
            get("/file", quote(kind)),
            why,
        )
        for kind, why in [("write only", "UnsupportedOperation"), ("closed", "closed file")]
    ),
]
