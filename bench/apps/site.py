"""A Django site as startproject makes it, with two views: the settings in one place.

`hello` answers 13 bytes: what is left is Django's own cost. `page` does what a page of a site does,
and renders a template with a list and a form with its CSRF token: 1.3 kB, no database.

`asgi` is made when it is asked for, so that a WSGI server never imports Django's ASGI half.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from bench.apps import BODY

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]


def hello(request: HttpRequest, year: int, slug: str) -> HttpResponse:
    return HttpResponse(BODY, content_type="text/plain")


def page(request: HttpRequest, year: int, slug: str) -> HttpResponse:
    return render(request, "page.html", {"title": slug, "year": year, "links": LINKS})


URL = "articles/<int:year>/<slug:slug>/"
LINKS = [{"title": f"Article <{n}>", "url": f"/articles/2026/article-{n}/"} for n in range(10)]


def configure(middleware: list[str], view: Callable[..., HttpResponse] = hello) -> WSGIHandler:
    """Set the site up with `middleware` and `view` and return its WSGI application."""
    from django.core.wsgi import get_wsgi_application

    settings.configure(
        SECRET_KEY="a key for measuring",
        ALLOWED_HOSTS=["www.example.com"],
        INSTALLED_APPS=APPS,
        MIDDLEWARE=middleware,
        ROOT_URLCONF=(path(URL, view),),
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "DIRS": [Path(__file__).parent],
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        STATIC_URL="static/",
    )
    return get_wsgi_application()


def asgi_application(name: str) -> Any:
    """What `__getattr__` of the modules with a site answers."""
    if name != "asgi":
        raise AttributeError(name)
    from django.core.asgi import get_asgi_application

    return get_asgi_application()
