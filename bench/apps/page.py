"""The Django site with startproject's middleware, and a page with a form from a template."""

from bench.apps.site import MIDDLEWARE, configure, page
from bench.apps.site import asgi_application as __getattr__  # noqa: F401

application = configure(MIDDLEWARE, page)
