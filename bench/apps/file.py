"""The Django site with startproject's middleware, and a view that answers with a file of 1 MB."""

import tempfile

from django.http import FileResponse, HttpRequest

from bench.apps import BODY
from bench.apps.site import MIDDLEWARE, configure
from bench.apps.site import asgi_application as __getattr__  # noqa: F401

# Without a name, so that nothing is left of it however the server ends
FILE = tempfile.TemporaryFile(dir="/var/tmp")  # noqa: SIM115
PATH = f"/proc/self/fd/{FILE.fileno()}"
FILE.write(BODY.ljust(1_000_000, b"x"))
FILE.flush()


def file(request: HttpRequest, year: int, slug: str) -> FileResponse:
    return FileResponse(open(PATH, "rb"), content_type="text/plain")


application = configure(MIDDLEWARE, file)
