"""protected_file(): a response that has the front send a protected file (--protected).

    def invoice(request, number):
        invoice = get_object_or_404(Invoice, number=number, owner=request.user)
        return protected_file(request, invoice.file.path, as_attachment=True)

The front sends the file, with ETag, Last-Modified and ranges: the application only says which.
Where no front was named to the service, as with `manage.py runserver`, Django sends it itself.
"""

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
    """Return the response that lets the client of `request` have the file at `path`.

    path: an absolute path, such as that of a FieldFile, in a directory of --protected.
    as_attachment, filename, content_type: as Django's FileResponse has them. Unless the view says
    otherwise, no shared cache keeps the file, and a browser asks again each time.

    Raises Http404 where there is no such file, SuspiciousFileOperation (a 400) for one that is in
    no protected directory, and ValueError for a path that is not absolute.
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
        # The front reads it, as a user of its own
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
