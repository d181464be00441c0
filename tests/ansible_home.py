"""What Ansible's commands run with in tests: the checkout's own, and nothing of this user's."""

import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
MISSING = pytest.mark.skipif(
    not (BIN / "ansible-playbook").exists(), reason="pip install '.[ansible]'"
)


def environ(home: Path) -> dict[str, str]:
    """Return the environment of a command, with `home` for all that it keeps.

    The collections are those below home/collections.
    """
    (home / "ansible.cfg").touch()
    return {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(home / "collections"),
        "ANSIBLE_NOCOLOR": "1",
    }
