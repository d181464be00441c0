"""The client of tests/machine/test_front_files.py: asks a front for files, from inside the machine.

    files_client.py MOUNT

Prints, as JSON, an outcome for each check: "ok", or a few words on what came instead. The standard
library only; a path is sent as it is written here. With a mount everybody has to log in.
"""

import base64
import contextlib
import gzip
import http.client
import json
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

STYLE = "body { color: green }\n" * 50
SECRET = "only the application lets this out\n" * 20
OUTSIDE = "outside of every directory\n"
UMLAUT = "Rechnung ü 100% #1?.txt"
FIELDS = ("X-Accel-Redirect", "X-Sendfile", "X-LIGHTTPD-send-file", "X-Sendfile2")


class Answer(NamedTuple):
    """A response, whole."""

    status: int
    fields: dict[str, str]
    """By name in lower case; several of one name are joined (RFC 9110, section 5.3)."""
    body: bytes

    @property
    def kept(self) -> set[str]:
        """The directives of Cache-Control."""
        return set(filter(None, self.fields.get("cache-control", "").replace(" ", "").split(",")))


class Unexpected(Exception):
    """The outcome, where it is not "ok"."""


def expect(found: object, wanted: object, what: str = "") -> None:
    """Raise Unexpected with what was found where it is not what was wanted."""
    if found != wanted:
        raise Unexpected(f"{what + ': ' if what else ''}{found}")


