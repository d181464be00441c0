"""The application that INSTALLED_APPS names."""

from django.apps import AppConfig


class SdactivateConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    name = "sdactivate.django"
    label = "sdactivate"
    verbose_name = "sdactivate"

    def ready(self) -> None:
        from sdactivate.django import checks

        checks.register_all()
