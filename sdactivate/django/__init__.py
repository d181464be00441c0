"""The Django application of the kit: INSTALLED_APPS += ["sdactivate.django"].

Gives `manage.py serve`, `manage.py runfcgi` as it was until Django 1.8, and what
`manage.py check --deploy` should say about a site behind a socket.
"""
