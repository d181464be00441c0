"""manage.py serve: serve this site on the inherited sockets."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.wsgi import get_wsgi_application

from sdactivate.django.checks import TAG
from sdactivate.errors import Error
from sdactivate.runtime.serve import run
from sdactivate.settings import TABLE


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    help = (
        "Serves this site on the sockets that a supervisor passed to this process, as "
        "`sdactivate serve` does."
    )
    requires_system_checks = (TAG,)
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        group = parser.add_argument_group("settings of the server")
        for setting in TABLE:
            group.add_argument(
                setting.option,
                dest=f"sdactivate_{setting.name}",
                metavar=setting.unit.upper() or "VALUE",
                help=setting.help.replace("%", "%%"),
            )

    def handle(self, *args: Any, **options: Any) -> None:
        given = {setting.name: options[f"sdactivate_{setting.name}"] for setting in TABLE}
        try:
            raise SystemExit(run(application(), {}, given))
        except Error as error:
            raise CommandError(str(error), returncode=error.exit_code) from error


def application() -> Any:
    """The site's application: the one that WSGI_APPLICATION names, or else Django's default."""
    if not settings.WSGI_APPLICATION:
        return get_wsgi_application()
    module, _, name = settings.WSGI_APPLICATION.rpartition(".")
    return f"{module}:{name}"
