"""The Django site without middleware."""

from bench.apps.site import asgi_application as __getattr__  # noqa: F401
from bench.apps.site import configure

application = configure([])
