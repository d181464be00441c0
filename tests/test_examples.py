"""The example site by itself: its own tests, and what Django's checks say of it."""

import subprocess
import sys
from pathlib import Path

import pytest

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
