"""Broken deployments, each made for real, found, explained and, where it is safe, fixed."""

import json
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdactivate.doctor import symptoms
from sdactivate.doctor.rules import TABLE
from sdactivate.fronts import FRONTS
from sdactivate.systemd.unitfile import Unit, parse, split
from tests import refused
from tests.doctor.test_html_page import CHROMIUM, Strict, measure
from tests.machine import php
from tests.machine.broken_sites import (
    LIVE,
    SINGLE,
    UNITS,
    Live,
    ask,
    closed_directory,
    drop_in,
    missing_group,
    never_compiled,
    status,
)
from tests.machine.fronts import PROGRAM, SETUP
from tests.machine.machine import Machine, asked_for
from tests.machine.public_cases import BROKEN, EACH_TIME, FIFTH, FOURTH, SECOND, SIXTH, THIRD

SOCKET = ("--kind", "socket", "--group", "web")
SERVICE = ("--kind", "service", "--app", "mysite.wsgi:application", "--chdir", "/srv/mysite")
NGINX = "/etc/nginx/conf.d/mysite.conf"
KINDS = ("missing", "forbidden", "refused")
ROOT = asked_for()


@pytest.fixture(scope="module")
def units(machine: Machine) -> dict[str, str]:
    """The units of the example site, as gen writes them."""
    service = (*SERVICE, "--python", machine.python)
    return {
        f"mysite.{options[1]}": machine.run(
            *machine.sdactivate, "gen", "mysite", "--no-comments", *options
        ).stdout
        for options in (SOCKET, service)
    }


@pytest.fixture
def site(machine: Machine, units: dict[str, str]) -> Iterator[Machine]:
    """The example site as gen writes it, behind nginx, in a group of its own: nothing is wrong.

    What a test breaks is in these units, in group web, in nginx and in /srv: all is put back.
    """
    for name, text in units.items():
        machine.write(f"{UNITS}/{name}", text)
    script = """
        usermod -aG web www-data
        python3 -m compileall -q /srv/mysite
        systemctl daemon-reload
        systemctl start mysite.socket
        systemctl restart nginx.service
    """
    machine.run("sh", "-ec", script)
    yield machine
    script = f"""
        # one by one: where one is unknown, systemd 258 and later stop none of them
        for unit in mysite.socket mysite.service nginx.service other.service '{php.UNIT}'; do
            systemctl stop "$unit" || true
        done
        systemctl reset-failed
        gpasswd -d www-data web || true
        rm -rf {UNITS}/*.service.d {UNITS}/*.socket.d {UNITS}/other.service /srv/closed /run/mysite*
        rm -rf /srv/mysite/mysite/conf
        rm -f /var/log/nginx/error.log
        sed -i 's,unix:[^;]*,unix:/run/mysite.sock,' {NGINX}
        chmod 755 /srv /srv/mysite /srv/mysite/mysite
        chmod 644 /srv/mysite/mysite/wsgi.py
        systemctl daemon-reload
    """
    machine.run("sh", "-c", script)


