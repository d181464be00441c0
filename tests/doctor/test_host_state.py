"""What is read of logs: fronts' lines as they were measured, and the kernel's."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.access.permissions import Acl, Node, Verdict
from sdactivate.cli import main
from sdactivate.doctor import units
from sdactivate.doctor.checks import live_fronts
from sdactivate.doctor.checks.bytecode import not_compiled
from sdactivate.doctor.checks.common import is_ours
from sdactivate.doctor.checks.live_fronts import allowing, allows_peers, fields_set, says
from sdactivate.doctor.checks.live_services import _wanted, denials
from sdactivate.doctor.checks.services import hidden_home
from sdactivate.doctor.doors import Door
from sdactivate.doctor.finding import Case, Command
from sdactivate.doctor.host_state import (
    HostState,
    InstalledFront,
    is_started_again,
    stamp,
)
from sdactivate.doctor.last_start import MOST_LINES, Line
from sdactivate.doctor.unit_logs import newest_lines
from sdactivate.fronts import FRONTS
from sdactivate.systemd.unitfile import Unit, parse

_PATH = "/run/mysite.sock"
# In the form that fronts.py has, which its own tests hold against the real fronts
_LINES = {
    "nginx": (
        "2026/11/23 09:00:00 [crit] 99#99: *1 connect() to unix:/run/mysite.sock failed (13: "
        "Permission denied) while connecting to upstream, client: 127.0.0.1"
    ),
    "apache": (
        "[Mon Nov 23 09:00:00.123456 2026] [proxy:error] [pid 9:tid 9] (13)Permission denied: "
        "AH02454: SCGI: attempt to connect to Unix domain socket /run/mysite.sock (site-1) failed"
    ),
    "lighttpd": (
        "2026-11-23 09:00:00: (gw_backend.c.274) establishing connection failed: socket: "
        "unix:/run/mysite.sock: Permission denied"
    ),
    "caddy": ('{"level":"error","msg":"dial unix /run/mysite.sock: connect: permission denied"}'),
}


@pytest.mark.parametrize("name", _LINES)
def test_a_front_s_line_is_understood_for_its_socket_only(name: str) -> None:
    failures = FRONTS[name].failures
    line = _LINES[name]
    assert says(line, failures.forbidden, _PATH)
    assert not says(line, failures.missing, _PATH)
    assert not says(line, failures.refused, _PATH)
    assert not says(line, failures.forbidden, "/run/mysite")
    assert not says(line, failures.forbidden, "/run/other.sock")


@pytest.mark.parametrize("name", ["nginx", "apache", "lighttpd"])
def test_the_time_of_a_line_is_read(name: str) -> None:
    later = _LINES[name].replace("09:00:00", "10:00:00")
    first, second = stamp(_LINES[name]), stamp(later)
    assert first is not None
    assert second is not None
    assert second - first == 3600


def test_a_line_without_a_time_has_none() -> None:
    assert stamp(_LINES["caddy"]) is None
    assert stamp("2026/99/99 99:99:99") is None


def test_denials_of_this_socket_are_told_from_others() -> None:
    lines = [
        'audit: type=1400 apparmor="DENIED" operation="connect" profile="nginx" '
        'name="/run/mysite.sock" pid=9 comm="nginx" requested_mask="wr"',
        'audit: type=1400 avc:  denied  { write } for  pid=9 comm="nginx" name="mysite.sock" '
        "dev=tmpfs scontext=system_u:system_r:httpd_t:s0",
        'audit: type=1400 apparmor="DENIED" operation="open" name="/etc/shadow"',
        'audit: type=1400 apparmor="ALLOWED" name="/run/mysite.sock"',
        'audit: avc:  denied  { write } name="other-mysite.sock" ',
    ]
    assert denials(lines, _PATH) == lines[:2]


def test_what_selinux_says_of_connecting_is_a_denial_too() -> None:
    """httpd_t may write to the file, but not connect to what has made the socket."""
    line = (
        'AVC avc:  denied  { connectto } for  pid=9 comm="nginx" path="/run/mysite.sock" '
        "scontext=system_u:system_r:httpd_t:s0 tcontext=system_u:system_r:init_t:s0 "
        "tclass=unix_stream_socket permissive=0"
    )
    assert denials([line], _PATH) == [line]
    assert denials([line], "/run/mysite") == []
    spaced = 'AVC avc:  denied  { connectto } comm="nginx" path=2F72756E2F6D7920736F636B'
    assert denials([spaced], "/run/my sock") == [spaced]


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("Environment=SDACTIVATE_ALLOW_PEER=unit:nginx.service", True),
        ('Environment="SDACTIVATE_ALLOW_PEER=user:a group:b" A=b', True),
        ("ExecStart=/usr/bin/sdactivate serve a:b --allow-peer unit:nginx.service", True),
        ("ExecStart=/usr/bin/sdactivate serve a:b --allow-peer='user:x'", True),
        ("Environment=SDACTIVATE_ALLOW_PEER=", False),
        ('Environment="SDACTIVATE_ALLOW_PEER="', False),
        ("Environment=SDACTIVATE_ALLOW_PEER=user:a SDACTIVATE_ALLOW_PEER=", False),
        ("Environment=SDACTIVATE_ALLOW_PEER=user:a\nEnvironment=", False),
        ("ExecStart=/usr/bin/sdactivate serve a:b", False),
    ],
)
def test_a_rule_for_peers_is_seen_however_it_is_given(line: str, has: bool) -> None:
    unit = Unit("web.service", [parse(f"[Service]\n{line}\n", "web.service")], [])
    assert allows_peers(unit) is has


@pytest.mark.parametrize(
    ("command", "ours"),
    [
        ("/usr/bin/python3 -m sdactivate serve mysite.wsgi:application", True),
        ("/opt/sdactivate/bin/sdactivate serve mysite.wsgi:application", True),
        # a server of its own, in a directory of that name: the rule would change nothing
        ("/opt/sdactivate/bin/python -m gunicorn mysite.wsgi:application", False),
        ("/opt/sdactivate/serve", False),
    ],
)
def test_only_what_knows_rules_for_peers_is_given_one(command: str, ours: bool) -> None:
    text = f"[Service]\nExecStart={command}\n"
    assert is_ours(Unit("web.service", [parse(text, "f")], ["f"])) is ours


def test_an_older_kernel_needs_a_line_less_of_the_sandbox() -> None:
    fronts = ["nginx.service", "caddy.service"]
    line = "Environment=SDACTIVATE_ALLOW_PEER=unit:nginx.service,unit:caddy.service"
    assert allowing(fronts, (6, 13)) == (line,)
    assert allowing(fronts, (6, 12)) == (line, "ProtectProc=default")


PASS = "proxy_pass http://unix:/run/web.sock;\n"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("proxy_set_header X-Forwarded-Host $host;\n", ["X-Forwarded-Host"]),
        ("  proxy_set_header Forwarded 'for=$remote_addr';", ["Forwarded"]),
        ('RequestHeader set "X-Script-Name" "/app"', ["X-Script-Name"]),
        ("http-request set-header X-Forwarded-Port %[dst_port]", ["X-Forwarded-Port"]),
        ("header_up X-Forwarded-Host {host}", ["X-Forwarded-Host"]),
        # what is believed, what is taken out, what is no line of its own
        ("proxy_set_header X-Forwarded-Proto $scheme;", []),
        ('proxy_set_header X-Forwarded-Host "";', []),
        ("RequestHeader unset X-Forwarded-Host", []),
        ("http-request del-header X-Forwarded-Host", []),
        ("header_up -X-Forwarded-Host", []),
        ("# proxy_set_header X-Forwarded-Host $host;", []),
    ],
)
def test_what_a_front_says_is_read_from_its_configuration(text: str, fields: list[str]) -> None:
    assert fields_set(PASS + text, "/run/web.sock") == fields
    assert fields_set(PASS + text, "/run/we") == []


@pytest.mark.parametrize("kind", ["nginx", "apache", "caddy", "haproxy", "lighttpd"])
@pytest.mark.parametrize("protocol", ["http", ""])
def test_a_generated_front_sets_none_of_them(
    kind: str, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken = ("--protocol", protocol) if protocol else ()
    main(["gen", "web", "--kind", kind, "--server-name", "web.test", *spoken])
    out = capsys.readouterr().out
    assert "/run/web.sock" in out or not out or kind == "haproxy"
    assert fields_set(out, "/run/web.sock") == []


def test_a_sites_code_is_only_looked_at_and_compiled_by_a_command_that_does_not_run_it(
    tmp_path: Path,
) -> None:
    """A FIFO would be waited for, a link leads elsewhere; root runs no interpreter of a site's."""
    (site := tmp_path / "site").mkdir()
    (site / "app.py").write_text("import os\n")
    (site / "template.py").write_text("from {{ name }} import x\n")
    (site / "link.py").symlink_to("/dev/zero")
    os.mkfifo(site / "fifo.py")
    unit = tmp_path / "web.service"
    unit.write_text(
        f"[Service]\nWorkingDirectory={site}\nProtectSystem=strict\n"
        "ExecStart=/srv/web/bin/python -m sdactivate serve app:application\n"
    )
    (deployment,) = units.offline([str(unit)])
    (hit,) = not_compiled(Case(deployment))
    assert "1 of 3 modules" in hit.because
    assert isinstance(hit.fix, Command)
    program, *rest = hit.fix.argv
    assert program.endswith("sdactivate")
    assert rest == ["compile", str(site), "--python", "/srv/web/bin/python"]


