"""The Django application of the kit: INSTALLED_APPS += ["sdactivate.django"].

Adds `manage.py serve`, `manage.py runfcgi` as it was until Django 1.8, and system checks for a
site behind a socket, most of which need `manage.py check --deploy`.
"""