def doctor(machine: Machine, *options: str, check: bool = False) -> dict[str, dict[str, Any]]:
    """What the doctor finds, by rule."""
    argv = (*machine.sdactivate, "doctor", "mysite", "--format", "json", *options)
    done = machine.run(*argv, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = {it["rule"]: it for it in json.loads(done.stdout)}
    assert done.returncode == bool(found)
    return found


def test_nothing_is_wrong_with_what_gen_writes(site: Machine) -> None:
    assert status(site) == "200"
    assert doctor(site) == {}
    service_alone = site.run(*site.sdactivate, "doctor", "mysite.service")
    assert service_alone.stdout == "nothing found\n"


# The front is refused: which component, and what fixes it


@pytest.mark.parametrize("row", [it for it in LIVE if not it.safe], ids=lambda it: it.id)
def test_a_refused_front_is_explained(site: Machine, row: Live) -> None:
    row.breaks(site)
    seen(site, row)
    found = doctor(site)
    # Where the socket has moved, nginx may ask at the place that it had.
    asked = re.findall(r"unix:(\S+);", site.read(NGINX))[0]
    moved = set() if f"{asked} (Stream)" in site.show("mysite.socket", "Listen") else {"SDA126"}
    live = {it for it in found if it >= "SDA100" and it != "SDA111"}
    assert live == {row.rule, *moved}, found
    assert row.because in found[row.rule]["because"]
    assert found[row.rule]["fix"].startswith(row.fix)
    if row.rule == "SDA102":  # the mode, the group, and the directory: what is said helps
        site.run("sh", "-ec", _as_told(found[row.rule]))
        assert row.rule not in doctor(site)


def seen(site: Machine, row: Live) -> None:
    """What the user sees is what the table of symptoms has."""
    if not row.sees:
        return
    assert row.sees in [it.kind or it.words for it in symptoms.TABLE[row.rule]]
    if row.sees in KINDS:
        assert status(site) == "502"
        path = re.findall(r"unix:(\S+);", site.read(NGINX))[0]
        words = getattr(FRONTS["nginx"].failures, row.sees).replace("SOCKET", path)
        assert words in site.read("/var/log/nginx/error.log")
    else:
        shown = site.run("systemctl", "status", "mysite.socket", "mysite.service", check=False)
        assert row.sees in shown.stdout + shown.stderr


def _as_told(finding: dict[str, str]) -> str:
    """The shell commands for what a finding says."""
    done = finding["fix"]
    if done.startswith("in ["):  # in [Section] of UNIT: LINE, LINE
        section, _, rest = done.removeprefix("in [").partition("] of ")
        unit, _, lines = rest.partition(": ")
        text = "\\n".join([f"[{section}]", *lines.split(", ")])
        done = f"mkdir -p {UNITS}/{unit}.d; printf '{text}\\n' >{UNITS}/{unit}.d/zz.conf"
    return f"{done}\n{finding['then'] or ''}"


def test_a_socket_that_isn_t_for_the_front_is_silenced_in_its_unit(site: Machine) -> None:
    text = (
        "[Socket]\nListenStream=/run/mysite-admin.sock\nSocketMode=0600\nService=mysite.service\n"
    )
    text += "FileDescriptorName=admin\n"
    site.write(f"{UNITS}/mysite-admin.socket", text)
    named = "[Socket]\nFileDescriptorName=web\n"
    drop_in(site, "mysite.socket", named)
    wanted = "[Unit]\nRequires=mysite-admin.socket\n"
    site.write(f"{UNITS}/mysite.service.d/admin.conf", wanted)
    site.run("systemctl", "daemon-reload")
    site.run("sh", "-c", "systemctl stop mysite.service; systemctl start mysite-admin.socket")
    try:
        assert set(doctor(site)) == {"SDA102"}
        # in the other socket's unit it silences nothing
        site.write(f"{UNITS}/mysite.socket.d/a.conf", "# sdactivate: ignore=SDA102 wrong place\n")
        site.run("systemctl", "daemon-reload")
        assert set(doctor(site)) == {"SDA102"}
        text += "# sdactivate: ignore=SDA102 for administrators\n"
        site.write(f"{UNITS}/mysite-admin.socket", text)
        site.run("systemctl", "daemon-reload")
        assert doctor(site) == {}
    finally:
        site.run("sh", "-c", f"systemctl stop mysite-admin.socket; rm {UNITS}/mysite-admin.socket")


def test_a_front_that_runs_as_another_user_is_asked_as_that_one(site: Machine) -> None:
    """What its configuration says counts, not what it is packaged with."""
    site.run("sh", "-ec", "cp /etc/nginx/nginx.conf /root; sed -i '/^user/d' /etc/nginx/nginx.conf")
    site.run("sh", "-ec", "sed -i '1i user alice;' /etc/nginx/nginx.conf; systemctl restart nginx")
    try:
        assert status(site) == "502"
        finding = doctor(site)["SDA102"]
        assert finding["because"].startswith("nginx (alice) can't connect")
        assert finding["fix"] == "usermod -aG web alice"
        site.run("sh", "-ec", finding["fix"])
        assert doctor(site)["SDA104"]["because"].startswith("alice is in group web now")
        site.run("sh", "-ec", finding["then"])
        assert status(site) == "200"
        # nginx tells whole seconds: what it logged just before may have been just after
        assert set(doctor(site)) <= {"SDA111"}
        accounts = site.run(*site.sdactivate, "who", "mysite").stdout
        assert re.search(r"yes +alice +nginx's user", accounts)
    finally:
        site.run("sh", "-c", "gpasswd -d alice web; mv /root/nginx.conf /etc/nginx")


# What is safe is fixed


@pytest.mark.parametrize("row", [it for it in LIVE if it.safe], ids=lambda it: it.id)
def test_what_is_safe_is_fixed(site: Machine, row: Live) -> None:
    rule = row.rule
    row.breaks(site)
    seen(site, row)
    found = {it: finding for it, finding in doctor(site).items() if it != "SDA111"}
    assert set(found) == {rule}
    assert found[rule]["safe"]
    assert row.because in found[rule]["because"]
    assert found[rule]["fix"].startswith(row.fix)
    # without a terminal and without --yes nothing is touched
    argv = (*site.sdactivate, "doctor", "mysite", "--fix")
    assert "nothing is changed without --yes" in site.run(*argv, check=False).stderr
    assert rule in doctor(site)
    done = site.run(*argv, "--yes", check=False)
    assert found[rule]["fix"] in done.stderr
    assert "fixed " in done.stderr
    assert set(doctor(site)) <= {"SDA111"}
    assert status(site) == "200"


def test_a_socket_is_restarted_though_its_service_runs_without_requiring_it(site: Machine) -> None:
    """systemd starts no socket unit while its service runs; with Requires= it stops that first."""
    socket = "[Socket]\nListenStream=/run/other.sock\nSocketMode=0660\nSocketGroup=web\n"
    socket += "[Install]\nWantedBy=sockets.target\n"
    site.write(f"{UNITS}/other.socket", socket)
    site.write(f"{UNITS}/other.service", "[Service]\nUser=alice\nExecStart=/bin/sleep 600\n")
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", "other.socket", "other.service")
    site.run("rm", "/run/other.sock")
    argv = (*site.sdactivate, "doctor", "other", "--ignore", "SDA018")
    try:
        said = site.run(*argv, "--fix", "--yes", check=False)
        assert "fix   systemctl stop other.service && systemctl restart other.socket" in said.stdout
        assert site.run(*argv).stdout == "nothing found\n"
        site.run("sh", "-ec", "systemctl stop other.socket; systemctl start other.service")
        said = site.run(*argv, "--fix", "--yes", check=False)
        assert "systemctl stop other.service && systemctl enable --now other.socket" in said.stdout
        assert site.run(*argv).stdout == "nothing found\n"
    finally:
        site.run("sh", "-c", f"systemctl disable --now other.socket; rm {UNITS}/other.socket")


def test_a_drop_in_is_shown_as_a_diff_and_written_with_yes(site: Machine) -> None:
    drop_in(site, "mysite.socket", "[Socket]\nBacklog=16\nFlushPending=yes\n")
    assert set(doctor(site)) == {"SDA011", "SDA015"}
    argv = (*site.sdactivate, "doctor", "mysite", "--fix", "--yes")
    said = site.run(*argv, check=False).stderr
    assert "+FlushPending=no" in said
    assert "systemctl restart mysite.socket" in said
    written = site.read(f"{UNITS}/mysite.socket.d/zz-sdactivate-doctor.conf")
    assert "Backlog=4096" in written
    # what is bound is still the old socket: the doctor says so, and what it has said fixes it
    assert "a backlog of 16 instead of 4096" in doctor(site)["SDA114"]["because"]
    effect = said.rpartition("to apply it, run: ")[2].partition("\n")[0]
    site.run("sh", "-ec", effect)
    assert doctor(site) == {}
    assert site.run("systemctl", "show", "-P", "Backlog", "mysite.socket").stdout == "4096\n"


def test_what_is_written_holds_though_something_fails_after_it(site: Machine) -> None:
    drop_in(site, "mysite.socket", "[Socket]\nBacklog=16\n")
    never_compiled(site)
    site.run("touch", "/srv/mysite/mysite/__pycache__")  # where none can be made
    try:
        done = site.run(*site.sdactivate, "doctor", "mysite", "--fix", "--yes", check=False)
        assert "mysite.socket has changed; to apply it, run: systemctl" in done.stderr
        assert "SDA112 mysite.service: failed: sdactivate compile" in done.stderr
        assert "fixed 1 of 2" in done.stderr
        assert site.show("mysite.socket", "Backlog") == "4096"
    finally:
        site.run("rm", "/srv/mysite/mysite/__pycache__")


WORKER = """\
[Unit]
PartOf=mysite.socket
[Service]
ExecStart=/bin/sh -c 'echo no queue; {}'
Restart=always
RestartSec=1h
[Install]
WantedBy=mysite.socket
"""


def test_a_background_worker_that_does_not_run(site: Machine) -> None:
    unit = "mysite-mail@1.service"
    site.write(f"{UNITS}/mysite-mail@.service", WORKER.format("exec sleep 600"))
    try:
        site.run("systemctl", "enable", "--now", unit)
        assert doctor(site) == {}
        site.run("systemctl", "stop", unit)
        found = doctor(site)
        assert set(found) == {"SDA120"}
        assert found["SDA120"]["because"] == f"{unit} is enabled, but not running"
        site.write(f"{UNITS}/mysite-mail@.service", WORKER.format("exit 3"))
        site.run("systemctl", "daemon-reload")
        site.run("systemctl", "start", unit)
        site.wait(lambda: site.show(unit, "SubState") == "auto-restart", "its end")
        found = doctor(site)
        assert set(found) == {"SDA120"}
        assert "exit code 3" in found["SDA120"]["because"]
        assert "no queue" in found["SDA120"]["because"]
    finally:
        site.run("systemctl", "disable", "--now", unit)
        site.run("rm", f"{UNITS}/mysite-mail@.service")
        site.run("systemctl", "daemon-reload")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("unix:/run/my-site.sock", "/run/my-site.sock"),  # like the site's name
        ("127.0.0.1:8000", "port 8000"),  # all that nginx asks for
    ],
)
def test_a_front_that_asks_for_another_socket(site: Machine, asked: str, name: str) -> None:
    file = "/etc/nginx/conf.d/mysite.conf"
    kept = site.read(file)
    site.write(file, kept.replace("unix:/run/mysite.sock", asked))
    site.run("systemctl", "restart", "nginx.service")
    try:
        assert status(site) == "502"
        found = doctor(site)
        assert set(found) == {"SDA126"}
        because = found["SDA126"]["because"]
        assert FRONTS["nginx"].failures.missing.replace("SOCKET", name) in site.read(
            "/var/log/nginx/error.log"
        ) or name.startswith("port")
        assert because.startswith(
            f"nginx connects to {name} ({file}, line 11), where nothing listens"
        )
        assert "; it has failed " in because
        assert because.endswith("; mysite.socket listens on /run/mysite.sock")
        assert f"write /run/mysite.sock instead of {name}" in found["SDA126"]["fix"]
        # another application's, which is asked for beside the site's
        also = kept.replace(
            "location /static/", f"location /b {{ scgi_pass {asked}; }}\nlocation /s/"
        )
        site.write(file, also)
        site.run("systemctl", "reload", "nginx.service")
        assert set(doctor(site)) == set()
    finally:
        site.write(file, kept)


def test_a_socket_and_a_service_of_different_names(site: Machine) -> None:
    socket = "[Socket]\nListenStream=/run/lone.sock\nSocketMode=0660\nSocketGroup=web\n"
    service = site.read(f"{UNITS}/mysite.service").replace("mysite.socket", "lone.socket")
    site.write(f"{UNITS}/lone.socket", f"{socket}[Install]\nWantedBy=sockets.target\n")
    # Enabled: systemd forgets a unit that has failed and that nothing wants, and who required what.
    site.write(f"{UNITS}/other.service", f"{service}[Install]\nWantedBy=multi-user.target\n")
    site.run("systemctl", "enable", "other.service")
    assert site.run("systemctl", "start", "other.service", check=False).returncode
    argv = (*site.sdactivate, "doctor", "lone", "--format", "json")
    try:
        found = {it["rule"]: it for it in json.loads(site.run(*argv, check=False).stdout)}
        assert list(found)[:2] == ["SDA032", "SDA116"]
        assert found["SDA116"]["explained_by"] == [{"rule": "SDA032", "subject": "lone.socket"}]
        site.run("sh", "-ec", _as_told(found["SDA032"]))
        site.run("curl", "-sSf", "--unix-socket", "/run/lone.sock", "http://localhost/environ")
        found = {it["rule"]: it for it in json.loads(site.run(*argv, check=False).stdout)}
        assert "SDA032" not in found
        assert "SDA116" not in found
    finally:
        site.run("systemctl", "disable", "--now", "lone.socket", "other.service")
        site.run("rm", "-r", f"{UNITS}/lone.socket")


def test_a_file_that_is_missing_before_the_start(site: Machine) -> None:
    lines = "EnvironmentFile=/srv/none.env\nEnvironmentFile=-/srv/need-not-be.env\n"
    lines += "LoadCredential=key:/srv/none.key\n"
    site.write(f"{UNITS}/mysite.service.d/override.conf", f"[Service]\n{lines}")
    site.run("systemctl", "daemon-reload")
    argv = (*site.sdactivate, "doctor", "mysite", "--format", "json")
    found = json.loads(site.run(*argv, check=False).stdout)
    assert [(it["rule"], it["line"]) for it in found] == [("SDA128", 2), ("SDA128", 4)]
    assert all("the service can't be started" in it["because"] for it in found)
    site.run("touch", "/srv/none.env", "/srv/none.key")
    try:
        assert doctor(site) == {}
        assert status(site) == "200"
        site.run("rm", "/srv/none.env")
        found = json.loads(site.run(*argv, check=False).stdout)
        assert [it["because"] for it in found] == [
            "a file that this line names is missing: the service is running, but can't be started "
            "again"
        ]
        site.run("systemctl", "restart", "mysite.service", check=False)
        assert {*doctor(site)} & {"SDA110", "SDA128"} == {"SDA110"}  # told once
    finally:
        site.run("rm", "-f", "/srv/none.env", "/srv/none.key")


