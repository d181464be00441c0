"""What tests and measurements ask of a server: pages that only copies of the example site have."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator

from django.conf import settings
from django.core.cache import cache
from django.core.signing import Signer
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.templatetags.static import static
from django.urls import get_script_prefix
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_POST


@csrf_exempt  # nothing is kept
@require_POST
def upload(request: HttpRequest) -> JsonResponse:
    """Say the size and the SHA-256 of what was sent: a form's file, or else the body itself."""
    file = None
    if request.content_type == "multipart/form-data":
        if (file := request.FILES.get("file")) is None:
            return JsonResponse({"error": "a field `file` with a file is wanted"}, status=400)
        chunks = file.chunks()
    else:
        chunks = iter(lambda: request.read(1 << 16), b"")
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return JsonResponse(
        {"name": file.name if file else None, "size": size, "sha256": digest.hexdigest()}
    )


@require_GET
def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Send ?lines= lines, one by one, ?ms= milliseconds apart."""
    lines = int(request.GET.get("lines", 10))
    pause = int(request.GET.get("ms", 0)) / 1000

    def body() -> Iterator[str]:
        for number in range(1, lines + 1):
            yield f"line {number}\n"
            if number < lines:
                time.sleep(pause)

    return StreamingHttpResponse(body(), content_type="text/plain")


@require_GET
def slow(request: HttpRequest) -> HttpResponse:
    """Answer after ?ms= milliseconds."""
    ms = int(request.GET.get("ms", 1000))
    time.sleep(ms / 1000)
    return HttpResponse(f"after {ms} ms\n", content_type="text/plain")


@require_GET
def gate(request: HttpRequest) -> StreamingHttpResponse:
    """Send a line, wait until /release?name= is asked for, send another; &unbuffered=: say so."""
    name = request.GET["name"]
    opened = _gates.setdefault(name, threading.Event())

    def body() -> Iterator[str]:
        yield "first\n"
        yield "second\n" if opened.wait(5) else "nobody came\n"
        _gates.pop(name, None)

    response = StreamingHttpResponse(body(), content_type="text/plain")
    if "unbuffered" in request.GET:
        response["X-Accel-Buffering"] = "no"
    return response


_gates: dict[str, threading.Event] = {}


@require_GET
def release(request: HttpRequest) -> HttpResponse:
    """Open the gate of ?name=."""
    _gates[request.GET["name"]].set()
    return HttpResponse("open\n", content_type="text/plain")


@require_GET
def large(request: HttpRequest) -> StreamingHttpResponse:
    """Send ?bytes= bytes; &name=: a name by which /finished knows when the last has been taken."""
    left = int(request.GET["bytes"])

    def body() -> Iterator[bytes]:
        for _ in range(left >> 16):
            yield b"0123456789abcdef" * 4096
        _finished.add(request.GET.get("name", ""))

    return StreamingHttpResponse(body(), content_type="application/octet-stream")


_finished: set[str] = set()


@require_GET
def finished(request: HttpRequest) -> JsonResponse:
    """Say whether /large?name= or /first?name= has come to its end."""
    return JsonResponse({"finished": request.GET["name"] in _finished})


@require_GET
def heads(request: HttpRequest) -> HttpResponse:
    """Answer with ?fields= fields of &bytes= bytes, and say how long those of the request are."""
    size = int(request.GET["bytes"])
    response = JsonResponse({"received": sum(map(len, request.headers.values()))})
    for number in range(int(request.GET["fields"])):
        response.set_cookie(f"c{number}", "x" * (size - len(f"Set-Cookie: c{number}=; Path=/\r\n")))
    return response


@csrf_exempt
def first(request: HttpRequest) -> JsonResponse:
    """Answer when the first byte of the body is there, which /finished?name= knows then."""
    response = JsonResponse({"first": len(request.read(1))})
    _finished.add(request.GET["name"])
    return response


@csrf_protect
def form(request: HttpRequest) -> JsonResponse:
    """Return a token for a form; take the form, if its origin is the site's own."""
    return JsonResponse({"token": get_token(request), "secure": request.is_secure()})


@csrf_exempt
def status(request: HttpRequest) -> HttpResponse:
    """Answer with ?code= at once, without a look at what was sent."""
    return HttpResponse(status=int(request.GET["code"]))


@csrf_exempt
@require_POST
def use(request: HttpRequest) -> JsonResponse:
    """Use all that a site has: its database, state, cache, secret key and mail; say how it went."""
    from django.core.mail import send_mail  # only here is the time spent to import it

    with connection.cursor() as cursor:
        cursor.execute("SELECT 6 * 7" if connection.vendor == "sqlite" else "SELECT current_user")
        database = [connection.vendor, cursor.fetchone()[0]]
    state = settings.STATE_DIR / "used"
    with state.open("a") as file:
        file.write("x")
    cache.add("used", 0)
    sent = send_mail(request.POST["subject"], "sent by the site", None, [request.POST["to"]])
    return JsonResponse(
        {
            "database": database,
            "state": len(state.read_text()),
            "cache": cache.incr("used"),
            "signed": Signer().sign("mysite"),
            "mail": sent,
        }
    )


def environ(request: HttpRequest) -> JsonResponse:
    """Show the request as the application gets it, and as whom the application runs."""
    return JsonResponse(
        {
            "process": {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()},
            "secure": request.is_secure(),
            "host": request.get_host(),
            "uri": request.build_absolute_uri(),
            "prefix": get_script_prefix(),
            "static": static("guestbook/style.css"),
            "environ": {k: v for k, v in request.META.items() if isinstance(v, str | bool | tuple)},
        }
    )
