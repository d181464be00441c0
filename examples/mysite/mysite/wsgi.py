"""The WSGI entry point. Both of these serve it on the socket that systemd hands over:

sdactivate serve mysite.wsgi:application
python -m mysite.wsgi
"""

import os

from django.core.wsgi import get_wsgi_application

import sdactivate

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

application = get_wsgi_application()

if __name__ == "__main__":
    sdactivate.serve(application)
