"""sites.toml: what it may say, and what is said of one that is wrong."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdactivate.cli import main
from sdactivate.errors import Error, UsageError
from sdactivate.generate import options
from sdactivate.generate.sites_toml import Entry, Tables, line_of
from tests.effort import examples
from tests.generate.strategies import HOSTILE, toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GOOD = """\
[defaults]
group = "www-data"
python = "/usr/bin/python3"
idle-timeout = "10min"

[sites.mysite]
app = "mysite.wsgi:application"
chdir = "/srv/mysite"
threads = 4
access-log = true
network = true
jit = false
listen = ["/run/mysite.sock", "admin=/run/mysite-admin.sock"]
allow-peer = ["user:www-data", "group:web"]
command = "clearsessions"

[sites."example.org"]
kind = "socket"
group = "web"
"""


def tables(tmp_path: Path, text: str, name: str = "sites.toml") -> Tables:
    (tmp_path / name).write_text(text)
    return Tables(tmp_path / name)


def test_every_option_by_its_long_name(tmp_path: Path) -> None:
    read = tables(tmp_path, GOOD)
    assert read.names == ["mysite", "example.org"]
    kinds, values = read.entry("mysite")
    assert kinds == ()
    assert values["group"] == "www-data"
    assert values["threads"] == "4"
    assert values["access_log"] == "yes"
    assert values["idle_timeout"] == "10min"
    assert values["allow_peer"] == "user:www-data group:web"
    assert values["command"] == (("clearsessions",),)
    assert values["network"] is True
    assert "jit" not in values
    assert [address.name for address in values["listen"]] == ["", "admin"]
    assert read.entry("example.org").kinds == ("socket",)
    assert read.entry("example.org").given["group"] == "web"


def test_a_flag_that_is_off_outranks_the_defaults(tmp_path: Path) -> None:
    text = "[defaults]\nnetwork = true\n[sites.a]\n[sites.b]\nnetwork = false\n"
    read = tables(tmp_path, text)
    assert read.entry("a").given == {"network": True}
    assert read.entry("b").given == {}


def test_values_too_deep_in_one_another(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"too deep|nested"):
        tables(tmp_path, f"[sites.a]\nlisten = {'[' * 5000}{']' * 5000}\n")


def test_the_same_in_a_pyproject(tmp_path: Path) -> None:
    text = "[project]\nname = 'x'\n" + GOOD.replace("[sites", "[tool.sdactivate.sites").replace(
        "[defaults", "[tool.sdactivate.defaults"
    )
    assert tables(tmp_path, text, "pyproject.toml").entry("mysite") == tables(tmp_path, GOOD).entry(
        "mysite"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sites.a]\ngrup = 'x'\n", "2: sites.a.grup: there is no such key; did you mean group?"),
        (
            "[sites.a]\n\nrun_as = 'x'\n",
            "3: sites.a.run_as: there is no such key; did you mean run-as?",
        ),
        ("[sites.a]\nmode = 0o660\n", "2: sites.a.mode: the value is not a string"),
        ("[sites.a]\nmode = '0999'\n", "2: sites.a.mode: '0999': a mode is octal"),
        (
            "[sites.a]\nthreads = true\n",
            "2: sites.a.threads: the value is not a string or a number",
        ),
        ("[sites.a]\nthreads = 0\n", "2: sites.a.threads: '0' is not a whole number of at least 1"),
        ("[sites.a]\nthreads = 1.5\n", "2: sites.a.threads: the value is not a string or a number"),
        ("[sites.a]\nnetwork = 'yes'\n", "2: sites.a.network: 'yes': give local"),
        (
            "[sites.a]\nlisten = 8000\n",
            "2: sites.a.listen: the value is not a string, nor a list of them",
        ),
        ("[sites.a]\ngroup = ['a', 'b']\n", "2: sites.a.group: this takes one value, not a list"),
        ("[sites.a]\nlisten = [['/x']]\n", "2: sites.a.listen: this takes one value, not a list"),
        ("\n[sites.'a b']\n", "2: sites.a b: 'a b': a name consists of"),
        ("[sites]\na = 1\n", "2: sites.a: not a table"),
        ("sites = 1\n", "1: sites: not a table"),
        ("[defaults]\nx = 1\n", "2: defaults.x: there is no such key"),
        ("[site.a]\n", "1: site: there is no such key; did you mean sites?"),
        ("[sites.a]\nx = \n", "2: Invalid value"),
        (
            "[sites.a]\n\nkind = 'servic'\n",
            "3: sites.a.kind: 'servic': there is no such kind; did you mean service?",
        ),
        ("[sites.a\n", "1: "),
        ("[sites.a]\napp = 'x\n", "2: "),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        tables(tmp_path, text).entry("a b" if "a b" in text else "a")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/sites.toml:{said}")


def test_the_same_in_json(tmp_path: Path) -> None:
    """What a program writes that keeps the sites elsewhere: Ansible's variables."""
    text = json.dumps(tomllib.loads(GOOD), indent=4)
    written, read = tables(tmp_path, GOOD), tables(tmp_path, f"\n{text}", "sites.json")
    assert read.names == written.names
    for name in read.names:
        assert read.entry(name) == written.entry(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"sites": {"a": {"thread": 4}}}', ": sites.a.thread: there is no such key; did you mean"),
        ('{"sites": {"a": {"app": null}}}', ": sites.a.app: the value is not a string"),
        ('{"sites": {"a": {}},\n"sites": {}}', ":1: JSON: the key 'sites' occurs twice"),
        ('{"sites": {"a": {"threads": NaN}}}', ":1: JSON: NaN is not a value"),
        ('{"sites":\n{"a": {"app": "\\ud800"}}}', ":2: JSON: \\ud800 is not a character"),
        ('{"sites": {}', ":1: JSON: "),
        ('{"sites": {}}\n[sites]', ":2: JSON: Extra data"),
        ("{" + '"a": {' * 100000, ": its values are nested too deeply"),
    ],
)
def test_a_mistake_in_json_is_named_by_its_key(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        tables(tmp_path, text, "sites.json").entry("a")
    assert str(caught.value).startswith(f"{tmp_path}/sites.json{said}")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"there is no \[sites\.mysit\]; did you mean mysite\?"):
        tables(tmp_path, GOOD).entry("mysit")
    with pytest.raises(Error, match=r"none\.toml: No such file"):
        Tables(tmp_path / "none.toml")


