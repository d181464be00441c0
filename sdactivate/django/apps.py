"""The AppConfig that INSTALLED_APPS names: it registers the system checks."""

from django.apps import AppConfig


class SdactivateConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    name = "sdactivate.django"
    label = "sdactivate"
    verbose_name = "sdactivate"

    def ready(self) -> None:
        from sdactivate.django import checks

        checks.register_all()
