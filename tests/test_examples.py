"""The example site by itself: its own tests, what Django's checks say of it, what docs say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sdactivate

MYSITE = Path(__file__).parent.parent / "examples" / "mysite"


@pytest.mark.parametrize(
    "command",
    [
        ["test"],
        ["check", "--fail-level", "WARNING"],
        ["makemigrations", "--check", "--dry-run"],
    ],
    ids=lambda command: command[0],
)
def test_the_site_itself(command: list[str], tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=MYSITE,
        env={"STATE_DIRECTORY": str(tmp_path)},
        check=True,
        timeout=120,
    )


def test_the_secret_key_is_the_credential(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("from systemd\n")
    assert secret_key(CREDENTIALS_DIRECTORY=tmp_path, STATE_DIRECTORY=tmp_path) == "from systemd"


def test_without_a_credential_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first = secret_key(STATE_DIRECTORY=tmp_path)
    assert len(first) >= 50
    assert secret_key(STATE_DIRECTORY=tmp_path) == first
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def secret_key(**environ: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", "from mysite.settings import SECRET_KEY; print(SECRET_KEY, end='')"],
        cwd=MYSITE,
        env={name: str(value) for name, value in environ.items()},
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_its_environment_has_this_kit() -> None:
    words = (MYSITE / "requirements.txt").read_text().split()
    assert f"sdactivate=={sdactivate.__version__}" in words
    readme = (MYSITE.parent.parent / "README.md").read_text()
    assert "\n".join(words) in readme


def test_its_logging_is_what_the_documentation_shows() -> None:
    page = (MYSITE.parent.parent / "docs" / "troubleshooting.md").read_text()
    (shown,) = re.findall(r"^```python\n(LOGGING = .*?)^```", page, re.MULTILINE | re.DOTALL)
    assert shown in (MYSITE / "mysite" / "settings.py").read_text()
