"""install --front below another root, in the layouts of distributions. See tests/front_trees.py.

What the fronts themselves make of it is in tests/machine/test_install_front.py.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.cli import main
from tests.front_trees import TREES, make

SITE = ("--app=mysite.wsgi:application", "--systemd=252")
NAMED = ("--server-name=example.org",)
RECORD = "var/lib/sdactivate/mysite.json"
AVAILABLE = "etc/nginx/sites-available/mysite.conf"
ENABLED = "etc/nginx/sites-enabled/mysite.conf"


def install(root: Path, front: str, distribution: str, *options: str) -> int:
    front_options = (f"--front={front}", f"--distribution={distribution}") if front else ()
    return main(["install", "mysite", f"--root={root}", *front_options, *SITE, *options])


def uninstall(root: Path, *options: str) -> int:
    return main(["uninstall", "mysite", f"--root={root}", *options])


def state(root: Path) -> dict[str, str]:
    """Every file and link, with what is in it."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize(
    ("front", "layout", "paths"),
    [
        ("nginx", "debian", (AVAILABLE, ENABLED)),
        ("nginx", "fedora", ("etc/nginx/conf.d/mysite.conf",)),
        ("nginx", "arch with conf.d", ("etc/nginx/conf.d/mysite.conf",)),
        (
            *("apache", "debian"),
            ("etc/apache2/sites-available/mysite.conf", "etc/apache2/sites-enabled/mysite.conf"),
        ),
        ("apache", "fedora", ("etc/httpd/conf.d/mysite.conf",)),
        ("lighttpd", "fedora with vhosts.d", ("etc/lighttpd/vhosts.d/mysite.conf",)),
        ("caddy", "fedora", ("etc/caddy/Caddyfile.d/mysite.caddyfile",)),
        ("caddy", "arch", ("etc/caddy/conf.d/mysite",)),
        ("haproxy", "fedora", ("etc/haproxy/conf.d/mysite.cfg",)),
    ],
)
def test_where_each_distribution_wants_it(
    front: str, layout: str, paths: tuple[str, ...], tmp_path: Path
) -> None:
    make(tmp_path, TREES.get((front, layout), {}))
    before = state(tmp_path)
    assert install(tmp_path, front, layout.split()[0], *NAMED) == 0
    after = state(tmp_path)
    new = after.keys() - before.keys()
    assert {path for path in new if "systemd" not in path} == {*paths, RECORD}
    assert "example.org" in after[paths[0]] or "example\\.org" in after[paths[0]]
    for link in paths[1:]:
        assert (tmp_path / link).resolve() == tmp_path / paths[0]
    assert json.loads(after[RECORD])["files"].keys() >= {f"/{paths[0]}"}
    assert install(tmp_path, front, layout.split()[0], *NAMED) == 0
    assert state(tmp_path) == after
    assert uninstall(tmp_path) == 0
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    ("front", "layout", "said"),
    [
        ("haproxy", "debian", "reads one file on Debian, /etc/haproxy/haproxy.cfg, which is yours"),
        ("haproxy", "arch", "`sdactivate gen mysite --kind haproxy`"),
        ("caddy", "debian", "add the line `import /etc/caddy/*.caddyfile` to it, or give"),
        ("nginx", "arch", "`include /etc/nginx/conf.d/*.conf;` to it in its http block, or"),
        ("apache", "arch", "`IncludeOptional /etc/httpd/conf/extra/mysite.conf`"),
        ("lighttpd", "arch", '`include "/etc/lighttpd/conf.d/*.conf"`'),
        ("cherokee", "debian", "no distribution packages Cherokee"),
    ],
)
def test_a_front_that_would_not_read_it_is_refused_before_anything_is_changed(
    front: str, layout: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, TREES.get((front, layout), {"/etc/haproxy/haproxy.cfg": "global\n"}))
    before = state(tmp_path)
    assert install(tmp_path, front, layout, "--group=www-data", "--force") > 0
    assert state(tmp_path) == before
    capsys.readouterr()
    assert install(tmp_path, front, layout, "--group=www-data") > 0
    err = capsys.readouterr().err
    assert f"sdactivate install: --front {front}: " in err
    assert said in err
    assert "--units-only" in err
    assert state(tmp_path) == before
    assert install(tmp_path, front, layout, "--group=www-data", "--units-only") == 0
    assert {path for path in state(tmp_path).keys() - before.keys() if "systemd" not in path} == {
        RECORD
    }


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    return make(tmp_path / "root", TREES["nginx", "debian"])


