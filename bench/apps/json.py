"""The Django site with startproject's middleware, and a view that answers with 20 kB of JSON."""

from django.http import HttpRequest, JsonResponse

from bench.apps import BODY
from bench.apps.site import MIDDLEWARE, configure
from bench.apps.site import asgi_application as __getattr__  # noqa: F401

ARTICLES = [
    {
        "id": number,
        "title": BODY.decode(),
        "url": f"/articles/2026/article-{number}/",
        "tags": ["sockets", "systemd", "deployment"],
        "words": 100 * number,
        "published": number % 7 != 0,
    }
    for number in range(128)
]  # 20 kB


def articles(request: HttpRequest, year: int, slug: str) -> JsonResponse:
    return JsonResponse({"year": year, "slug": slug, "articles": ARTICLES})


application = configure(MIDDLEWARE, articles)