class Client:
    """Asks one site."""

    def __init__(self, mount: str) -> None:
        self.mount = mount
        login = base64.b64encode(b"alice:secret").decode()
        self.login = {"Authorization": f"Basic {login}"} if mount else {}

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **fields: str
    ) -> Answer:
        """Send a request; `fields` are header fields, with _ for -."""
        connection = self.connect()
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        sent = {"Host": "a.test", **self.login, **fields}
        if body is not None:
            sent["Content-Length"] = str(len(body))
        for name, value in sent.items():
            if value:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        response = connection.getresponse()
        found: dict[str, str] = {}
        for name, value in response.getheaders():
            name = name.lower()
            found[name] = f"{found[name]}, {value}" if name in found else value
        answer = Answer(response.status, found, response.read())
        connection.close()
        return answer

    @staticmethod
    def connect() -> http.client.HTTPConnection:
        """Return a connection to the front, which may still be starting."""
        connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
        for _ in range(100):
            with contextlib.suppress(ConnectionRefusedError):
                connection.connect()
                break
            time.sleep(0.1)
        return connection

    def file(self, name: str, method: str = "GET", more: str = "", **fields: str) -> Answer:
        """Ask the application for a protected file."""
        query = urllib.parse.urlencode({"name": name})
        body = b"" if method == "POST" else None
        return self.ask(f"{self.mount}/file?{query}{more}", method, body, **fields)

    # -- static files ----------------------------------------------------------------------

    def static(self, name: str, **fields: str) -> Answer:
        return self.ask(f"{self.mount}/static/{name}", "GET", None, **fields)

    def hashed(self) -> None:
        for name in ("style.0123456789ab.css", "deep/er/pic.min.0123456789ab.svg"):
            answer = self.static(name)
            expect(answer.status, 200)
            expect(answer.kept - {"public", "private"}, {"max-age=31536000", "immutable"})

    def other(self) -> None:
        for name in ("style.css", "style.0123456789AB.css", "style.0123456789abc.css"):
            answer = self.static(name)
            expect(answer.status, 200)
            expect(answer.kept - {"private"}, {"max-age=300"})

    def scope(self) -> None:
        """What everybody has to log in for, no shared cache keeps; other files it may."""
        for name in ("static/style.0123456789ab.css", "static/style.css", "media/page.html"):
            kept = self.ask(f"{self.mount}/{name}").kept & {"private", "public"}
            hashed = "0123456789ab" in name
            expect(kept, {"private"} if self.mount else {"public"} if hashed else set(), name)

    def missing(self) -> None:
        answer = self.static("none.0123456789ab.css")
        expect(answer.status, 404)
        expect(answer.fields.get("cache-control"), None)

    def compressed(self, asked: str, coding: str) -> None:
        for name, kind in (
            ("style.css", "text/css"),
            ("style.0123456789ab.css", "text/css"),
            ("deep/er/pic.min.0123456789ab.svg", "image/svg+xml"),
            ("app.js", "javascript"),
        ):
            answer = self.static(name, Accept_Encoding=asked)
            expect(answer.status, 200)
            expect(answer.fields.get("content-encoding", "as it is"), coding)
            expect(kind in answer.fields["content-type"], True, answer.fields["content-type"])
            if coding == "gzip":
                expect(gzip.decompress(answer.body).decode(), STYLE)
            else:
                expect(answer.body, b"brotli of " + name.encode())

    def by_gzip(self) -> None:
        self.compressed("gzip, deflate", "gzip")
        plain, packed = self.static("style.css"), self.static("style.css", Accept_Encoding="gzip")
        expect(plain.body.decode(), STYLE)
        expect(plain.fields.get("content-encoding"), None)
        for answer in (plain, packed):
            expect("accept-encoding" in answer.fields.get("vary", "").lower(), True, "Vary")
        expect(plain.fields["etag"] != packed.fields["etag"], True, "one ETag for both")
        expect(packed.kept, plain.kept)
        # Neither what is not there, nor what is compressed as such
        alone = self.static("alone.css", Accept_Encoding="gzip")
        expect(alone.status, 200)
        both = self.static("style.css.gz")
        expect(both.fields.get("content-encoding") in (None, "gzip"), True)

    def by_brotli(self) -> None:
        self.compressed("gzip, br", "br")

    def unchanged(self) -> None:
        for coding in ("", "gzip"):
            first = self.static("style.css", Accept_Encoding=coding)
            again = self.static(
                "style.css", Accept_Encoding=coding, If_None_Match=first.fields["etag"]
            )
            expect((again.status, again.body), (304, b""), f"by ETag, {coding}")
            expect(again.kept, first.kept, "304 without Cache-Control")
            since = self.static(
                "style.css", Accept_Encoding=coding, If_Modified_Since=first.fields["last-modified"]
            )
            expect((since.status, since.body), (304, b""), f"by date, {coding}")

    def ranges(self) -> None:
        answer = self.static("style.css", Range="bytes=5-9")
        expect((answer.status, answer.body.decode()), (206, STYLE[5:10]))

    # -- media -----------------------------------------------------------------------------

    def media(self) -> None:
        for name in ("page.html", "style.0123456789ab.css"):
            answer = self.ask(f"{self.mount}/media/{name}", Accept_Encoding="gzip")
            expect(answer.status, 200)
            expect(answer.fields.get("x-content-type-options"), "nosniff")
            expect(answer.kept - {"private"}, {"max-age=300"})
        expect(self.ask(f"{self.mount}/media/none").fields.get("cache-control"), None)
        expect("x-content-type-options" in self.static("style.css").fields, False, "all nosniff")

    def media_link(self) -> None:
        expect(self.ask(f"{self.mount}/link").body, b"made")
        answer = self.ask(f"{self.mount}/media/link.txt")
        expect(OUTSIDE.encode() in answer.body, False, "followed")

    # -- protected files -------------------------------------------------------------------

    def let_out(self) -> None:
        for method in ("GET", "POST"):
            answer = self.file("secret.txt", method)
            expect((answer.status, answer.body.decode()), (200, SECRET), method)
            expect(int(answer.fields.get("content-length", len(SECRET))), len(SECRET), "length")
            expect(answer.fields["content-type"].partition(";")[0], "text/plain")
            expect(answer.kept, {"private", "no-cache"})
            expect(answer.fields["x-content-type-options"], "nosniff")
            expect(bool(answer.fields["last-modified"] and answer.fields["etag"]), True)
            expect([name for name in FIELDS if name.lower() in answer.fields], [], "passed on")
        expect(self.file("none.txt").status, 404)
        expect(self.file("empty.txt").body, b"")

    def head(self) -> None:
        answer = self.file("secret.txt", "HEAD")
        expect((answer.status, answer.body), (200, b""))
        expect(answer.fields.get("content-length"), str(len(SECRET)), "length")

    def part(self) -> None:
        answer = self.file("secret.txt", Range="bytes=5-9")
        expect((answer.status, answer.body.decode()), (206, SECRET[5:10]))

    def not_changed(self) -> None:
        first = self.file("secret.txt")
        again = self.file("secret.txt", If_None_Match=first.fields["etag"])
        expect((again.status, again.body), (304, b""), "by ETag")
        other = self.file("empty.txt", If_None_Match=first.fields["etag"])
        expect(other.status, 200, "another file")
        since = self.file("secret.txt", If_Modified_Since=first.fields["last-modified"])
        expect((since.status, since.body), (304, b""), "by date")

    def saved(self) -> None:
        answer = self.file(UMLAUT, more="&save=1")
        expect((answer.status, answer.body), (200, UMLAUT.encode()))
        name = urllib.parse.quote(UMLAUT)
        expect(answer.fields["content-disposition"], f"attachment; filename*=utf-8''{name}")

    def directly(self) -> None:
        places = (
            *("/protected/secret.txt", "//protected/secret.txt", "/protected//secret.txt"),
            *("/%70rotected/secret.txt", "/protected%2Fsecret.txt", "/protected/%2e/secret.txt"),
            *("/x/../protected/secret.txt", "/x/%2e%2e/protected/secret.txt", "/./protected/a"),
            *("/x/..%2Fprotected/secret.txt", "/protected/..%2fprotected%2fsecret.txt"),
            "/PROTECTED/secret.txt",
        )
        inside = ("static", "media")
        climbs = ("..", "%2e%2e", "..%2f..", "..%5c..", "%252e%252e", "....//..", "..;")
        targets = ("files-protected/secret.txt", "../srv/files-protected/secret.txt")
        paths = [prefix + place for prefix in {"", self.mount} for place in places]
        paths += [
            f"{self.mount}/{one}{slash}{climb}/{target}"
            for one in inside
            for slash in ("/", "")
            for climb in climbs
            for target in targets
        ]
        for path in paths:
            for asked in (path, f"http://a.test{path}"):
                answer = self.ask(asked)
                expect(SECRET.encode() in answer.body, False, f"{asked}: {answer.status}")
        statuses = {self.ask("/protected/secret.txt").status, self.ask("/protected/none").status}
        expect(statuses <= {403, 404} and len(statuses) == 1, True, f"{statuses}")

    def outside(self) -> None:
        values = (
            *("/srv/outside.txt", "/srv/files-protected/../outside.txt", "/etc/hostname"),
            *("/protected/../outside.txt", "/protected/%2e%2e/outside.txt", "../outside.txt"),
            *("/protected/..%2foutside.txt", "/srv/files-protected/%2e%2e/outside.txt"),
            *("/srv/files-protected-too/outside.txt", "/protected-too/outside.txt"),
            *("/srv/files-protected", "/protected", "/protected/", "outside.txt"),
        )
        for field in FIELDS:
            for value in values:
                query = urllib.parse.urlencode({field: value})
                answer = self.ask(f"{self.mount}/say?{query}")
                expect(OUTSIDE.encode() in answer.body, False, f"{field}: {value}")
                expect(b"machine" in answer.body, False, f"{field}: {value}")

    def file_link(self) -> None:
        expect(self.ask(f"{self.mount}/link").body, b"made")
        answer = self.file("link.txt")
        expect(OUTSIDE.encode() in answer.body, False, "followed")

    def clients_field(self) -> None:
        for field in FIELDS:
            for value in ("/protected/secret.txt", "/srv/files-protected/secret.txt"):
                name = field.replace("-", "_")
                answer = self.ask(f"{self.mount}/", "GET", None, **{name: value})
                expect((answer.status, answer.body), (200, b"the site"), field)

    def login_needed(self) -> None:
        if not self.mount:
            return
        self.login = {}
        for path in (
            "static/style.css",
            "static/style.0123456789ab.css",
            "media/page.html",
            "file",
        ):
            expect(self.ask(f"{self.mount}/{path}").status, 401, path)


def checks(client: Client) -> dict[str, Callable[[], None]]:
    """Every check of one configuration, by name."""
    return {
        "kept for a year where hashed": client.hashed,
        "kept for five minutes": client.other,
        "shared caches": client.scope,
        "an error is not kept": client.missing,
        "gzip": client.by_gzip,
        "brotli": client.by_brotli,
        "304": client.unchanged,
        "ranges": client.ranges,
        "media": client.media,
        "media: links": client.media_link,
        "let out": client.let_out,
        "let out: HEAD": client.head,
        "let out: ranges": client.part,
        "let out: 304": client.not_changed,
        "let out: names": client.saved,
        "let out: links": client.file_link,
        "not directly": client.directly,
        "not outside": client.outside,
        "client's own field": client.clients_field,
        "login": client.login_needed,
    }


def outcome(check: Callable[[], None]) -> str:
    """Return "ok", or what came instead."""
    try:
        check()
    except Unexpected as found:
        return str(found)
    except (OSError, http.client.HTTPException, KeyError) as error:
        return repr(error)
    return "ok"


def main(argv: Iterable[str]) -> dict[str, Any]:
    """Return the outcome of each check."""
    (mount,) = argv
    return {name: outcome(check) for name, check in checks(Client(mount)).items()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
