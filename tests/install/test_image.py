"""Links of an image lead to places in it."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.cli import main
from sdactivate.errors import Error
from sdactivate.install.image import inside


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image whose directories are behind absolute links, as some distributions' are.

    Each of them also leads to a directory of this host, where nothing may be written.
    """
    root = tmp_path / "root"
    for place, link in (("etc", "own-etc"), ("var", "own-var"), ("srv/mysite", "releases/1")):
        (tmp_path / "host" / link).mkdir(parents=True)
        (root / f"{tmp_path}/host/{link}".lstrip("/")).mkdir(parents=True)
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(f"{tmp_path}/host/{link}")
    (root / f"{tmp_path}/host/releases/1/one.py".lstrip("/")).write_text("")
    return root


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


def test_install_and_uninstall_stay_in_it(image: Path, tmp_path: Path) -> None:
    site = ["--group=www-data", "--app=mysite.wsgi:application", "--chdir=/srv/mysite"]
    site += ["--systemd=252", f"--python={sys.executable}", "--member=www-data"]
    before = files(image)
    assert main(["install", "mysite", f"--root={image}", *site]) == 0
    assert files(tmp_path / "host") == set()
    made = {name.rpartition("/")[2].partition(".cpython")[0] for name in files(image) - before}
    assert made >= {"mysite.socket", "mysite.service", "mysite.conf", "mysite.json", "one"}
    assert main(["uninstall", "mysite", f"--root={image}"]) == 0
    assert {name for name in files(image) - before if "mysite." in name} == set()


@pytest.mark.parametrize("verb", ["install", "uninstall", "generator"])
def test_an_image_that_is_not_there_is_not_made(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"generator": ["--install"]}.get(verb, ["mysite"])
    words += ["--app=mysite.wsgi:application", "--chdir=/srv"] if verb == "install" else []
    assert main([verb, *words, f"--root={tmp_path}/imgae"]) == 2
    assert f"--root: '{tmp_path}/imgae' is not a directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_background_workers_are_enabled_in_it(image: Path) -> None:
    site = [f"--root={image}", "--group=www-data", "--app=a:b", "--systemd=252"]
    assert main(["install", "mysite", *site, "--worker=mail=celery", "--worker=rq=rq worker"]) == 0
    wants = inside(image, "/etc/systemd/system") / "mysite.socket.wants"
    assert sorted(os.readlink(link) for link in wants.iterdir()) == [
        "/etc/systemd/system/mysite-mail@.service",
        "/etc/systemd/system/mysite-rq@.service",
    ]
    assert main(["install", "mysite", *site, "--worker=rq=rq worker"]) == 0
    assert [link.name for link in wants.iterdir()] == ["mysite-rq@1.service"]
    assert main(["uninstall", "mysite", f"--root={image}"]) == 0
    assert list(wants.iterdir()) == []


def test_a_record_leads_to_no_file_of_the_host(image: Path, tmp_path: Path) -> None:
    """Who makes the image writes it, and can know what is in a file of the host."""
    kept = tmp_path / "host/kept"
    kept.write_text("known to all")
    (state := inside(image, "/var/lib/sdactivate")).mkdir(parents=True)
    known = hashlib.sha256(b"known to all").hexdigest()
    ways = [str(kept), f"/..{kept}", f"{image}/../host/kept", "/escape/kept"]
    (image / "escape").symlink_to(kept.parent)
    (state / "mysite.json").write_text(json.dumps({"files": dict.fromkeys(ways, known)}))
    assert main(["uninstall", "mysite", f"--root={image}", "--force"]) == 0
    assert kept.exists()
    (state / "mysite.json").write_text(json.dumps({"files": {"relative": known}}))
    assert main(["uninstall", "mysite", f"--root={image}"]) == 1
    for obstacle in (lambda at: at.symlink_to(kept), os.mkfifo):
        (state / "mysite.json").unlink()
        obstacle(state / "mysite.json")
        assert main(["uninstall", "mysite", f"--root={image}"]) == 1


def test_an_image_may_be_moved(image: Path, tmp_path: Path) -> None:
    site = ["--group=www-data", "--app=mysite.wsgi:application", "--systemd=252"]
    assert main(["install", "mysite", f"--root={image}", *site]) == 0
    record = json.loads((inside(image, "/var/lib/sdactivate") / "mysite.json").read_text())
    assert not [name for name in record["files"] if str(image) in name]
    moved = image.rename(tmp_path / "moved")
    assert main(["uninstall", "mysite", f"--root={moved}"]) == 0
    assert not [name for name in files(moved) if "mysite." in name]


def test_the_generators_link_stays_in_it(image: Path, tmp_path: Path) -> None:
    if not (Path(sys.executable).parent / "sdactivate-generator").exists():
        pytest.skip("sdactivate is not installed beside this interpreter")
    assert main(["generator", "--install", f"--root={image}"]) == 0
    assert files(tmp_path / "host") == set()
    assert (inside(image, "/etc/systemd/system-generators") / "sdactivate").is_symlink()


def test_a_directory_that_a_link_leads_out_of_is_not_made_there(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/etc").symlink_to("/nowhere/../../elsewhere/./etc")
    assert inside(tmp_path / "root", "/etc/x") == tmp_path / "root/elsewhere/etc/x"


def test_links_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("/a")
    with pytest.raises(Error, match="too many symbolic links"):
        inside(tmp_path, "/a")


NAMES = st.lists(st.sampled_from(["..", ".", "", "a", "b", "c"]), max_size=8).map("/".join)


@given(path=NAMES, target=st.tuples(st.booleans(), NAMES))
def test_nothing_leads_out(
    path: str, target: tuple[bool, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("root")
    text = ("/" if target[0] else "") + (target[1] or ".")
    os.symlink(text, root / "a")
    try:
        found = inside(root, f"/{path}")
    except Error:
        return
    assert found.is_relative_to(root)
    assert ".." not in found.parts
