"""The Django site with startproject's middleware, and a view that takes a body of 1 MB."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from bench.apps import BODY
from bench.apps.site import MIDDLEWARE, configure
from bench.apps.site import asgi_application as __getattr__  # noqa: F401
from bench.wire import BODIES

LENGTH = len(BODIES["post"])


@csrf_exempt
def post(request: HttpRequest, year: int, slug: str) -> HttpResponse:
    status = 200 if len(request.body) == LENGTH else 400
    return HttpResponse(BODY, content_type="text/plain", status=status)


application = configure(MIDDLEWARE, post)