@pytest.mark.skipif(os.geteuid() != 0, reason="examining the running system needs root")
def test_an_interpreter_that_leads_into_a_home(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("/root/no-such-thing/python")
    unit = tmp_path / "web.service"
    unit.write_text(f"[Service]\nProtectHome=yes\nExecStart={tmp_path}/python app.py\n")
    (deployment,) = units.offline([str(unit)])
    (hit,) = hidden_home(Case(deployment, HostState(deployment)))
    assert "/python leads to /root/no-such-thing/python: ProtectHome= hides it" in hit.because
    assert not list(hidden_home(Case(deployment)))  # another machine's links


def entry(message: str, **fields: str) -> str:
    return json.dumps({"MESSAGE": message, "_PID": "105", "_COMM": "python3", **fields})


def test_only_systemd_s_own_lines_are_taken_for_systemd_s() -> None:
    """As systemd 252 logs: PID 1, and the child that fails before it becomes the program."""
    step = "web.service: Failed at step CHDIR spawning /srv/web: No such file or directory"
    newest_first = [
        entry("web.service: Main process exited", UNIT="web.service", _PID="1", _COMM="systemd"),
        entry(step, UNIT="web.service", _PID="98", _COMM="(python3)"),
        entry(step, UNIT="web.service"),  # by `logger --journald`
        entry(step),
    ]
    found = newest_lines(newest_first, 10)
    assert [it.by_systemd for it in found] == [False, False, True, True]
    assert found[0].text == step


def test_lines_of_many_entries_are_bounded() -> None:
    """The last ones count; an entry may hold any number of lines."""
    many = "\n".join(map(str, range(3 * MOST_LINES)))
    assert len(newest_lines([entry(many, UNIT="w", _PID="1")] * 9, 2 * MOST_LINES)) == (
        2 * MOST_LINES
    )
    assert [it.text for it in newest_lines([entry("c\nd"), entry("a\nb")], 3)] == ["b", "c", "d"]
    ignored = entry("No x, ignoring: y\nwhy", UNIT="w", _PID="1", INVOCATION_ID="i")
    assert newest_lines([ignored], 9) == [Line("why", by_systemd=True, start="i")]
    assert newest_lines(["{", entry("x")], 9) == [Line("x")]


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda it: st.lists(it, max_size=4)
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ("MESSAGE", "UNIT", "INVOCATION_ID", "_SYSTEMD_UNIT", "_COMM", "_PID", "_UID")
            ),
            _ANYTHING | st.lists(st.integers(-1, 300)),
        ).map(json.dumps)
        | st.text()
    )
)
def test_any_entries_of_the_journal_are_read(entries: list[str]) -> None:
    """A field that comes twice is a list; what is no text, a list of bytes; too long, null."""
    assert all(isinstance(it.text, str) for it in newest_lines(entries, 100))


