"""Settings of a site that systemd runs: where things live, systemd says.

STATE_DIRECTORY         from StateDirectory=: the database (in development: here)
CREDENTIALS_DIRECTORY   from LoadCredential=secret_key:…: the secret key
CACHE_DIRECTORY         from CacheDirectory=: the cache (without it: in memory)
PGDATABASE              a PostgreSQL database instead, by its unix socket and as the site's own user
MAIL_SOCKET             a mail server's unix socket (without it: SMTP to this host)
DJANGO_ALLOWED_HOSTS    host names, separated by spaces
DJANGO_DEBUG            1 in development
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR = Path(os.environ.get("STATE_DIRECTORY", BASE_DIR))


def secret_key() -> str:
    """The credential that systemd hands over; without one, a key made once and kept private."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (path := Path(credentials, "secret_key")).exists():
        return path.read_text().strip()
    path = STATE_DIR / "secret_key"
    if not path.exists():
        # Written aside and linked: of several processes that start at once, one key wins whole.
        draft = STATE_DIR / f"secret_key.{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text()


SECRET_KEY = secret_key()
DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", ".localhost 127.0.0.1 [::1] .test").split()

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "guestbook",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
ASGI_APPLICATION = "mysite.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE_DIR / "db.sqlite3",
        "OPTIONS": {"timeout": 20},
    },
}
if database := os.environ.get("PGDATABASE"):
    # No password: the server asks the kernel who connects. Where it is, PGHOST and PGPORT say.
    DATABASES["default"] = {"ENGINE": "django.db.backends.postgresql", "NAME": database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if directory := os.environ.get("CACHE_DIRECTORY"):
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": directory,
        }
    }

if path := os.environ.get("MAIL_SOCKET"):
    EMAIL_BACKEND = "mysite.mail.EmailBackend"
    EMAIL_HOST = path

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# The front serves these itself: `manage.py collectstatic` puts them where it looks.
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"

USE_TZ = True

# Whatever goes wrong is one entry in the journal: journalctl -u mysite. Without these three lines
# Django writes no errors where DEBUG is off: a page is 500, and nobody learns why.
LOGGING = {"version": 1, "disable_existing_loggers": False}
LOGGING["handlers"] = {"journal": {"class": "logging.StreamHandler"}}
LOGGING["root"] = {"handlers": ["journal"], "level": "INFO"}