def test_what_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not valid UTF-8"):
        Tables(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("at", "line"),
    [
        (("sites", "mysite"), 6),
        (("sites", "mysite", "threads"), 9),
        (("sites", "example.org", "kind"), 18),
        (("sites", "example.org", "missing"), 17),
        (("nothing",), 1),
    ],
)
def test_lines(at: tuple[str, ...], line: int) -> None:
    assert line_of(GOOD, at) == line


def test_gen_writes_every_site_and_then_only_what_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "sites.toml", tmp_path / "out"
    file.write_text(GOOD)
    argv = ["gen", "--from", str(file), "--out", str(out), "--systemd", "252"]
    assert main(argv) == 0
    written = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert written == [
        "mysite.socket",
        "mysite-admin.socket",
        "mysite.service",
        "mysite-clearsessions.timer",
        "mysite-clearsessions.service",
        "example.org.socket",
    ]
    file.write_text(GOOD.replace('group = "web"', 'group = "www-data"'))
    assert main(argv) == 0
    assert capsys.readouterr().out == f"{out}/example.org.socket\n"


@pytest.mark.skipif(not shutil.which("strace"), reason="strace counts the files that are opened")
def test_many_sites_cost_no_look_up_each(tmp_path: Path) -> None:
    """What each site opens: its directory, and its two files, looked at and written.

    Accounts are asked for once.
    """

    def opened(count: int) -> list[str]:
        sites = (f'[sites.s-{n}]\napp = "a:b"\nchdir = "/srv/{n}"\n' for n in range(count))
        (tmp_path / "sites.toml").write_text("".join(sites))
        log, out = tmp_path / "log", tmp_path / str(count)
        argv = [sys.executable, "-m", "sdactivate", "gen", "--from", f"{tmp_path}/sites.toml"]
        trace = ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", str(log)]
        subprocess.run(
            [*trace, *argv, "--out", str(out), "--systemd=252"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return log.read_text().splitlines()

    few, many = opened(10), opened(30)
    assert len(many) - len(few) <= 20 * (2 * 3 + 1)
    assert sum("/etc/passwd" in line for line in many) == sum("/etc/passwd" in line for line in few)


def test_a_kind_that_is_asked_for_twice_is_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sites.toml").write_text('[sites.a]\nkind = ["socket", "all", "socket"]\n')
    assert main(["gen", "--from", str(tmp_path / "sites.toml")]) == 0
    assert capsys.readouterr().out.count("[Socket]") == 1


def test_one_site_is_printed_and_the_command_line_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sites.toml").write_text(GOOD)
    argv = ["gen", "example.org", "--from", str(tmp_path / "sites.toml"), "--mode", "0600"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "SocketGroup=web\nSocketMode=0600\n" in out


def test_a_site_that_cannot_be_leaves_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sites.toml").write_text(GOOD + '[sites.bad]\nkind = "service"\n')
    argv = ["gen", "--from", str(tmp_path / "sites.toml"), "--out", str(tmp_path / "out")]
    assert main(argv) == 2
    assert "sites.toml:20: sites.bad: --kind service needs --app" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(argv[:3]) == 2
    assert "need --out DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file has no site; add a table such as [sites.mysite]"),
        (
            '[sites.a]\nlisten = "/run/x"\n[sites.b]\nlisten = "/run/x"\n',
            ":3: sites.b: --listen /run/x: the site a already has it",
        ),
        (
            '[sites.a]\n[sites.b]\nlisten = "/run/a.sock"\n',
            ":2: sites.b: --listen /run/a.sock: the site a already has it",
        ),
        (
            '[sites.a]\napp = "a:b"\nchdir = "/srv"\ncommand = "x"\n[sites.a-x]\napp = "a:b"\n',
            ":5: sites.a-x: a-x.service: the site a already has it",
        ),
    ],
)
def test_what_no_two_sites_can_have(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sites.toml").write_text(text)
    argv = ["gen", "--from", str(tmp_path / "sites.toml"), "--out", str(tmp_path / "out")]
    assert main([*argv, "--systemd=252"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


_NAMES = st.sampled_from([row.name for row in options.SITE]) | st.text("abc-_.")
_VALUES = st.one_of(
    HOSTILE,
    st.text(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)


@settings(
    max_examples=examples(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(_NAMES, _VALUES | st.lists(_VALUES, max_size=2), max_size=3))
def test_whatever_it_says_it_is_read_or_refused_with_a_line(
    tmp_path: Path, table: dict[str, object]
) -> None:
    lines = [f'"{key}" = {toml(value)}' for key, value in table.items()]
    try:
        entry = tables(tmp_path, "\n".join(["[sites.a]", *lines, ""])).entry("a")
    except UsageError as error:
        message = str(error)
    else:
        assert isinstance(entry, Entry)
        return
    # One line that begins with the place, whatever the key or the value was.
    found = re.fullmatch(r".*/sites\.toml:(\d+): sites\.a\..*", message)
    assert found
    assert 2 <= int(found[1]) <= len(lines) + 1


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(_NAMES, inner),
    )
)
def test_any_json_is_read_or_refused(tmp_path: Path, value: object) -> None:
    with contextlib.suppress(UsageError):
        tables(tmp_path, json.dumps({"sites": {"a": value}}), "sites.json").entry("a")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("[]=\"'.#\n sitesab1{},\\")))
def test_text_that_is_hardly_toml(tmp_path: Path, text: str) -> None:
    with contextlib.suppress(UsageError, Error):
        read = tables(tmp_path, text)
        for name in read.names:
            read.entry(name)
