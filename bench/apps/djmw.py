"""The Django site with startproject's middleware."""

from bench.apps.site import MIDDLEWARE, configure
from bench.apps.site import asgi_application as __getattr__  # noqa: F401

application = configure(MIDDLEWARE)
