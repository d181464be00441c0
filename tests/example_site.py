"""The example site as tests serve it: with the pages of tests/probe."""

import shutil
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "mysite"
PROBE = Path(__file__).with_name("probe")

# What a checkout's own runs leave beside the code, and no copy is to begin with; and what its
# environment is made of, since the tests' sites run in one that is there.
_LEFT = shutil.ignore_patterns("__pycache__", "*.sqlite3*", "secret_key*", "requirements.txt")


def sources() -> list[Path]:
    """Return the files that a copy is made of."""
    return sorted(path for part in (EXAMPLE, PROBE) for path in part.rglob("*") if path.is_file())


def copy(site: Path) -> None:
    """Make the site at `site`, a directory that need not be there."""
    shutil.copytree(EXAMPLE, site, ignore=_LEFT, dirs_exist_ok=True)
    shutil.copytree(PROBE, site / "probe", ignore=_LEFT, dirs_exist_ok=True)
    with open(site / "mysite" / "urls.py", "a") as urls:
        urls.write('urlpatterns += [path("", include("probe.urls"))]\n')