def test_a_mount_that_does_not_answer(site: Machine) -> None:
    """The doctor and `who` end, name it first, and find nothing once it is gone."""
    place = "/srv/closed/media"
    site.write(
        f"{UNITS}/mysite.service.d/override.conf", "[Service]\nEnvironment=MEDIA=/srv/media\n"
    )
    script = f"""
        mkdir -p {place}
        ln -sfn {place} /srv/media
        test -e /dev/fuse || mknod /var/tmp/fuse c 10 229
        systemctl daemon-reload
        systemd-run --quiet --unit=hangs --property=DevicePolicy=auto \
            {site.python} -c "$0" $(ls /dev/fuse /var/tmp/fuse 2>/dev/null) {place}
    """
    program = Path(refused.__file__).read_text().replace("sys.stdin.read()", "time.sleep(600)")
    site.run("sh", "-ec", script, program.replace("import sys", "import sys, time"))
    try:
        site.wait(lambda: site.succeeds("grep", "-q", place, "/proc/mounts"), "the mount")
        begun = time.monotonic()
        argv = (*site.sdactivate, "doctor", "mysite", "--format", "json")
        found = json.loads(site.run(*argv, check=False).stdout)
        said = site.run(*site.sdactivate, "who", "/srv/media/web.sock", check=False).stderr
        assert time.monotonic() - begun < 30
        assert [it["rule"] for it in found] == ["SDA146"]
        assert f"the file system at {place} (fuse, bad) does not answer" in found[0]["because"]
        assert "/srv/media is on it (Environment=)" in found[0]["because"]
        assert f"umount --lazy {place}" in found[0]["fix"]
        assert f"{place}: the mount does not answer (fuse)" in said
        assert site.succeeds("grep", "-q", place, "/proc/mounts")  # others see it as before
        site.run("umount", "--lazy", place)
        assert doctor(site) == {}
    finally:
        site.run("systemctl", "stop", "hangs.service", check=False)
        site.run("rm", "-f", "/srv/media", "/var/tmp/fuse")


def test_a_command_that_has_failed(site: Machine) -> None:
    """Another site's, a service that stays, and one that has not failed are none of this one's."""
    text = "[Service]\nType={}\nExecStart=/bin/sh -c 'echo no such table; exit {}'\n"
    kinds = {
        "mysite-migrate": ("oneshot", 3), "mysite-clear": ("oneshot", 0),
        "mysite-mail": ("exec", 3), "mysites-migrate": ("oneshot", 3),
    }  # fmt: skip
    for name, words in kinds.items():
        site.write(f"{UNITS}/{name}.service", text.format(*words))
    try:
        site.run("systemctl", "daemon-reload")
        for name in kinds:
            site.run("systemctl", "start", name, check=False)
        found = doctor(site)
        assert set(found) == {"SDA127"}
        assert found["SDA127"]["subject"] == "mysite-migrate.service"
        assert "exit code 3" in found["SDA127"]["because"]
        assert "no such table" in found["SDA127"]["because"]
        site.run("sh", "-c", "systemctl reset-failed mysite-migrate.service")
        assert doctor(site) == {}
    finally:
        site.run("sh", "-c", "systemctl reset-failed 'mysite*'")
        site.run("rm", *(f"{UNITS}/{name}.service" for name in kinds))


def test_a_header_that_is_not_believed_by_default(site: Machine) -> None:
    """In a front that somebody wrote by hand for an earlier version; nginx needn't have read it."""
    text = "location / { proxy_pass http://unix:/run/mysite.sock;\n"
    text += "proxy_set_header X-Forwarded-Host $host;\n}\n"
    site.write("/etc/nginx/snippets/by-hand.conf", text)
    try:
        found = doctor(site)
        assert set(found) == {"SDA118"}
        assert (
            "/etc/nginx/snippets/by-hand.conf sets X-Forwarded-Host" in found["SDA118"]["because"]
        )
        assert "SDACTIVATE_TRUST_HEADERS=X-Forwarded-Host" in found["SDA118"]["fix"]
        named = "[Service]\nEnvironment=SDACTIVATE_TRUST_HEADERS=X-Forwarded-Host\n"
        site.write(f"{UNITS}/mysite.service.d/override.conf", named)
        site.run("systemctl", "daemon-reload")
        assert doctor(site) == {}
    finally:
        site.run("rm", "/etc/nginx/snippets/by-hand.conf")


def test_the_packaged_default_server_answers_instead(site: Machine) -> None:
    enabled = "/etc/nginx/sites-enabled"
    kept = site.read("/etc/nginx/conf.d/mysite.conf")
    gen = (*site.sdactivate, "gen", "mysite", "--kind", "nginx")
    site.run("ln", "-s", "../sites-available/default", f"{enabled}/default")
    site.run("rm", "/etc/nginx/conf.d/mysite.conf")
    try:
        said = site.run(*gen)
        assert f"`rm {enabled}/default`, then `systemctl reload nginx.service`" in said.stderr
        site.write("/etc/nginx/conf.d/mysite.conf", said.stdout)
        site.run("systemctl", "restart", "nginx.service")
        assert ask(site, "localhost") == "404"  # nginx's own: no such file
        answer = site.run("curl", "-si", "http://localhost/environ").stdout
        assert symptoms.TABLE["SDA121"][0].words in answer.partition("\n")[0]
        found = doctor(site)
        assert set(found) == {"SDA121"}
        assert f"{enabled}/default, line 21," in found["SDA121"]["because"]
        site.run("sh", "-ec", f"{found['SDA121']['fix']}; {found['SDA121']['then']}")
        site.wait(lambda: ask(site, "localhost") == "200", "the site answers")
        assert doctor(site) == {}
        assert site.run(*gen).stderr == ""
    finally:
        site.run("rm", "-f", f"{enabled}/default")
        site.write("/etc/nginx/conf.d/mysite.conf", kept)


# The service


def test_a_service_that_can_t_start_says_why(site: Machine) -> None:
    drop_in_text = "[Service]\nExecStart=\nExecStart=/srv/nowhere/python -m sdactivate serve a:b\n"
    site.write(f"{UNITS}/mysite.service.d/50-broken.conf", drop_in_text)
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", "mysite.service", check=False)
    found = doctor(site)
    assert found["SDA110"]["because"].startswith("status=203/EXEC: the program doesn't exist")
    assert "No such file" in found["SDA113"]["because"]


def test_an_application_that_fails_has_its_last_words_shown(site: Machine) -> None:
    site.write(
        f"{UNITS}/mysite.service.d/50-broken.conf",
        f"[Service]\nExecStart=\nExecStart={site.python} -m sdactivate serve nowhere.wsgi:app\n",
    )
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", "mysite.service", check=False)
    assert "there is no module 'nowhere'" in doctor(site)["SDA110"]["because"]


def test_an_application_that_can_t_be_imported_is_seen_while_it_answers_503(site: Machine) -> None:
    broken = "[Service]\nEnvironment=DJANGO_SETTINGS_MODULE=nowhere\n"
    site.write(f"{UNITS}/mysite.service.d/override.conf", broken)
    site.run("systemctl", "daemon-reload")
    assert status(site) == "503"
    finding = doctor(site)["SDA110"]
    assert "ModuleNotFoundError: No module named 'nowhere'" in finding["because"]
    assert finding["fix"].startswith(
        "install the package that has the module, for the service's Python"
    )
    answer = site.run("curl", "-si", "http://localhost/environ").stdout
    assert symptoms.TABLE["SDA110"][0].words in answer.partition("\n")[0]


def test_a_program_that_its_user_can_t_reach(site: Machine) -> None:
    site.run("chmod", "750", "/srv/mysite")
    site.run("systemctl", "restart", "mysite.service", check=False)
    finding = doctor(site)["SDA113"]
    assert "or can't even enter it (status=200/CHDIR): /srv/mysite: others" in finding["because"]
    assert finding["fix"] == "chmod o+rx /srv/mysite"
    site.run("sh", "-ec", f"{finding['fix']}; systemctl restart mysite")
    assert doctor(site) == {}
    # x alone lets the service start, but Python lists what it imports from
    for path, rights, missing in (
        ("/srv/mysite/mysite", "711", "rx"),
        ("/srv/mysite/mysite/wsgi.py", "600", "r"),
        ("/srv", "700", "x"),
    ):
        site.run("sh", "-ec", f"rm -f /srv/mysite/mysite/__pycache__/wsgi.*; chmod {rights} {path}")
        assert site.run("systemctl", "restart", "mysite.service", check=False).returncode
        finding = doctor(site)["SDA113"]
        assert finding["fix"] == f"chmod o+{missing} {path}"
        site.run("sh", "-ec", f"{finding['fix']}; systemctl restart mysite")
        assert "SDA113" not in doctor(site)
        site.run("chmod", "a+r", path)


