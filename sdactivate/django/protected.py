"""protected_file(): answer with a file from a protected directory (--protected)."""

import io
import os
from pathlib import Path

from django.core.exceptions import SuspiciousFileOperation
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase

from sdactivate import protected


def protected_file(
    request: HttpRequest,
    path: str | os.PathLike[str],
    *,
    as_attachment: bool = False,
    filename: str = "",
    content_type: str | None = None,
) -> HttpResponseBase:
    """Return the response that sends the file at `path` to the client of `request`.

    The view decides who gets it; the front sends it, with ETag, Last-Modified and ranges:

        from django.contrib.auth.decorators import login_required
        from sdactivate.django.protected import protected_file

        @login_required
        def invoice(request, number):
            path = f"/srv/mysite-protected/{request.user.pk}/{number:d}.pdf"
            return protected_file(request, path, as_attachment=True)

    request: the request that the view was called with.
    path: an absolute path, such as that of a FieldFile, in a directory of --protected.
    as_attachment, filename, content_type: as those of Django's FileResponse.

    If the service has no front, as with `manage.py runserver`, Django sends the file itself. The
    response forbids shared caches to store the file, and makes browsers revalidate it each time;
    the view may change these header fields.

    Raises Http404 if there is no such file, SuspiciousFileOperation (a 400) for a file that is
    not in a protected directory, and ValueError for a path that is not absolute.
    """
    file = Path(path)
    if not file.is_absolute():
        raise ValueError(f"{os.fspath(path)!r} is not an absolute path")
    told = os.environ.get(protected.VARIABLE, "")
    try:
        front = protected.read(told) if told else None
        value = front.value(file) if front else ""
    except ValueError as error:
        raise SuspiciousFileOperation(str(error)) from None
    if not file.is_file():
        raise Http404(file.name)
    response = FileResponse(
        # The front reads the file, as its own user
        io.BytesIO() if value else file.open("rb"),
        as_attachment=as_attachment,
        filename=filename or file.name,
        content_type=content_type,
    )
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if front and value:
        headers = {**response.headers, front.field: value}
        del headers["Content-Length"]
        return HttpResponse(headers=headers)
    return response
