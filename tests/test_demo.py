"""script/demo.py ends by itself, shows what it promises, and leaves nothing behind."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.reachable import as_user, reachable_python

DEMO = Path(__file__).parent.parent / "script" / "demo.py"


def show(python: str = sys.executable, demo: Path = DEMO, **options: Any) -> str:
    done = subprocess.run(
        [python, str(demo)], capture_output=True, text=True, timeout=300, **options
    )
    shown: str = done.stdout
    assert done.returncode == 0, shown + done.stderr
    assert re.search(r"GET /  200 OK, .*“Guestbook”, visit 2, 1 entry", done.stdout)
    assert "all files are removed" in done.stdout
    return shown


@pytest.mark.skipif(os.geteuid() != 0, reason="tries the socket as other users, which needs root")
def test_as_root_it_tries_the_door_as_everybody() -> None:
    shown = show()
    assert re.search(r"/run/mysite-demo.sock  root:[\w-]+ 0660    processes of the site: 0", shown)
    assert re.search(r"uid 61184, gid 61184, capabilities none, no_new_privs 1", shown)
    no = r"no, (Permission denied|Operation not permitted)\s+"
    assert re.search(rf"\(the web server\)  yes\s+{no}{no}", shown)
    assert re.search(rf"nobody\s+{no}{no}{no}", shown)
    assert re.search(rf"the application itself\s+{no}{no}{no}", shown)
    assert not Path("/run/mysite-demo.sock").exists()
    assert not list(Path("/run").glob("sdactivate-demo-*"))


def test_without_root_it_says_what_it_leaves_out() -> None:
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as copy:
        python = sys.executable
        options: dict[str, Any] = {"env": {**os.environ, "TMPDIR": scratch}}
        demo = DEMO
        if os.geteuid() == 0:  # as somebody else, from a checkout that this one can read
            Path(copy).chmod(0o755)
            for part in ("script", "examples", "sdactivate"):
                shutil.copytree(DEMO.parent.parent / part, Path(copy, part))
            demo = Path(copy, "script", "demo.py")
            shutil.chown(scratch, "games", "games")
            python, environ = reachable_python("games", Path(copy, "lib"))
            options = {"env": {**environ, "TMPDIR": scratch}, **as_user("games")}
        shown = show(python, demo, cwd="/", **options)
        assert os.listdir(scratch) == []
    assert "You are not root" in shown
    assert re.search(r"you\s+yes", shown)