def test_a_program_in_a_home_directory_is_to_be_moved(site: Machine) -> None:
    # root's directory is not to be opened to everybody for the sake of a service
    site.run("mkdir", "-p", "-m", "700", "/root/bin")
    site.run("sh", "-ec", "chmod 700 /root; cp /bin/true /root/bin/serve")
    override = "[Service]\nProtectHome=no\nExecStart=\nExecStart=/root/bin/serve\n"
    site.write(f"{UNITS}/mysite.service.d/override.conf", override)
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "restart", "mysite.service", check=False)
    finding = doctor(site)["SDA113"]
    assert "/root: " in finding["because"]
    assert finding["fix"].startswith("/root is private: move the program to another place")
    assert not finding["safe"]
    # what fails of it is explained by it, and comes after it
    service = doctor(site)["SDA110"]
    assert [it["rule"] for it in service["explained_by"]] == ["SDA113", "SDA022"]


def test_another_command_that_fails_is_told_from_the_program(site: Machine) -> None:
    text = "[Service]\nExecStartPre=/bin/sh -c 'echo no moon tonight; exit 3'\n"
    site.write(f"{UNITS}/mysite.service.d/override.conf", text)
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", "mysite.service", check=False)
    because = doctor(site)["SDA110"]["because"]
    assert "a command other than ExecStart= failed" in because
    assert because.endswith("its last log line: no moon tonight")


def test_what_was_said_before_the_last_change_is_no_last_word(site: Machine) -> None:
    def broken(text: str) -> str:
        site.run("systemctl", "stop", "mysite.service")  # it says no more
        site.write(f"{UNITS}/mysite.service.d/override.conf", f"[Service]\n{text}")
        time.sleep(1.1)  # the journal is asked for whole seconds
        site.run("systemctl", "daemon-reload")
        site.run("systemctl", "restart", "mysite.service", check=False)
        return str(doctor(site)["SDA110"]["because"])

    assert "Failed to determine user credentials: No such process (User=nowhere)" in broken(
        "User=nowhere\nDynamicUser=no\n"
    )
    assert "last log line" not in broken("Type=exec\nExecStart=\nExecStart=/bin/false\n")
    # where no process was started, systemd itself has the word
    said = broken("EnvironmentFile=/nowhere\n")
    assert "a file of EnvironmentFile= can't be read: No such file or directory" in said
    assert said.endswith("(EnvironmentFile=/nowhere)")


def test_variables_that_have_changed_since_the_start(site: Machine) -> None:
    site.write("/etc/mysite.env", "TOKEN=hush\n")
    text = "[Service]\nEnvironmentFile=/etc/mysite.env\n"
    site.write(f"{UNITS}/mysite.service.d/override.conf", text)
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "restart", "mysite.service")
    assert doctor(site) == {}
    time.sleep(0.1)
    site.write("/etc/mysite.env", "TOKEN=hush again\n")
    finding = doctor(site)["SDA119"]
    assert "/etc/mysite.env was changed at" in finding["because"]
    assert "hush" not in str(finding)
    assert finding["fix"] == "systemctl restart mysite.service"
    site.run("systemctl", "restart", "mysite.service")
    assert doctor(site) == {}


def test_the_limit_of_triggers_takes_the_socket_with_it(site: Machine) -> None:
    text = "[Service]\nExecStart=\nExecStart=/bin/false\nRestart=no\nType=simple\n"
    site.write(f"{UNITS}/mysite.service.d/50-broken.conf", text)
    # so low that it is hit however slow the machine is
    low = "[Socket]\nTriggerLimitBurst=3\nTriggerLimitIntervalSec=10min\n"
    drop_in(site, "mysite.socket", low)
    knock = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/mysite.sock')"
    site.run(site.python, "-c", knock)
    site.wait(
        lambda: site.run("systemctl", "is-failed", "mysite.socket", check=False).returncode == 0,
        "a failed socket",
    )
    found = doctor(site)
    assert "SDA014" in found
    finding = found["SDA109"]
    assert "started too often" in finding["because"]
    assert (
        "last log line" not in found["SDA110"]["because"]
    )  # /bin/false has none, earlier starts had
    assert finding["fix"] == "systemctl restart mysite.socket"


def test_a_socket_for_a_group_that_isn_t_there_says_which(site: Machine) -> None:
    drop = "[Socket]\nSocketGroup=nowhere\n"
    site.write(f"{UNITS}/mysite.socket.d/override.conf", drop)
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "stop", "mysite.service", check=False)
    assert site.run("systemctl", "restart", "mysite.socket", check=False).returncode
    finding = doctor(site)["SDA109"]
    assert re.search("Failed to resolve group .?nowhere", finding["because"])
    assert finding["fix"] == "groupadd --system nowhere"
    site.run("sh", "-ec", _as_told(finding))
    assert set(doctor(site)) == {"SDA102"}  # and nginx isn't in it


def test_a_socket_without_its_service_is_not_told_to_start(site: Machine) -> None:
    socket = "[Socket]\nListenStream=/run/lone.sock\nSocketMode=0660\nSocketGroup=web\n"
    site.write(f"{UNITS}/lone.socket", f"{socket}[Install]\nWantedBy=sockets.target\n")
    site.run("systemctl", "daemon-reload")
    try:
        argv = (*site.sdactivate, "doctor", "lone", "--format", "json")
        (finding,) = json.loads(site.run(*argv, check=False).stdout)
        assert finding["rule"] == "SDA116"
        assert "lone.service is not-found" in finding["because"]
        assert not finding["safe"]
        site.write(f"{UNITS}/lone.service", "[Service]\nUser=alice\n")
        site.run("systemctl", "daemon-reload")
        finding, *others = json.loads(site.run(*argv, check=False).stdout)
        assert finding["rule"] == "SDA147"
        assert "systemd refuses lone.service: Service has no ExecStart=" in finding["because"]
        assert finding["fix"] == f"correct it in {UNITS}/lone.service"
        assert "SDA116" in {it["rule"] for it in others if it["explained_by"]}
        # what it says helps
        site.write(f"{UNITS}/lone.service", "[Service]\nUser=alice\nExecStart=/bin/sleep 600\n")
        site.run("sh", "-ec", finding["then"])
        found = site.run(*site.sdactivate, "doctor", "lone", "--ignore", "SDA018")
        assert found.stdout == "nothing found\n"
    finally:
        site.run("sh", "-c", f"systemctl disable --now lone.socket; rm {UNITS}/lone.*")


def test_a_runtime_directory_eats_the_socket(site: Machine) -> None:
    text = "[Socket]\nListenStream=\nListenStream=/run/mysite/s\n"
    drop_in(site, "mysite.socket", text)
    site.write(f"{UNITS}/mysite.service.d/50.conf", "[Service]\nRuntimeDirectory=mysite\n")
    site.run("systemctl", "daemon-reload")
    assert "SDA009" in doctor(site)
    site.run("sh", "-c", "systemctl start mysite.service; systemctl stop mysite.service")
    assert doctor(site)["SDA101"]["because"].endswith("is gone: no client can connect")


def test_a_wrapper_that_forks_is_found_and_fails(site: Machine) -> None:
    line = f"ExecStart=/bin/sh -c '{site.python} -m sdactivate serve mysite.wsgi:application; true'"
    site.write(f"{UNITS}/mysite.service.d/50.conf", f"[Service]\nExecStart=\n{line}\n")
    site.run("systemctl", "daemon-reload")
    assert site.run("systemctl", "start", "mysite.service", check=False).returncode
    finding = doctor(site)["SDA019"]
    assert (finding["line"], finding["text"]) == (3, line)


# Causes: what a service does to its socket, what systemd can't start, what the sandbox refuses

_LISTENING = """\
import asyncio, socket
async def main():
    await asyncio.start_unix_server(print, sock=socket.socket(fileno=3))
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_what_a_server_does_to_its_backlog_is_no_change_by_hand(site: Machine) -> None:
    """asyncio listens on an inherited socket with room for 100, as uvicorn and hypercorn do."""
    site.write("/srv/mysite/listening.py", _LISTENING)
    command = f"ExecStart=\nExecStart={site.python} /srv/mysite/listening.py"
    text = f"[Service]\n{command}\nType=exec\nSystemCallFilter=listen\n"
    drop_in(site, "mysite.service", f"{text}# sdactivate: ignore=SDA112 a test\n")
    try:
        site.wait(lambda: doctor(site), "its listen()")
        found = doctor(site)
        assert set(found) == {"SDA123"}
        because = found["SDA123"]["because"]
        assert "with a backlog of 100 instead of the 4096 that" in because
        assert not found["SDA123"]["safe"]
    finally:
        site.run("rm", "/srv/mysite/listening.py")


def test_a_masked_service_is_what_is_wrong_with_its_socket(site: Machine) -> None:
    site.run("sh", "-ec", f"mv {UNITS}/mysite.service /root; systemctl mask mysite.service")
    try:
        found = doctor(site)
        assert set(found) == {"SDA122"}
        assert found["SDA122"]["because"].startswith("mysite.service is masked")
        knock = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/mysite.sock')"
        site.run(site.python, "-c", knock)
        site.wait(lambda: site.show("mysite.socket", "ActiveState") == "failed", "its failure")
        found = doctor(site)
        assert list(found) == ["SDA122", "SDA109"]
        assert found["SDA109"]["explained_by"] == [{"rule": "SDA122", "subject": "mysite.socket"}]
        # what is said helps
        site.run("sh", "-ec", f"{found['SDA122']['fix']}; mv /root/mysite.service {UNITS}")
        site.run("sh", "-ec", f"systemctl daemon-reload; {found['SDA122']['then']}")
        assert set(doctor(site)) <= {"SDA111"}
        assert status(site) == "200"
    finally:
        script = f"systemctl unmask mysite.service; mv /root/mysite.service {UNITS} || true"
        site.run("sh", "-c", f"{script}; systemctl daemon-reload")


_REFUSED = """\
import socket
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/tcp":
        socket.create_connection(("127.0.0.1", 9))
    if path == "/file":
        open("/srv/mysite/upload", "w")
    start_response("500 Silent" if path == "/silent" else "200 OK", [])
    return [b""]
