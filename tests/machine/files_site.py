"""The site of tests/machine/test_front_files.py: it takes uploads and lets files out."""

import os
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path

MEDIA, PROTECTED = "/srv/files-media", "/srv/files-protected"

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    LOGGING_CONFIG=None,
    INSTALLED_APPS=["sdactivate.django"],
    MIDDLEWARE=[
        "django.middleware.http.ConditionalGetMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
)


def upload(request: HttpRequest, where: str) -> HttpResponse:
    """Keep what is sent, below a new directory."""
    storage = FileSystemStorage({"media": MEDIA, "protected": PROTECTED}[where])
    sent = request.FILES["file"]
    return HttpResponse(storage.save(f"{request.GET['below']}/{sent.name}", sent))


def link(request: HttpRequest) -> HttpResponse:
    """Make a symbolic link, as somebody who has taken the site over might."""
    for directory in (MEDIA, PROTECTED):
        place = Path(directory, "link.txt")
        place.unlink(missing_ok=True)
        place.symlink_to("/srv/outside.txt")
    return HttpResponse("made")


def let_out(request: HttpRequest) -> HttpResponseBase:
    """Let a file out, as a view would."""
    from sdactivate.django.protected import protected_file

    file = os.path.join(PROTECTED, request.GET["name"])
    return protected_file(request, file, as_attachment="save" in request.GET)


def say(request: HttpRequest) -> HttpResponse:
    """Answer with fields as asked for: what nothing of ours would say."""
    return HttpResponse("said", headers=dict(request.GET.items()))


urlpatterns = [
    path("upload/<where>", upload),
    path("link", link),
    path("file", let_out),
    path("say", say),
    path("", lambda request: HttpResponse("the site")),
]
application = get_wsgi_application()
