"""The Ansible collection, without machines: lint, documentation, and what both have to agree on.

tests/machine/test_ansible.py runs it.
"""

import json
import subprocess

import pytest

from sdactivate.trust import FORGEABLE
from tests import ansible_home
from tests.ansible_home import BIN, MISSING
from tests.conftest import CHECKOUT

COLLECTION = CHECKOUT / "ansible"
ROLES = ("balancer", "front", "kit", "site")

pytestmark = MISSING


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment that has the checkout's collection."""
    home = tmp_path_factory.mktemp("ansible")
    place = home / "collections" / "ansible_collections" / "sdactivate"
    place.mkdir(parents=True)
    (place / "kit").symlink_to(COLLECTION)
    return ansible_home.environ(home)


def run(environ: dict[str, str], *argv: str) -> str:
    done = subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        env=environ,
        cwd=COLLECTION,
        stdin=subprocess.DEVNULL,  # Ansible refuses a descriptor that doesn't block
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_lint_at_the_production_profile(environ: dict[str, str]) -> None:
    run(environ, "ansible-lint", "--nocolor")  # the profile is in .ansible-lint


def test_each_role_and_variable_is_documented(environ: dict[str, str]) -> None:
    import yaml

    names = [f"sdactivate.kit.{role}" for role in ROLES]
    documented = json.loads(run(environ, "ansible-doc", "--json", "--type", "role", *names))
    assert sorted(documented) == names
    for role in ROLES:
        points = documented[f"sdactivate.kit.{role}"]["entry_points"]
        options = {name: row for point in points.values() for name, row in point["options"].items()}
        defaults = yaml.safe_load((COLLECTION / "roles" / role / "defaults/main.yml").read_text())
        own = {"site_table"}  # another name for sdactivate_sites
        assert defaults.keys() - own <= options.keys(), role
        for name, value in defaults.items():
            if name in options and "{{" not in str(value):
                assert options[name].get("default", value) == value, name
        tasks = {path.stem for path in (COLLECTION / "roles" / role / "tasks").glob("*.yml")}
        assert points.keys() <= tasks


def test_header_fields_that_only_a_front_may_set() -> None:
    import yaml

    rows = yaml.safe_load((COLLECTION / "roles/balancer/vars/main.yml").read_text())
    assert rows["balancer_forgeable"] == list(FORGEABLE)


@pytest.mark.parametrize("book", ["setup", "release", "rollback", "report"])
def test_each_playbook_can_be_read(book: str, environ: dict[str, str]) -> None:
    # Roles that are included are read when they run; imported tasks are read here
    run(environ, "ansible-playbook", "--syntax-check", "-i", "web1,", f"sdactivate.kit.{book}")