"""


def test_what_the_sandbox_refuses_is_named_and_what_is_silent_counted(site: Machine) -> None:
    site.write("/srv/mysite/refused.py", _REFUSED)
    line = f"{site.python} -m sdactivate serve refused:application"
    text = f"[Service]\nExecStart=\nExecStart={line}\n# sdactivate: ignore=SDA112 x\n"
    drop_in(site, "mysite.service", text)
    try:
        for path in ("/tcp", "/file", "/silent", "/"):
            site.run("curl", "-s", f"http://localhost{path}", check=False)
        argv = (*site.sdactivate, "doctor", "mysite", "--format", "json")
        found = json.loads(site.run(*argv, check=False).stdout)
        told = {it["text"] or it["rule"]: it for it in found}
        assert set(told) == {"RestrictAddressFamilies=AF_UNIX", "ProtectSystem=strict", "SDA125"}
        assert {it["rule"] for it in found} == {"SDA124", "SDA125"}
        assert told["SDA125"]["because"].startswith("a request was answered 5xx")
        said = site.journal("mysite.service")
        for rule in ("SDA124", "SDA125"):
            assert all(it.words in said for it in symptoms.TABLE[rule])
        file = told["ProtectSystem=strict"]
        assert "Read-only file system: '/srv/mysite/upload'" in file["because"]
        assert file["fix"].endswith("ReadWritePaths=/srv/mysite")
        # what is said helps: the page that failed is refused by nobody any more
        network = told["RestrictAddressFamilies=AF_UNIX"]
        site.run("sh", "-ec", _as_told(network))
        site.run("curl", "-s", "http://localhost/tcp", check=False)
        assert "SDA124" not in doctor(site)
    finally:
        site.run("rm", "/srv/mysite/refused.py")


def test_a_server_that_is_never_ready_is_explained_and_fixed(site: Machine) -> None:
    """Its name says that it never tells systemd: uvicorn, hypercorn, daphne."""
    site.write("/srv/mysite/uvicorn", "#!/bin/sh\nexec sleep 600\n", 0o755)
    line = "ExecStart=\nExecStart=/srv/mysite/uvicorn\nType=notify\nTimeoutStartSec=300ms"
    site.write(f"{UNITS}/mysite.service.d/override.conf", f"[Service]\n{line}\nRestart=no\n")
    site.run("systemctl", "daemon-reload")
    assert site.run("systemctl", "restart", "mysite.service", check=False).returncode
    try:
        found = doctor(site)
        assert list(found)[:2] == ["SDA025", "SDA110"]
        assert found["SDA110"]["explained_by"] == [{"rule": "SDA025", "subject": "mysite.service"}]
        said = site.run(*site.sdactivate, "doctor", "mysite", "--fix", "--yes", check=False).stderr
        assert "SDA025 mysite.service: gone" in said
        assert "mysite.service has changed; to apply it, run: systemctl restart" in said
        site.run("systemctl", "restart", "mysite.service")
        # nginx speaks SCGI to what is called uvicorn
        assert set(doctor(site)) <= {"SDA112", "SDA140"}
    finally:
        site.run("rm", "/srv/mysite/uvicorn")


def test_a_site_that_serves_from_a_mount_of_its_own_is_left_alone(site: Machine) -> None:
    """/root is closed to its user, and shows it nothing but what is bound there."""
    script = "chmod 700 /root; mkdir -p /root/py; ln -sfn /usr/bin/python3 /root/py/python"
    site.run("sh", "-ec", script)
    packages = site.run("sh", "-c", "echo /opt/sdactivate/lib/python3*/site-packages").stdout
    lines = f"ProtectHome=tmpfs\nBindReadOnlyPaths=/root/py\nEnvironment=PYTHONPATH={packages}"
    line = "ExecStart=\nExecStart=/root/py/python -m sdactivate serve mysite.wsgi:application"
    drop_in(site, "mysite.service", f"[Service]\n{lines}{line}\n")
    assert status(site) == "200"
    assert not {"SDA022", "SDA113"} & set(doctor(site))
    site.run("systemctl", "stop", "mysite.service")
    assert not {"SDA022", "SDA113"} & set(doctor(site))


# Others who can connect


@php.needs_php
def test_php_as_the_front_s_user_is_found_and_the_rule_for_peers_fixes_it(site: Machine) -> None:
    php.start(site)
    site.run("systemctl", "restart", "nginx.service")
    found = doctor(site)
    assert set(found) == {"SDA105"}
    finding = found["SDA105"]
    assert finding["subject"] == php.UNIT
    assert "bypass the front's authentication" in finding["because"]
    assert finding["because"].endswith("; with gen or install: --allow-peer unit:nginx.service")
    assert "Environment=SDACTIVATE_ALLOW_PEER=unit:nginx.service" in finding["fix"]
    assert php.connect(site).startswith("answered")
    site.run("sh", "-ec", _as_told(finding))
    assert doctor(site) == {}
    assert php.connect(site) == "closed"
    assert status(site) == "200"


@php.needs_php
def test_who_says_that_php_bypasses_the_front(site: Machine) -> None:
    php.start(site)
    text = site.run(*site.sdactivate, "who", "mysite").stdout
    assert "  group web: bob, www-data\n" in text
    (line,) = (line for line in text.splitlines() if php.UNIT in line)
    assert line.startswith("  yes")
    assert line.endswith("; it can bypass the front")
    (line,) = (line for line in text.splitlines() if "nginx.service" in line)
    assert "goes round" not in line


def test_who_sees_what_listens_behind_a_link(site: Machine) -> None:
    """On overlayfs too, where stat(2) shows another device than the kernel has of the socket."""
    drop_in(site, "mysite.socket", "[Socket]\nListenStream=/srv/closed/mysite.sock\n")
    site.run("ln", "-sfn", "/srv/closed", "/srv/closed/here")
    text = site.run(*site.sdactivate, "who", "/srv/closed/here/mysite.sock").stdout
    assert text.startswith("/srv/closed/here/mysite.sock: listening, ")


def test_who_groups_running_processes_by_unit_and_proves_it(site: Machine) -> None:
    site.write(
        f"{UNITS}/other.service",
        "[Service]\nUser=alice\nExecStart=/bin/sleep 600\nPrivateTmp=yes\n",
    )
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", "other.service")
    done = site.run(*site.sdactivate, "who", "mysite", "--prove", "--format", "json")
    (report,) = json.loads(done.stdout)
    units = {it["unit"]: it for it in report["processes"]}
    assert units["nginx.service"]["allowed"] is True
    assert units["other.service"]["allowed"] is False
    assert units["other.service"]["proof"] == "EACCES"
    accounts = {it["name"]: it["allowed"] for it in report["accounts"]}
    assert accounts["www-data"] is True
    assert accounts["mysite"] is False
    everyone = report["processes"] + report["accounts"]
    assert not any(it["differs"] for it in everyone)


# What the front has logged, and the queue


def test_the_front_s_log_is_understood(site: Machine) -> None:
    missing_group(site)
    assert status(site) == "502"
    finding = doctor(site)["SDA111"]
    assert "because it was not allowed to: its clients got 502" in finding["because"]
    assert "(13: Permission denied)" in finding["because"]


def test_a_queue_that_fills_up_is_seen(site: Machine) -> None:
    text = "[Service]\nExecStart=\nExecStart=/bin/sleep 600\nType=simple\n"
    drop_in(site, "mysite.socket", "[Socket]\nBacklog=16\n# sdactivate: ignore=SDA015 a test\n")
    drop_in(site, "mysite.service", text)
    knock = (
        "import socket, sys\n"
        "all = [socket.socket(socket.AF_UNIX) for _ in range(12)]\n"
        "for s in all: s.connect('/run/mysite.sock')\n"
        "print('there', flush=True); sys.stdin.readline()\n"
        "more = [socket.socket(socket.AF_UNIX) for _ in range(6)]\n"
        "for s in more: s.setblocking(False); s.connect_ex('/run/mysite.sock')\n"
        "print('full', flush=True); sys.stdin.read()"
    )
    with site.popen(site.python, "-c", knock, stdin=-1, stdout=-1) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "there\n"
        found = doctor(site)
        assert crowd.stdin is not None
        crowd.stdin.write("more\n")
        crowd.stdin.flush()
        assert crowd.stdout.readline() == "full\n"
        assert status(site) == "502"
        crowd.communicate("")
    full = symptoms.TABLE["SDA107"][0].words
    assert full in site.read("/var/log/nginx/error.log")
    assert found["SDA107"]["because"].startswith("12 of at most ")


def test_clients_that_wait_are_dropped_where_the_socket_is_flushed(site: Machine) -> None:
    drop_in(site, "mysite.socket", "[Socket]\nFlushPending=yes\n")
    text = "[Service]\nExecStart=\nExecStart=/bin/sleep 600\nType=exec\nRestart=no\n"
    site.write(f"{UNITS}/mysite.service.d/override.conf", text)
    site.run("systemctl", "daemon-reload")
    with site.popen("curl", "-s", "-m", "60", "http://localhost/", stdout=-1) as client:
        site.wait(lambda: site.show("mysite.service", "ActiveState") == "active", "a client")
        site.run("systemctl", "stop", "mysite.service")
        answer = client.communicate()[0]
    assert "502 Bad Gateway" in answer
    (symptom,) = symptoms.TABLE["SDA011"]
    assert symptom.words in site.read("/var/log/nginx/error.log")


def test_a_kernel_that_shortens_the_backlog(site: Machine) -> None:
    before = site.read("/proc/sys/net/core/somaxconn").strip()
    site.run("sysctl", "-w", "net.core.somaxconn=64")
    site.run("systemctl", "restart", "mysite.socket")
    found = doctor(site)
    site.run("sysctl", "-w", f"net.core.somaxconn={before}")
    assert "net.core.somaxconn allows no more" in found["SDA108"]["because"]


# Other people's units


def test_templates_and_drop_ins_are_merged_as_systemd_does(site: Machine) -> None:
    site.write(f"{UNITS}/many@.socket", "[Socket]\nListenStream=/run/many-%i.sock\n")
    site.write(f"{UNITS}/many@.service", "[Service]\nUser=alice\nExecStart=/bin/sleep 600\n")
    site.write(f"{UNITS}/many@.socket.d/a.conf", "[Socket]\nSocketMode=0660\nSocketGroup=web\n")
    site.write(f"{UNITS}/many@7.socket.d/b.conf", "[Socket]\nSocketMode=0666\n")
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", "many@7.socket", "many@8.socket")
    try:
        argv = [*site.sdactivate, "doctor", "many@7", "--format", "json", "--ignore", "SDA018"]
        (finding,) = json.loads(site.run(*argv, check=False).stdout)
        assert finding["rule"] == "SDA002"
        assert finding["file"] == f"{UNITS}/many@7.socket.d/b.conf"
        argv = [*site.sdactivate, "doctor", "many@8", "--ignore", "SDA018"]
        assert site.run(*argv).stdout == "nothing found\n"
    finally:
        site.run("sh", "-c", f"systemctl stop 'many@*'; rm -r {UNITS}/many@*")


def test_units_with_escapes_in_their_names_are_found_with_all_that_is_theirs(site: Machine) -> None:
    """systemctl quotes these, but only in lists."""
    name = r"my\x20site"
    socket = "[Socket]\nListenStream=/run/my site/s\nSocketMode=0660\nSocketGroup=web\n"
    service = "[Service]\nUser=alice\nExecStart=/bin/sleep 600\n"
    site.write(f"{UNITS}/{name}.socket", socket)
    site.write(f"{UNITS}/{name}.socket.d/a.conf", "[Socket]\nFlushPending=yes\n")
    site.write(f"{UNITS}/{name}.service", f"[Unit]\nRequires={name}.socket\n{service}")
    site.write(f"{UNITS}/{name}.service.d/a.conf", "[Service]\nUser=root\n")
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "start", f"{name}.socket")
    try:
        done = site.run(*site.sdactivate, "doctor", name, "--format", "json", check=False)
        assert [it["rule"] for it in json.loads(done.stdout)] == ["SDA020", "SDA011"]
        done = site.run(*site.sdactivate, "who", name, "--as", "bob", "--prove")
        assert "/run/my site/s: group web has rw-; proven: connected" in done.stdout
    finally:
        site.run("sh", "-c", f"systemctl stop '{name}.socket'; rm -r {UNITS}/my?x20*")


@php.needs_php
def test_php_fpm_s_own_unit_is_examined_too(site: Machine) -> None:
    done = site.run(*site.sdactivate, "doctor", php.UNIT, "--format", "json", check=False)
    assert json.loads(done.stdout) == []


def test_the_page_shows_each_stop_of_the_running_system(site: Machine, tmp_path: Path) -> None:
    closed_directory(site)
    site.run(*site.sdactivate, "doctor", "mysite", "--html", "/root/page.html", check=False)
    page = Strict()
    page.feed(site.read("/root/page.html"))
    assert page.open == []
    text = "".join(page.text)
    stops = ["Client", "nginx.service, ", "root:root rwxr-x---", "Sandbox"]
    places = [text.index(stop) for stop in stops]
    assert places == sorted(places)
    assert "Exposure: 0.2 of 10" in text
    assert "setfacl -m g:www-data:x /srv/closed" in text
    assert all(it.startswith("#") for it in page.addresses)
    assert "its configuration does not name this socket" in text
    # The finding is marked at the directory that refuses, and at the front
    assert text.count("error SDA102") == 3
    if CHROMIUM is not None:  # and as a browser lays it out
        copy = tmp_path / "page.html"
        copy.write_text(site.read("/root/page.html"))
        shown = measure(copy, str(tmp_path / "profile"), 1000)
        assert (int(shown["stops"]) > 6, shown["scrolls"], shown["hidden"]) == (True, "no", "0")


def test_what_takes_no_connections_is_left_out(site: Machine) -> None:
    """journald's sockets of datagrams: nothing listens behind their files."""
    done = site.run(*site.sdactivate, "doctor", "systemd-journald", "--format", "json", check=False)
    assert "SDA101" not in {it["rule"] for it in json.loads(done.stdout)}
    done = site.run(*site.sdactivate, "who", "systemd-journald-dev-log", check=False)
    assert done.returncode == 1
    assert "it accepts no connections" in done.stderr


