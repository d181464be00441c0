"""Units as text. That systemd reads them as meant is asked of it: here and in tests/machine."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings

from sdactivate.backends import BACKENDS
from sdactivate.errors import UsageError
from sdactivate.generate import units
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.output import File, Target
from sdactivate.site import Site
from sdactivate.values import parse_listen
from tests.effort import examples
from tests.generate.strategies import sites

TARGET = Target(252)
APP = "mysite.wsgi:application"

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze judges the units"
)


def text(kind: str, site: Site, target: Target = TARGET) -> str:
    (file,) = files(kind, site, target)
    return file.text


def files(kind: str, site: Site, target: Target = TARGET) -> tuple[File, ...]:
    return KINDS[kind].load()(site, target).files


def lines(kind: str, site: Site, target: Target = TARGET) -> list[str]:
    return text(kind, site, target).splitlines()


def verify(directory: Path, *units: tuple[str, str]) -> str:
    """Return what systemd-analyze has to say about the units."""
    for name, unit in units:
        (directory / name).write_text(unit)
    run = subprocess.run(
        ["systemd-analyze", "verify", *(str(directory / name) for name, _ in units)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return run.stderr + (f"exit {run.returncode}" if run.returncode else "")


def test_the_mode_is_always_written() -> None:
    assert "SocketMode=0660" in lines("socket", Site("mysite"))
    assert "SocketMode=0600" in lines("socket", Site("mysite", mode=0o600))
    assert "SocketMode=0000" in lines("socket", Site("mysite", mode=0))


def test_the_socket_has_its_owner_and_group() -> None:
    unit = lines("socket", Site("mysite", user="me", group="www-data"))
    assert {"SocketUser=me", "SocketGroup=www-data", "ListenStream=/run/mysite.sock"} <= set(unit)


def test_several_addresses_in_their_order() -> None:
    listen = tuple(map(parse_listen, ["/run/a%b.sock", "@abstract", "127.0.0.1:80", "[::1]:80"]))
    unit = lines("socket", Site("mysite", listen=listen))
    assert [line for line in unit if line.startswith("ListenStream=")] == [
        "ListenStream=/run/a%%b.sock",
        "ListenStream=@abstract",
        "ListenStream=127.0.0.1:80",
        "ListenStream=[::1]:80",
    ]


def test_the_service_starts_after_its_socket_and_is_ready_when_it_says_so() -> None:
    unit = lines("service", Site("mysite", app=APP))
    assert {
        "Requires=mysite.socket",
        "After=mysite.socket",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={sys.executable} -m sdactivate serve {APP}",
    } <= set(unit)


def test_what_is_written_can_not_be_executed() -> None:
    site = Site("mysite", app=APP, writable=("/srv/media",), python="/srv/venv/bin/python")
    own = "NoExecPaths=-%S/mysite -%C/mysite -/srv/media"
    assert own in lines("service", site)
    assert own not in lines("service", site, Target(247))
    assert own not in lines("service", replace(site, jit=True))
    # The interpreter's libraries, and the code's, are executed.
    site = replace(site, python="/var/lib/mysite/venv/bin/python", chdir="/srv/media/code")
    assert "NoExecPaths=-%C/mysite" in lines("service", site)


def test_libraries_write_to_the_cache_directory() -> None:
    site = Site("mysite", app=APP)
    home, cache = "Environment=HOME=%C/mysite", "Environment=XDG_CACHE_HOME=%C/mysite"
    assert {home, cache, "Environment=MPLCONFIGDIR=%C/mysite/matplotlib"} <= set(
        lines("service", site)
    )
    # A user of the administrator's choice has a home directory, with .pgpass and the like.
    other = lines("service", replace(site, run_as="me"))
    assert home not in other
    assert cache in other
    given = lines("service", replace(site, env=(("HOME", "/srv"), ("XDG_CACHE_HOME", "/tmp"))))
    assert [line for line in given if "HOME=" in line] == [
        *("Environment=HOME=/srv", "Environment=XDG_CACHE_HOME=/tmp")
    ]
    template = files("template", replace(site, listen=(parse_listen("/run/{instance}.sock"),)))
    assert 'Environment="HOME=%C/mysite-%i"' in template[1].text.splitlines()


def filters(kind: str, site: Site) -> list[str]:
    return [line for line in lines(kind, site) if line.startswith("SystemCallFilter=")]


def test_calls_can_be_given_back_after_they_were_taken_away() -> None:
    site = Site("mysite", app=APP, allow_syscall=("listen", "@keyring"))
    assert filters("service", site) == [
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallFilter=~listen @keyring",
        "SystemCallFilter=listen",
        "SystemCallFilter=@keyring",
    ]


def test_groups_and_the_network_of_this_host() -> None:
    told = lines("service", Site("mysite", app=APP, join=("redis", "33"), network="local"))
    assert {
        *("SupplementaryGroups=redis", "SupplementaryGroups=33", "IPAddressDeny=any"),
        *("IPAddressAllow=localhost", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"),
    } <= set(told)
    assert "PrivateNetwork=yes" not in told
    with pytest.raises(UsageError, match="root's group"):
        Site("mysite", join=("root",))
    with pytest.raises(UsageError, match="give local"):
        Site("mysite", network="no")
    with pytest.raises(UsageError, match="--join redis: a user's own manager"):
        lines("service", Site("mysite", app=APP, join=("redis",)), Target(252, own=True))


@pytest.mark.parametrize("server", [name for name, it in BACKENDS.items() if not it.in_process])
def test_other_servers_may_call_listen(server: str) -> None:
    app = "mysite.asgi:application" if "wsgi" not in BACKENDS[server].interfaces else APP
    site = Site("mysite", app=app, settings={"server": server})
    assert filters("service", site)[-1] == "SystemCallFilter=~@keyring"


@pytest.mark.parametrize("server", [name for name, it in BACKENDS.items() if it.in_process])
def test_servers_in_our_process_may_not(server: str) -> None:
    site = Site("mysite", app=APP, settings={"server": server})
    assert filters("service", site)[-1] == "SystemCallFilter=~listen @keyring"


def test_descriptors_are_not_accepted_where_systemd_can_say_so() -> None:
    line = "AcceptFileDescriptors=no"
    assert line in lines("socket", Site("mysite"), Target(258))
    assert line not in lines("socket", Site("mysite"), Target(257))
    tcp = Site("mysite", listen=(parse_listen("127.0.0.1:80"),))
    assert line not in lines("socket", tcp, Target(258))


def test_limits_that_no_usual_site_meets() -> None:
    assert {"MemoryMax=80%", "TasksMax=1024"} <= set(lines("service", Site("mysite", app=APP)))
    many = {"workers": "16", "threads": "64"}
    assert "TasksMax=4096" in lines("service", Site("mysite", app=APP, settings=many))


@pytest.mark.parametrize("version", [253, 254])
def test_a_crash_is_made_good_at_once(version: int) -> None:
    unit = lines("service", Site("mysite", app=APP), Target(version))
    assert {"Restart=on-failure", "RestartSec=100ms", "StartLimitIntervalSec=0"} <= set(unit)
    assert ("RestartMaxDelaySec=2" in unit) is (version >= 254)


def test_the_service_needs_an_application() -> None:
    with pytest.raises(UsageError, match="needs --app"):
        text("service", Site("mysite"))


def test_only_the_settings_that_were_given_are_written() -> None:
    site = Site("mysite", app=APP, settings={"threads": "4", "idle_timeout": "1h 30min"})
    told = [line for line in lines("service", site) if line.startswith("Environment=")]
    assert [line for line in told if "%C" not in line] == [
        "Environment=PYTHONNOUSERSITE=1",
        "Environment=SDACTIVATE_THREADS=4",
        'Environment="SDACTIVATE_IDLE_TIMEOUT=1h 30min"',
    ]


@pytest.mark.parametrize(
    ("graceful", "stop"), [(None, 40), ("90", 100), ("500ms", 11), ("2min", 130)]
)
def test_systemd_waits_longer_than_the_graceful_stop(graceful: str | None, stop: int) -> None:
    site = Site("mysite", app=APP, settings={"graceful_timeout": graceful} if graceful else {})
    assert f"TimeoutStopSec={stop}" in lines("service", site)


def test_a_user_of_ones_choice_replaces_the_dynamic_one() -> None:
    unit = lines("service", Site("mysite", app=APP, run_as="me"))
    assert "User=me" in unit
    assert "DynamicUser=yes" not in unit


def test_a_named_address_has_a_unit_of_its_own() -> None:
    listen = (parse_listen("/run/mysite.sock"), parse_listen("admin=/run/mysite-admin.sock"))
    site = Site("mysite", app=APP, listen=listen)
    public, admin = files("socket", site)
    assert (public.name, admin.name) == ("mysite.socket", "mysite-admin.socket")
    assert "Service=" not in public.text
    assert {
        "ListenStream=/run/mysite-admin.sock",
        "FileDescriptorName=admin",
        "Service=mysite.service",
    } <= set(admin.text.splitlines())
    assert {
        f"{key}={name}.socket"
        for key in ("Requires", "After")
        for name in ("mysite", "mysite-admin")
    } <= set(lines("service", site))


def test_a_template_gives_each_instance_what_is_its_own() -> None:
    socket, service = files("template", Site("mysite", app=APP, chdir="/srv/{instance}/50%"))
    assert (socket.name, service.name) == ("mysite@.socket", "mysite@.service")
    assert "ListenStream=/run/mysite-%i.sock" in socket.text.splitlines()
    assert {
        "Requires=mysite@%i.socket",
        "After=mysite@%i.socket",
        "WorkingDirectory=/srv/%i/50%%",
        'StateDirectory="mysite-%i"',
        "User=mysite-%i",
    } <= set(service.text.splitlines())


def test_instances_need_an_address_each() -> None:
    with pytest.raises(UsageError, match="each instance needs an address of its own"):
        files("template", Site("mysite", app=APP, listen=(parse_listen("/run/a.sock"),)))


def test_secrets_and_limits() -> None:
    site = Site(
        "mysite",
        app=APP,
        credential=(("secret_key", "/etc/mysite/50%.key"),),
        encrypted_credential=(("db", "/etc/mysite/db.cred"),),
        memory_max="25%",
        cpu_quota="200%",
        tasks_max="50",
    )
    assert {
        "LoadCredential=secret_key:/etc/mysite/50%%.key",
        "LoadCredentialEncrypted=db:/etc/mysite/db.cred",
        "MemoryMax=25%",
        "CPUQuota=200%",
        "TasksMax=50",
    } <= set(lines("service", site))
    with pytest.raises(UsageError, match="--encrypted-credential needs systemd 250"):
        text("service", site, Target(249))


@pytest.mark.parametrize(
    ("site", "user"),
    [
        (Site("mysite", app=APP), "mysite"),
        (Site("mysite", app=APP, run_as="me"), "me"),
        (Site("mysite", app=APP, group="mysite"), "mysite-app"),  # systemd: no such group
        (Site("example.org", app=APP), "site-bfabc37432958b06"),  # systemd: no dots
    ],
)
def test_the_user_is_always_named(site: Site, user: str) -> None:
    assert f"User={user}" in lines("service", site)


def test_for_a_users_own_manager() -> None:
    own = Target(252, own=True)
    socket = lines("socket", Site("mysite"), own)
    assert "ListenStream=%t/mysite.sock" in socket
    assert not [line for line in socket if line.startswith(("SocketUser=", "SocketGroup="))]
    service = lines("service", Site("mysite", app=APP), own)
    assert {"PrivateUsers=yes", "ProtectHome=read-only", "ProtectSystem=strict"} <= set(service)
    assert not [line for line in service if line.startswith(("User=", "DynamicUser="))]
    with pytest.raises(UsageError, match="runs everything as that user"):
        text("service", Site("mysite", app=APP, run_as="me"), own)
    with pytest.raises(UsageError, match="no sandbox without PrivateUsers="):
        text("service", Site("mysite", app=APP, settings={"allow_peer": "user:me"}), own)


def test_the_runtime_directory_is_nobodys() -> None:
    assert not [line for line in lines("service", Site("a", app=APP)) if "RuntimeDirectory" in line]


@pytest.mark.parametrize("kind", ["socket", "service"])
def test_without_comments_the_rest_is_the_same(kind: str) -> None:
    site = Site("mysite", app=APP)
    bare = text(kind, site, Target(252, comments=False))
    assert bare.startswith(f"# mysite.{kind}, written by sdactivate.\n")
    assert bare.count("#") == 1
    with_comments = text(kind, site).splitlines()
    assert [x for x in with_comments if x and not x.startswith("#")] == [
        x for x in bare.splitlines()[1:] if x
    ]


def test_what_is_not_escaped_reaches_no_template() -> None:
    from sdactivate.generate.render import environment

    with pytest.raises(TypeError, match="without being escaped"):
        environment().from_string("{{ name }}").render(name="a\nb")


@needs_systemd
@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(site=sites())
def test_systemd_accepts_every_unit(site: Site, tmp_path: Path) -> None:
    written = [*files("socket", site), *files("service", site)]
    assert verify(tmp_path, *((file.name, file.text) for file in written)) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("needs", "exposure"),
    [
        ({}, 0.2),
        ({"network": True}, 1.1),
        ({"network": "local"}, 0.9),
        ({"jit": True}, 0.2),
        ({"home": True}, 0.3),
        ({"writable": ("/srv/media",)}, 0.2),
        ({"device": ("/dev/kvm",)}, 0.4),
        ({"run_as": "www-data"}, 0.2),
        ({"settings": {"allow_peer": "user:www-data"}}, 0.4),
    ],
)
def test_exposure(needs: dict[str, object], exposure: float, tmp_path: Path) -> None:
    site = Site("mysite", app=APP, python="/usr/bin/python3", **needs)  # type: ignore[arg-type]
    unit = tmp_path / "mysite.service"
    unit.write_text(text("service", site))
    run = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"Overall exposure level for mysite.service: {exposure} " in run.stdout


def test_the_stop_margin_is_a_whole_number_of_seconds() -> None:
    assert units.stop_timeout(Site("a", settings={"graceful_timeout": "1.2"})) == 12


@pytest.mark.parametrize(
    ("rule", "release", "gone"),
    [
        ("unit:nginx.service", "6.13.0", set()),
        ("unit:nginx.service", "6.1.0-44-amd64", {"ProtectProc"}),
        ("user:www-data", "6.18.0", {"PrivateUsers"}),
        ("unit:nginx.service,group:web", "6.1.0", {"PrivateUsers", "ProtectProc"}),
    ],
)
def test_allow_peer_relaxes_what_its_check_needs_and_says_so(
    rule: str, release: str, gone: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    plain = Site("mysite", app=APP, python="/usr/bin/python3")
    site = Site("mysite", app=APP, python="/usr/bin/python3", settings={"allow_peer": rule})
    output = units.service(site, Target(252))

    def keys(text: str) -> set[str]:
        return {line.partition("=")[0] for line in text.splitlines() if "=" in line}

    without = units.service(plain, Target(252))
    assert keys(without.files[0].text) - keys(output.files[0].text) == gone
    said = " ".join(set(output.warnings) - set(without.warnings))
    assert all(directive in said for directive in gone)
    assert bool(said) is bool(gone)
    if shutil.which("systemd-analyze"):
        (tmp_path / "mysite.service").write_text(output.files[0].text)
        argv = ["systemd-analyze", "security", "--offline=yes", f"{tmp_path}/mysite.service"]
        judged = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout
        # as docs/allow-peer.md says
        assert f"mysite.service: {(0.2, 0.4, 0.5)[len(gone)]} " in judged


def test_a_rule_for_peers_that_means_nothing_is_misuse() -> None:
    with pytest.raises(UsageError, match="nginx"):
        text("service", Site("mysite", app=APP, settings={"allow_peer": "nginx"}))


def test_a_reload_knows_what_only_a_start_reads() -> None:
    site = Site(
        "mysite",
        app=APP,
        env_file=("/etc/my site.env",),
        credential=(("key", "/etc/key"),),
        encrypted_credential=(("other", "/etc/other"),),
    )
    files = "Environment=\"SDACTIVATE_READ_AT_START='/etc/my site.env'{}\""
    before, after = (lines("service", site, Target(version)) for version in (259, 260))
    assert files.format(" /etc/key /etc/other") in before
    assert "RefreshOnReload=credentials" not in before
    assert files.format("") in after
    assert "RefreshOnReload=credentials" in after
    assert "RefreshOnReload=credentials" not in lines("service", Site("a", app=APP), Target(260))
    assert not any("READ_AT_START" in line for line in lines("service", Site("a", app=APP)))
