"""What systemd has said of units, asked for once: names, aliases, and a bad one among them."""

import os
from pathlib import Path

import pytest

from sdactivate.doctor.units import live
from sdactivate.errors import Error
from sdactivate.systemd.systemctl import Snapshot, one

# Says of each name what systemd would; refuses all where one is bad, as systemctl(1) does.
SYSTEMCTL = """\
#!/bin/sh
while [ "$1" != -- ]; do shift; done; shift
for name; do case $name in bad*) echo "Invalid unit name" >&2; exit 1; esac; done
for name; do
  echo asked >>"$ASKED"
  case $name in
    web.service|alias.service)
      echo "Id=web.service"; echo "Names=web.service alias.service"; echo "LoadState=loaded"
      echo "TriggeredBy=web.socket"; echo "FragmentPath=$UNITS/web.service";;
    web.socket|alias.socket)
      echo "Id=web.socket"; echo "Names=alias.socket web.socket"; echo "LoadState=loaded"
      echo "Triggers=web.service"; echo "FragmentPath=$UNITS/web.socket";;
    *) echo "Id=$name"; echo "Names=$name"; echo "LoadState=not-found";;
  esac
  echo
done
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a systemctl of ours in front; return the file that counts the units it was asked for."""
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "web.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / "web.socket").write_text("[Socket]\nListenStream=/run/web.sock\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("UNITS", str(tmp_path))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    (tmp_path / "asked").touch()
    return tmp_path / "asked"


@pytest.mark.parametrize("name", ["alias", "alias.service", "alias.socket", "web"])
def test_a_deployment_has_the_names_that_its_processes_have(name: str, asked: Path) -> None:
    found = live(name)
    assert found.service
    assert found.service.name == "web.service"
    assert [it.name for it in found.sockets] == ["web.socket"]


def test_one_bad_name_ends_nothing_for_the_others(asked: Path) -> None:
    known = Snapshot()
    known.prepare(["web.service", "bad name.service"])
    assert one(known.show("web.service"), "LoadState") == "loaded"
    with pytest.raises(Error, match="Invalid unit name"):
        known.show("bad name.service")


def test_what_is_forgotten_is_so_under_every_name(asked: Path) -> None:
    known = Snapshot()
    for forgotten in ("web.service", "alias.service"):
        known.prepare(["web.service", "alias.service", "web.socket"])
        known.show("alias.service")
        known.forget(forgotten)
        before = len(asked.read_text())
        for name in ("web.service", "alias.service", "web.socket"):
            known.show(name)
        assert len(asked.read_text()) - before == 2 * len("asked\n")


def test_a_property_that_nobody_has_asked_for_is_no_empty_one(asked: Path) -> None:
    known = Snapshot(("LoadState", "Result"))
    known.prepare(["web.service"])
    assert one(known.show("web.service"), "LoadState") == "loaded"
    assert one(known.show("web.service"), "Id")
    with pytest.raises(KeyError, match="ActiveState"):
        one(known.show("web.service"), "ActiveState")