def test_what_systemd_doesn_t_know_is_said(site: Machine) -> None:
    done = site.run(*site.sdactivate, "doctor", "no-such-site", check=False)
    assert done.returncode == 1
    for unit in ("no-such-site.socket", "no-such-site.service"):
        assert f"{unit}: systemd has not loaded it (not-found)" in done.stderr
    done = site.run(*site.sdactivate, "doctor", "mysite@", check=False)
    assert (done.returncode, "name an instance" in done.stderr) == (2, True)
    for verb in ("doctor", "who"):
        done = site.run(*site.sdactivate, verb, "my*", check=False)
        assert done.returncode == 2
        assert "a pattern can match several units; name one unit" in done.stderr
    done = site.run(*site.sdactivate, "doctor", f"{UNITS}/mysite.socket", check=False)
    assert "--offline reads the file" in done.stderr
    done = site.run(*site.sdactivate, "doctor", "mysite", user="nobody", check=False)
    assert done.returncode == 1
    assert "use sudo, or --offline" in done.stderr


# HAProxy: another root, and none of its groups

needs_haproxy = pytest.mark.skipif(
    not (ROOT / "usr/sbin/haproxy").exists(), reason="HAProxy is what is tried; script/setup has it"
)
_HAPROXY = """
global
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend site
    bind 127.0.0.1:82
    default_backend site
backend site
    server site unix@/mysite.sock
"""


@needs_haproxy
def test_haproxy_without_its_primary_group_and_outside_its_root(site: Machine) -> None:
    site.run("systemctl", "stop", "nginx.service")
    site.write("/etc/haproxy/haproxy.cfg", _HAPROXY)
    site.run("usermod", "-aG", "web", "haproxy")
    site.run("systemctl", "restart", "haproxy.service")
    try:
        # the socket is where it can't be seen from the chroot
        finding = doctor(site)["SDA106"]
        assert "they run in the chroot /var/lib/haproxy" in finding["because"]
        assert "ListenStream=/var/lib/haproxy/run/mysite.sock" in finding["fix"]
        # it is inside, but of a group that the account has and the processes have dropped
        inside = "[Socket]\nListenStream=\nListenStream=/var/lib/haproxy/mysite.sock\n"
        drop_in(site, "mysite.socket", inside)
        found = {it: finding for it, finding in doctor(site).items() if it != "SDA111"}
        assert set(found) == {"SDA102"}
        assert "/mysite.sock: others have ---" in found["SDA102"]["because"]
        assert "SocketGroup=haproxy" in found["SDA102"]["fix"]
        # and of its primary group: all is well
        drop_in(site, "mysite.socket", f"{inside}SocketGroup=haproxy\n")
        assert set(doctor(site)) <= {"SDA111"}
        url = "http://localhost:82/environ"
        code = site.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url).stdout
        assert code == "200"
    finally:
        site.run("systemctl", "stop", "haproxy.service", "mysite.socket")
        site.run("gpasswd", "-d", "haproxy", "web")


