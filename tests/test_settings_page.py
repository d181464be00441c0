"""docs/settings.md: it is what the tables say, and its file of sites is understood."""

import re
import subprocess
import sys
from pathlib import Path

from sdactivate.generate import options
from sdactivate.generate.build import known_options
from sdactivate.generate.sites_toml import Tables
from sdactivate.settings import NOT_SETTINGS, TABLE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_tables_say() -> None:
    check = [sys.executable, str(ROOT / "script" / "settings.py"), "--check"]
    assert subprocess.run(check, timeout=60).returncode == 0, "run script/settings.py"


def test_every_name_is_on_it() -> None:
    names = [row.variable for row in TABLE] + list(NOT_SETTINGS)
    names += [row.name for row in known_options().values() if row.topic != "runtime"]
    names += [row.name for row in options.WORKER.rows]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_its_file_of_sites_is_understood(tmp_path: Path) -> None:
    (text,) = re.findall(r"(?ms)^```toml\n(.*?)^```", PAGE)
    (tmp_path / "sites.toml").write_text(text)
    given = Tables(tmp_path / "sites.toml").entry("mysite").given
    assert given["trust"] == "10.0.0.4 10.0.0.5"
    assert given["header_timeout"] == "10s"
