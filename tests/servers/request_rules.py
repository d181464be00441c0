"""Rules of what a request is, as rows: see `rules`."""

from tests.servers.peers import PROTOCOLS, FastCgi, Request, record
from tests.servers.rules import Bytes, Rule

CGI_LIKE = ("scgi", "fastcgi", "uwsgi")
GET = {"CONTENT_LENGTH": "", "REQUEST_METHOD": "GET"}


def http(*lines: str) -> Bytes:
    """A request that only HTTP can express, or say wrongly."""
    return {"http": "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")}


def cgi(body: bytes = b"", **variables: str) -> Bytes:
    """A request of these variables, which a front sends and no client."""
    given = {**GET, **variables}
    ends = {"fastcgi": (record(5, body) if body else b"") + record(5, b"")}
    return {name: PROTOCOLS[name].header(given) + ends.get(name, body) for name in CGI_LIKE}


def role(number: int) -> Bytes:
    """A FastCGI request in another role than the responder's."""
    begin, rest = 16, FastCgi().encode(Request("/environ"))
    return {"fastcgi": record(1, bytes((0, number, 0, 0, 0, 0, 0, 0))) + rest[begin:]}


REQUEST_RULES = [
    *(
        Rule(f"Host {host!r} is no host", "RFC 9112, 3.2", Request("/environ", host=host), 400)
        for host in ("a b", "h@evil", "h/p?q", "a:b", "evil.example, a.test")
    ),
    Rule("the absolute form needs Host", "RFC 9112, 3.2", http("GET http://a.test/ HTTP/1.1"), 400),
    Rule(
        "the absolute form outranks Host",
        "RFC 9112, 3.2.2",
        http("GET http://a.test/environ HTTP/1.1", "Host: evil.example", "Connection: close"),
        environ={"HTTP_HOST": "a.test", "PATH_INFO": "/environ"},
    ),
    *(
        Rule(f"the method {name} is not known", "RFC 9110, 9.1", Request("/", name), 501)
        for name in ("FOO", "get", "delete", "VERSION-CONTROL")
    ),
    *(
        Rule(
            f"HTTP/{version} is not spoken",
            "RFC 9110, 15.6.6",
            http(f"GET / HTTP/{version}", "Host: a"),
            505,
        )
        for version in ("2.15", "1.2", "3.0")
    ),
    Rule(
        "what begins no protocol is answered in HTTP",
        "RFC 9112, 2.2",
        {"http": b"\x16\x03\x01\x02\x00\x01\x00"},
        400,
    ),
    Rule(
        "a target may have bytes beyond ASCII",
        "RFC 3875, 4.1.5",
        {
            **cgi(PATH_INFO="/environ/\xc3\xa4", REQUEST_URI="/environ/\xc3\xa4"),
            **http("GET /environ/\xc3\xa4 HTTP/1.1", "Host: a", "Connection: close"),
        },
        environ={"PATH_INFO": "/environ/\xc3\xa4"},
    ),
    Rule(
        "a body that is decoded is not chunked",
        "RFC 3875, 4.1.2 and 4.1.18",
        cgi(b"hello", PATH_INFO="/environ", CONTENT_LENGTH="5", HTTP_TRANSFER_ENCODING="chunked"),
        environ={"HTTP_TRANSFER_ENCODING": None, "CONTENT_LENGTH": "5"},
    ),
    Rule(
        "a path that is absent is the target's",
        "RFC 3875, 4.1.5",
        cgi(SCRIPT_NAME="/environ/a b", DOCUMENT_URI="/environ/a b", REQUEST_URI="/environ/a%20b"),
        environ={"PATH_INFO": "/environ/a b", "SCRIPT_NAME": ""},
    ),
    *(
        Rule(
            f"a mount {mount!r} is no path",
            "RFC 3875, 4.1.13",
            cgi(SCRIPT_NAME=mount, PATH_INFO="/environ"),
            400,
        )
        for mount in ("//evil.example", "/a?b", "/a/../b", "/a\x01")
    ),
    *(
        Rule(f"FastCGI role {number} is not played", "FastCGI 1.0, 5.5", role(number), 501)
        for number in (2, 3)
    ),
]