@needs_haproxy
@pytest.mark.parametrize(
    ("asked", "place", "fix"),
    [
        # another name than the socket's, inside its root
        ("unix@/my-site.sock", "/var/lib/haproxy/mysite.sock", "write /mysite.sock instead of"),
        # the socket is outside of its root, and it is asked for as if there were none
        ("/run/mysite.sock", "/run/mysite.sock", "ListenStream=/var/lib/haproxy/run/mysite.sock"),
        ("127.0.0.1:8000", "/var/lib/haproxy/mysite.sock", "write /mysite.sock instead of port"),
    ],
)
def test_haproxy_asks_for_a_socket_that_nobody_listens_at(
    site: Machine, asked: str, place: str, fix: str
) -> None:
    site.run("systemctl", "stop", "nginx.service")
    own = f"[Socket]\nListenStream=\nListenStream={place}\nSocketGroup=haproxy\n"
    drop_in(site, "mysite.socket", own)
    text = _HAPROXY.replace("unix@/mysite.sock", f"{asked} check")
    site.write("/etc/haproxy/haproxy.cfg", text)
    # Its first check fails before systemd calls it started
    drop_in(site, "haproxy.service", "[Service]\nExecStartPost=/bin/sleep 1\n")
    curl = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://localhost:82/environ")
    try:
        site.wait(lambda: "DOWN" in site.journal("haproxy.service"), "a check that fails")
        assert site.run(*curl).stdout == "503"
        found = doctor(site)
        assert "SDA126" in found
        finding = found["SDA126"]
        assert finding["subject"] == "haproxy.service"
        assert (
            "(/etc/haproxy/haproxy.cfg, line 15), where nothing listens; it has failed "
            in (finding["because"])
        )
        assert fix in finding["fix"]
        assert [it["rule"] for it in finding["explained_by"]] == ["SDA106"] * (asked[0] == "/")
        # what is said helps
        if asked[0] == "/":
            drop_in(site, "mysite.socket", own.replace("/run/", "/var/lib/haproxy/run/"))
        else:
            site.write("/etc/haproxy/haproxy.cfg", text.replace(asked, "unix@/mysite.sock"))
            site.run("systemctl", "reload", "haproxy.service")
        assert "SDA126" not in doctor(site)
        site.wait(lambda: site.run(*curl).stdout == "200", "the site answers")
    finally:
        site.run("systemctl", "stop", "haproxy.service", "mysite.socket")
        site.run("sh", "-c", "rm -rf /var/lib/haproxy/run /var/lib/haproxy/mysite.sock")


# Dynamic users: no name without NSS, nothing of their own elsewhere

_NAMED = """\
import os, pwd
def application(environ, start_response):
    name = pwd.getpwuid(os.getuid()).pw_name
    start_response("200 OK", [])
    return [name.encode()]
"""


def test_a_dynamic_user_without_a_name_is_found_and_given_one(site: Machine) -> None:
    """With the packaged nsswitch.conf of a system without libnss-systemd: files alone."""
    site.write("/srv/mysite/named.py", _NAMED)
    line = f"{site.python} -m sdactivate serve named:application"
    text = f"[Service]\nExecStart=\nExecStart={line}\n# sdactivate: ignore=SDA112 x\n"
    kept = site.read("/etc/nsswitch.conf")
    before = re.sub(r"(?m)^(passwd|group):.*", r"\1: files", kept)
    site.write("/etc/nsswitch.conf", before)
    drop_in(site, "mysite.service", text)
    script = "id mysite; chown mysite /root; whoami; ssh localhost; true"
    run = "systemd-run -q --wait --pipe -p DynamicUser=yes"
    try:
        said = site.run("sh", "-c", f'{run} sh -c "{script}" 2>&1', check=False).stdout
        said += site.run("curl", "-s", "http://localhost/", check=False).stdout
        said += site.journal("mysite.service")
        for symptom in symptoms.TABLE["SDA129"]:
            assert symptom.words in said, symptom
        found = doctor(site)
        assert list(found) == ["SDA129", "SDA145"]
        assert found["SDA145"]["explained_by"][0]["rule"] == "SDA129"
        because = found["SDA129"]["because"]
        assert "Looking up that name failed once" in because
        assert "getpwuid(): uid not found: 6" in because
        site.run("sh", "-ec", _as_told(found["SDA129"]))
        assert site.run("curl", "-sSf", "http://localhost/").stdout == "mysite"
        assert doctor(site) == {}
    finally:
        site.write("/etc/nsswitch.conf", kept)
        site.run("rm", "/srv/mysite/named.py")


_WRITES = """\
def application(environ, start_response):
    open("/srv/closed/upload", "w").close()
    start_response("200 OK", [])
    return [b""]
"""


def test_what_a_dynamic_user_is_to_write_elsewhere(site: Machine) -> None:
    """A directory of root's, one of a dynamic user's that is gone, one of a group's: the fix."""
    site.write("/srv/mysite/writes.py", _WRITES)
    site.run("mkdir", "/srv/closed")
    line = f"{site.python} -m sdactivate serve writes:application"
    text = f"[Service]\nExecStart=\nExecStart={line}\nReadWritePaths=/srv/closed\n"
    text += "# sdactivate: ignore=SDA112 x\n"
    drop_in(site, "mysite.service", text)
    curl = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://localhost/")
    try:
        assert site.run(*curl).stdout == "500"
        said = site.journal("mysite.service")
        assert all(it.words in said for it in symptoms.TABLE["SDA130"])
        found = doctor(site)
        assert list(found) == ["SDA130", "SDA145"]
        assert found["SDA145"]["explained_by"][0]["rule"] == "SDA130"
        assert "chown" not in found["SDA145"]["fix"]
        because = found["SDA130"]["because"]
        assert because.startswith("mysite can't write to /srv/closed: /srv/closed: others have r-x")
        assert found["SDA130"]["text"] == "ReadWritePaths=/srv/closed"
        site.run("chown", "-R", "61999:61999", "/srv/closed")
        assert "belongs to a dynamic user (61999)" in doctor(site)["SDA130"]["because"]
        # its own for as long as it runs, and no longer
        pid = site.show("mysite.service", "MainPID")
        site.run("chown", "--reference", f"/proc/{pid}", "/srv/closed")
        assert site.run(*curl).stdout == "200"
        assert "SDA130" in doctor(site)
        # what is said helps: a group that may write, and the service in it
        site.run("sh", "-ec", "chown -R root:web /srv/closed; chmod 2775 /srv/closed")
        site.run("rm", "/srv/closed/upload")
        drop_in(site, "mysite.service", f"{text}SupplementaryGroups=web\n")
        assert site.run(*curl).stdout == "200"
        assert doctor(site) == {}
        # or an ACL, as gen --uploads has it; what is written there is then the dynamic user's
        site.run("sh", "-ec", "chown -R root:root /srv/closed; chmod 755 /srv/closed")
        site.run("setfacl", "-m", "g:web:rwx", "/srv/closed")
        site.run("rm", "/srv/closed/upload")
        assert site.run(*curl).stdout == "200"
        assert doctor(site) == {}
        site.run("setfacl", "-b", "/srv/closed")
        # nor does it accuse where something below is the service's to write, or while it is down
        site.run("sh", "-ec", "chown root:root /srv/closed; chmod 755 /srv/closed")
        assert doctor(site) == {}
        site.run("systemctl", "stop", "mysite.service")
        assert doctor(site) == {}
    finally:
        site.run("rm", "/srv/mysite/writes.py")


def test_a_socket_for_the_group_of_a_dynamic_user(site: Machine) -> None:
    """groupadd, which helps with other groups, would keep the service from starting."""
    site.write(f"{UNITS}/mysite.socket.d/override.conf", "[Socket]\nSocketGroup=mysite\n")
    site.run("systemctl", "daemon-reload")
    assert site.run("systemctl", "restart", "mysite.socket", check=False).returncode
    found = doctor(site)
    assert list(found)[:2] == ["SDA037", "SDA109"]
    assert found["SDA109"]["explained_by"] == [{"rule": "SDA037", "subject": "mysite.socket"}]
    assert found["SDA037"]["fix"] == found["SDA109"]["fix"]
    site.run("sh", "-ec", _as_told(found["SDA037"]))
    assert set(doctor(site)) <= {"SDA111"}
    assert status(site) == "200"


# The other fronts: refused, as they log it themselves


@pytest.mark.parametrize("front", ["apache", "lighttpd", "caddy"])
def test_a_refused_front_s_own_words_are_understood(site: Machine, front: str) -> None:
    if not (ROOT / "usr" / "sbin" / PROGRAM[front]).exists() and not shutil.which(
        PROGRAM[front], path=ROOT / "usr/bin"
    ):
        pytest.skip(f"{front} is what is tried; script/setup has it")
    setup, packaging = SETUP[front], FRONTS[front].packaging["debian"]
    site.run("systemctl", "stop", "nginx.service")
    site.run("gpasswd", "-d", "www-data", "web")
    site.run("sh", "-ec", setup.install)
    text = site.run(*site.sdactivate, "gen", "mysite", "--kind", front, "--server-name", "a.test")
    site.write(setup.path or packaging.config.replace("NAME", "mysite"), text.stdout)
    site.run("sh", "-ec", f"{setup.enable or ':'}; systemctl restart {packaging.unit}")
    try:
        assert ask(site, "a.test") == str(FRONTS[front].failures.status)
        found = doctor(site)
        assert set(found) == {"SDA102", "SDA111"}
        assert found["SDA102"]["subject"] == packaging.unit
        assert "because it was not allowed to" in found["SDA111"]["because"]
        site.run("sh", "-ec", _as_told(found["SDA102"]))
        assert ask(site, "a.test") == "200"
        assert set(doctor(site)) <= {"SDA111"}
    finally:
        site.run("systemctl", "stop", packaging.unit)
        site.run("gpasswd", "-d", packaging.user, "web", check=False)