def test_the_default_server_of_the_image_is_told_of(
    debian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(debian, "nginx", "debian") == 0
    assert "sites-enabled/default, line 2, answers all hosts" in capsys.readouterr().err
    assert install(debian, "nginx", "debian", *NAMED) == 0
    assert "answers" not in capsys.readouterr().err


def test_dry_run_shows_it_and_changes_nothing(
    debian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(debian)
    assert install(debian, "nginx", "debian", "--dry-run") == 0
    assert f"+++ {debian}/{AVAILABLE}\n" in capsys.readouterr().out
    assert state(debian) == before


def test_another_front_takes_its_place(debian: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(debian)
    assert install(debian, "nginx", "debian", *NAMED) == 0
    assert install(debian, "apache", "debian", *NAMED) == 0
    assert f"warning: {debian}/{AVAILABLE} is removed" in capsys.readouterr().err
    there = state(debian)
    assert not {AVAILABLE, ENABLED} & there.keys()
    assert "etc/apache2/sites-enabled/mysite.conf" in there
    assert install(debian, "", "debian", "--group=www-data") == 0
    assert {path for path in state(debian) if "mysite.conf" in path} == set()
    assert uninstall(debian) == 0
    assert state(debian) == before


@pytest.mark.parametrize("whose", ["foreign", "changed"])
def test_what_others_wrote_or_changed_is_not_overwritten(
    whose: str, debian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if whose == "changed":
        assert install(debian, "nginx", "debian", *NAMED) == 0
    (debian / AVAILABLE).write_text("server { listen 8080; }\n")
    before = state(debian)
    assert install(debian, "nginx", "debian", *NAMED, "--threads=3") == 1
    err = capsys.readouterr().err
    assert f"{debian}/{AVAILABLE} was changed since" in err or "not written by sdactivate" in err
    assert state(debian) == before
    if whose == "changed":
        assert "leave it as it is with --units-only" in err
        assert uninstall(debian) == 1
        assert state(debian) == before
        assert install(debian, "nginx", "debian", "--units-only", "--threads=3") == 0
        assert state(debian)[AVAILABLE] == before[AVAILABLE]
        assert uninstall(debian) == 1  # it is on the record still
        assert uninstall(debian, "--force") == 0
        assert not {AVAILABLE, ENABLED} & state(debian).keys()
    else:
        assert install(debian, "nginx", "debian", *NAMED, "--force") == 0
        assert "example.org" in state(debian)[AVAILABLE]


@pytest.mark.parametrize("other", ["file", "link"])
def test_what_has_the_links_name_is_left_alone(
    other: str, debian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(debian, {f"/{ENABLED}": "-> /etc/nginx/mine" if other == "link" else "# mine\n"})
    before = state(debian)
    assert install(debian, "nginx", "debian", "--force") == 1
    assert f"does not lead to {debian}/{AVAILABLE}; move it away" in capsys.readouterr().err
    assert state(debian) == before


def test_a_file_that_passes_to_the_socket_already_is_named(
    debian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as one that gen has written for conf.d: nginx would take its server and ignore ours."""
    make(debian, {"/etc/nginx/conf.d/a.conf": "server { scgi_pass unix:/run/mysite.sock; }"})
    before = state(debian)
    assert install(debian, "nginx", "debian") == 1
    said = "/etc/nginx/conf.d/a.conf already passes requests to /run/mysite.sock: move it away"
    assert said in capsys.readouterr().err
    assert state(debian) == before


def test_modules_that_apache_lacks_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, {**TREES["apache", "debian"], "/etc/apache2/mods-enabled/alias.load": ""})
    before = state(tmp_path)
    assert install(tmp_path, "apache", "debian") == 1
    assert "lacks modules: `a2enmod headers proxy proxy_fcgi`, or" in capsys.readouterr().err
    assert state(tmp_path) == before


def test_kinds_of_a_file_of_sites_say_what_is_installed(
    debian: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '[sites.mysite]\nfront = "nginx"\ndistribution = "debian"\napp = "a:b"\n'
    sites = tmp_path / "sites.toml"
    argv = ["install", "mysite", f"--from={sites}", f"--root={debian}", "--systemd=252"]
    sites.write_text(text)
    assert main(argv) == 0
    assert ENABLED in state(debian)
    sites.write_text(f'{text}kind = ["socket", "service"]\n')
    assert main(argv) == 0
    assert "is removed: the options" in capsys.readouterr().err
    assert not {AVAILABLE, ENABLED} & state(debian).keys()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace kills it at a system call")
@pytest.mark.parametrize("number", range(1, 9))
def test_killed_at_each_rename(number: int, debian: Path, tmp_path: Path) -> None:
    """Of the record, the units, the record, the enabled unit, the file, its link, the record."""
    before = {path for path in state(debian) if "etc/" in path}
    options = ("--front=nginx", "--distribution=debian", *SITE)
    argv = [sys.executable, "-m", "sdactivate", "install", "mysite", f"--root={debian}", *options]
    fault = f"inject=rename,renameat,renameat2:signal=KILL:when={number}"
    strace = ["strace", "-qq", "-o", f"{tmp_path}/log", "-e", fault, *argv]
    killed = subprocess.run(strace, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    if number % 2:
        assert install(debian, "nginx", "debian") == 0
        assert {AVAILABLE, ENABLED} <= state(debian).keys()
    known = (debian / RECORD).exists()
    assert uninstall(debian) == (0 if known else 1)
    assert {path for path in state(debian) if "etc/" in path} == before


def test_it_is_taken_back_where_its_link_cannot_be_made(
    debian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last step: all before it is undone as well."""
    (debian / "etc/nginx/sites-enabled").rename(debian / "etc/nginx/kept")
    (debian / "etc/nginx/sites-enabled").write_text("")
    before = state(debian)
    assert install(debian, "nginx", "debian", *NAMED) == 1
    assert "all changes were undone" in capsys.readouterr().err
    assert state(debian) == before


TLS = (*NAMED, "--server-name=www.example.org", "--tls=auto", "--hsts")
HOOK = "etc/letsencrypt/renewal-hooks/deploy/mysite"


def test_the_first_certificate_and_the_hook(
    debian: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until the certificate is there nginx gets what it can read; a failed install is undone."""
    before = state(debian)
    assert install(debian, "nginx", "debian", *TLS) == 0
    said = capsys.readouterr().err
    assert "until it has a certificate: run `install -d /var/lib/letsencrypt && certbot " in said
    assert "-d example.org -d www.example.org`, then the same install again" in said
    assert "443" not in state(debian)[AVAILABLE]
    assert (debian / HOOK).stat().st_mode & 0o777 == 0o755
    live = debian / "etc/letsencrypt/live/mysite"
    live.mkdir(parents=True)
    (live / "fullchain.pem").write_text("a certificate\n")
    assert install(debian, "nginx", "debian", *TLS) == 0
    assert "certbot" not in capsys.readouterr().err
    served = state(debian)
    assert "listen 443 ssl" in served[AVAILABLE]
    (debian / ENABLED).unlink()
    (debian / "etc/nginx/sites-enabled").rename(debian / "etc/nginx/kept")
    (debian / "etc/nginx/sites-enabled").write_text("")
    assert install(debian, "nginx", "debian", *NAMED) == 1  # without the hook
    assert state(debian)[HOOK] == served[HOOK]
    assert (debian / HOOK).stat().st_mode & 0o777 == 0o755
    (debian / "etc/nginx/sites-enabled").unlink()
    (debian / "etc/nginx/kept").rename(debian / "etc/nginx/sites-enabled")
    assert uninstall(debian) == 0
    (live / "fullchain.pem").unlink()
    assert state(debian) == before