def test_a_message_that_is_no_text_is_read_as_far_as_it_is_some() -> None:
    binary = json.dumps({"MESSAGE": list(b"a\xff\x1b[31m\0b\n"), "_COMM": ["x", "y"], "UNIT": "w"})
    assert [it.text for it in newest_lines([binary], 9)] == ["a\ufffd\x1b[31m\0b"]


FAILED, AGAIN = "a: Failed with result 'exit-code'.", "a: Scheduled restart job, restart counter"


@pytest.mark.parametrize(
    ("lines", "again"),
    [
        ([FAILED, AGAIN, "Stopped a.", "Started a."], True),
        ([FAILED, "Started a."], False),  # by hand, while it waits
        ([FAILED, AGAIN, "Stopped a.", "Started a.", FAILED, "Started a."], False),
        ([FAILED, AGAIN, "Started a.", "Stopping a...", "Stopped a.", "Started a."], False),
        (["Started a."], False),
        (["Starting a...", FAILED, AGAIN, "Stopped a.", "Starting a...", "Started a."], False),
        (["Starting a...", FAILED, AGAIN, "Stopped a.", "Starting a..."], True),
        (["Starting a...", "Started a.", FAILED, AGAIN, "Starting a...", "Started a."], True),
    ],
)
def test_who_has_started_it_again(lines: list[str], again: bool) -> None:
    assert is_started_again(lines) is again