# The reader of unit files, held against systemd's own


@pytest.mark.parametrize(
    "lines",
    [
        "Description=a b  c \n",
        "Description=one \\\n  two\\\n# no\n; no\n three\n",
        "Description=one\\\n\nDocumentation=man:x\n",
        "Description = x\n[Service]\nDescription=wrong\n[Unit]\n",
        "Description=first\nDescription=second\n",
        "Description=first\nDescription=\n",
        "Description=\"quoted\" 'too'\n",
        "Description=hash # stays\n",
        "  Description\t=\tindented\n",
        "Description=ends\\\\\n",
        "\ufeffDescription=no\n",
        "Description=cr\r\n",
        "Description=cr alone\rDocumentation=man:x\n",
        "Description=nul\0Documentation=man:x\n",
        "Description=one\\\r\n two\n",
        "Nonsense\n=no\n[Unit\nDescription=after nonsense\n",
    ],
)
def test_units_are_read_as_systemd_reads_them(machine: Machine, lines: str) -> None:
    text = f"[Unit]\n{lines}[Service]\nExecStart=/bin/true 'a b' \"c\\x20d\" e\\\n f\n"
    machine.write(f"{UNITS}/probe.service", text)
    machine.run("systemctl", "daemon-reload")
    theirs = machine.run("systemctl", "show", "-P", "Description", "probe.service").stdout[:-1]
    unit = Unit("probe.service", [parse(text, "f")], ["f"])
    assert unit.value("Description", "probe.service", "Unit") == theirs
    if "[Unit\n" not in lines:  # then systemd refuses the file
        argv = machine.run("systemctl", "show", "-P", "ExecStart", "probe.service").stdout
        assert f"argv[]={' '.join(split(unit.value('ExecStart')))} ;" in argv


# What a directive is worth that systemd can't read: nothing, and the one before holds
_SOCKET_VALUES = (
    ("SocketMode", "0600", ("", "0999", "rw", "8", "u=rw", "007777", "0x1ff", "77777")),
    ("Backlog", "77", ("", "-", "many", "5 ")),
    ("FlushPending", "yes", ("", "maybe", "OFF", "f")),
    ("Accept", "no", ("", "2")),
    ("TriggerLimitBurst", "7", ("", "x")),
)


def test_values_are_passed_over_as_systemd_passes_over_them(machine: Machine) -> None:
    tried = [(key, good, odd) for key, good, all_ in _SOCKET_VALUES for odd in all_]
    for number, (key, good, odd) in enumerate(tried):
        text = f"[Socket]\nListenStream=/run/odd{number}\n{key}={good}\n{key}={odd}\n"
        machine.write(f"{UNITS}/odd{number}.socket", text)
        machine.write(f"{UNITS}/odd{number}.service", "[Service]\nExecStart=/bin/true\n")
    machine.run("systemctl", "daemon-reload")
    for number, (key, good, odd) in enumerate(tried):
        shown = machine.show(f"odd{number}.socket", key)
        text = f"[Socket]\n{key}={good}\n{key}={odd}\n"
        unit = Unit("odd.socket", [parse(text, "f")], ["f"])
        ours = unit.value(key)
        if key in ("FlushPending", "Accept"):
            assert shown == ("yes" if unit.is_on(key) else "no"), (key, odd)
        else:
            base = 8 if key == "SocketMode" else 10
            assert int(shown, base) == int(ours, base), (key, odd)
    machine.run("sh", "-c", f"rm {UNITS}/odd*")


# What gen writes, in many forms, all at once

COMBINATIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "modes": ("--mode", "0600", "--user", "www-data"),
    "static-user": ("--run-as", "alice"),
    "peers": ("--allow-peer", "unit:nginx.service"),
    "peer-users": ("--allow-peer", "user:www-data group:web"),
    "two-sockets": ("--listen", "/run/two-a.sock", "--listen", "admin=/run/two-b.sock"),
    "limits": ("--memory-max", "512M", "--cpu-quota", "50%", "--tasks-max", "64"),
    "processes": ("--workers", "2", "--threads", "4", "--idle-timeout", "10min"),
    "own-directory": ("--writable", "/run/own"),
    "flup": ("--server", "flup", "--protocol", "scgi"),
}


def test_nothing_is_found_on_what_gen_writes_in_many_forms(site: Machine) -> None:
    app = ("--app", "mysite.wsgi:application", "--chdir", "/srv/mysite", "--python", site.python)
    script = "set -e; export PATH=/opt/sdactivate/bin:$PATH; mkdir -p -m 1777 /run/own\n"
    for name, options in COMBINATIONS.items():
        words = shlex.join(["--group", "www-data", *app, *options])
        script += f"sdactivate gen {name} --kind all --no-comments --out /run/gen {words}\n"
    script += f"cp -r /run/gen/* {UNITS}; systemctl daemon-reload\n"
    site.run("sh", "-c", script)
    sockets = [f"{name}.socket" for name in COMBINATIONS]
    try:
        site.run("systemctl", "start", *sockets)
        site.run("systemctl", "start", *(f"{name}.service" for name in COMBINATIONS))
        argv = ("doctor", *COMBINATIONS)
        assert site.run(*site.sdactivate, *argv, check=False).stdout == "nothing found\n"
        argv = ("doctor", "--offline", "/run/gen")
        assert site.run(*site.sdactivate, *argv, check=False).stdout == "nothing found\n"
    finally:
        units = " ".join([*sockets, *(f"{name}.service" for name in COMBINATIONS)])
        site.run(
            "sh", "-c", f"systemctl stop {units}; cd /run/gen && rm -rf $(ls | sed 's,^,{UNITS}/,')"
        )


OTHERS = "test_the_first_finding_is_the_cause"  # of test_public_cases.py
SYMPTOMS = {
    *(row.rule for row in LIVE if row.sees),
    "SDA008",  # with PrivateTmp=: SDA106
    "SDA011",
    *("SDA015", "SDA107", "SDA108", "SDA123"),  # test_a_queue_that_fills_up_is_seen
    *("SDA129", "SDA130"),
    *("SDA110", "SDA111", "SDA121", "SDA124", "SDA125", "SDA126"),
    *("SDA140", "SDA141", "SDA142", "SDA143"),  # test_public_cases.py
    *("SDA147", "SDA148", "SDA149", "SDA150", "SDA151", "SDA152", "SDA153"),  # there, too
    *("SDA154", "SDA155", "SDA156", "SDA157", "SDA158", "SDA161", "SDA162"),
    *("SDA163", "SDA165", "SDA166", "SDA167", "SDA168", "SDA169", "SDA170", "SDA172"),
}
"""Rules whose symptoms are looked for here: in the rows of the table, or in their own tests."""


def test_every_live_rule_is_broken_for_real_here() -> None:
    """But for the denials of a security module: these machines' kernels needn't have one."""
    told = {row.rule for row in LIVE} | {rule for rule in SINGLE if SINGLE[rule].test}
    assert {rule.id for rule in TABLE if rule.is_live} - told == {"SDA115"}
    written = "".join(it.read_text() for it in Path(__file__).parent.glob("test_*.py"))
    assert all(f"def {it.test}(" in written for it in SINGLE.values() if it.test)
    others = {
        it.finds for it in (*BROKEN, *SECOND, *THIRD, *FOURTH, *FIFTH, *SIXTH) if it.id in EACH_TIME
    }
    assert {rule for rule, it in SINGLE.items() if it.test == OTHERS} <= others


LOGS_OF_MANY = """
import time
from sdactivate.doctor import unit_logs
units = [f"many-{number}.service" for number in range(12)] + ["silent.service"]
ago = time.time() - 3600
since = dict.fromkeys(units, ago)
together = unit_logs.of_units(since)
assert together == {unit: unit_logs.of_unit(unit, ago) for unit in units}
texts = [[line.text for line in together[unit] if not line.by_systemd] for unit in units]
assert texts == [[f"said by {number}"] * 2 for number in range(12)] + [[]], texts
assert any("Failed with result" in it.text and it.by_systemd for it in together["many-3.service"])
# What a pass can't tell is left out, not said to be nothing
unit_logs.MOST_ENTRIES = 5
assert len(unit_logs.of_units(since)) < 3
"""


def test_what_many_units_have_logged_is_read_in_one_pass(site: Machine) -> None:
    """The same lines as of each by itself, those of another slice and systemd's own included."""
    script = """
        for i in 0 1 2 3 4 5 6 7 8 9 10 11; do
            slice=system.slice; [ $i != 5 ] || slice=system-other.slice
            systemd-run --quiet --wait --unit=many-$i.service --slice=$slice \\
                --uid=nobody sh -c "echo said by $i; echo said by $i; exit $i" || true
        done
        journalctl --sync
    """
    site.run("sh", "-ec", script)
    site.run(site.python, "-c", LOGS_OF_MANY)
    site.run("systemctl", "reset-failed")