APP = "[Service]\nUser=nobody\nWorkingDirectory={}\nExecStart=/bin/true {}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="examining the running system needs root")
@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("app:application", "app.py"),
        ("'app:create_app()'", "app.py"),
        ("pkg.wsgi", "pkg/wsgi.py"),
        ("./conf/site.wsgi:app", "./conf/site.wsgi"),
        ("{}/conf/site.wsgi", "conf/site.wsgi"),
    ],
)
def test_every_way_to_name_an_application_is_looked_at(
    words: str, file: str, tmp_path: Path
) -> None:
    for name in ("app.py", "pkg/wsgi.py", "conf/site.wsgi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    service = Unit("w.service", [parse(APP.format(tmp_path, words.format(tmp_path)), "f")], ["f"])
    wanted = [it.path for it in _wanted(service)]
    assert f"{tmp_path}/{file}" in wanted
    assert wanted[:2] == [str(tmp_path), "/bin/true"]
    none = Unit("w.service", [parse(APP.format("", "app:application"), "f")], ["f"])
    assert [it.path for it in _wanted(none)] == ["/bin/true"]


def test_a_mask_is_raised_by_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry that it held back would hold again: none of the doctor's own accord."""
    acl = Acl(((33, 7), (1000, 7)), 0, (), 4)
    node = Node("/srv/s.sock", "socket", 0, 0, 0o640, acl)
    front = InstalledFront(FRONTS["nginx"], FRONTS["nginx"].packaging["debian"], ())
    refused = (live_fronts._Refusal("mask", Door("web.socket", node.path), front, Verdict(
        allowed=False, node=node, need=2, by="mask", has=4)),)  # fmt: skip
    monkeypatch.setattr(live_fronts, "_refusals", lambda case, kind: refused)
    unit = Unit("web.socket", [parse("[Socket]\n", "f")], ["f"])
    (hit,) = live_fronts.masked(Case(units.Deployment(None, (unit,))))
    assert hit.fix == Command(("setfacl", "-m", "m::rw", node.path))
    assert not hit.fix.safe
