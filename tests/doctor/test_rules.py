"""Each rule finds what it is about, on the line at fault, and nothing else does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdactivate.cli import main
from sdactivate.doctor import report, units
from sdactivate.doctor.checks.services import forking_wrapper
from sdactivate.doctor.examine import examine
from sdactivate.doctor.finding import Case, Finding, Lines, Severity
from sdactivate.doctor.fix import drop_in
from sdactivate.doctor.rules import BY_ID, TABLE
from sdactivate.errors import UsageError
from sdactivate.generate import units as generated
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.output import Target
from sdactivate.site import Site
from sdactivate.systemd.unitfile import split
from tests.doctor import broken, sarif
from tests.effort import examples
from tests.generate.strategies import sites
from tests.machine import broken_sites
from tests.systemd.test_unitfile import TEXT

ROOT = Path(__file__).parents[2]
FINDINGS = jsonschema.Draft202012Validator(json.loads(report.JSON_SCHEMA.read_text()))


def write(directory: Path, files: dict[str, str]) -> list[Path]:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return [directory / name for name in files]


def findings(directory: Path, files: dict[str, str]) -> list[Finding]:
    write(directory, files)
    deployments = units.offline([str(directory)])
    return [finding for it in deployments for finding in examine(Case(it))]


PAIRS = [(rule, setup) for rule, all_ in broken.OFFLINE.items() for setup in all_]


@pytest.mark.parametrize(("rule", "setup"), PAIRS)
def test_a_broken_setup_is_found_and_its_twin_is_not(
    rule: str, setup: broken.Broken, tmp_path: Path
) -> None:
    """And where the fix is lines of a unit, they silence the rule as a drop-in."""
    found = findings(tmp_path, broken.units(setup))
    sarif.validate(report.as_sarif(found))
    FINDINGS.validate(report.as_json(found))
    assert {it.rule.id for it in found} == {rule}
    assert {it.text for it in found} == {setup.at}
    for it in found:
        if it.line:
            written = Path(it.file).read_text().splitlines()
            assert written[it.line - 1] == setup.at
        if isinstance(it.fix, Lines):
            path, _, new = drop_in(it.fix, tmp_path)
            path.parent.mkdir(exist_ok=True)
            path.write_text(new.replace("THE FRONT'S GROUP", "www-data"))
    assert not [it for it in findings(tmp_path, {}) if isinstance(it.fix, Lines)]
    (tmp_path / "twin").mkdir()
    assert broken.twin(setup) != broken.units(setup)
    assert findings(tmp_path / "twin", broken.twin(setup)) == []


def test_every_rule_has_a_pair_and_a_source() -> None:
    """The table is the setups of unit files, and the sites of tests/machine/broken_sites.py."""
    live = [row.rule for row in broken_sites.LIVE]
    assert len(PAIRS) + len(live) >= 80
    assert {*broken.OFFLINE, *live, *broken_sites.SINGLE} == set(BY_ID)
    assert all(rule.source for rule in TABLE)


@pytest.mark.parametrize("setup", broken.FINE)
def test_a_near_miss_is_not(setup: broken.Broken, tmp_path: Path) -> None:
    assert findings(tmp_path, broken.units(setup)) == []


def test_every_offline_rule_has_a_broken_setup() -> None:
    assert set(broken.OFFLINE) == {rule.id for rule in TABLE if not rule.is_live}


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=examples(50))
@given(site=sites(), own=st.booleans(), comments=st.booleans())
def test_nothing_is_found_on_generated_units(
    site: Site, own: bool, comments: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """But for what the site itself asked for: open modes, TCP, /tmp, a home, another owner."""
    asked = {"SDA002", "SDA005", "SDA006", "SDA008", "SDA007", "SDA022"}
    if any(re.search(r"\s[#;]", path) for path in (site.chdir, *site.env_file)):
        # It stands in its line without quotes, and reads like a value with a comment.
        asked.add("SDA031")
    target = Target(252, comments=comments, own=own)
    more: dict[str, dict[str, Any]] = {
        "timer-service": {"command": (("clearsessions",),)},
        "quadlet": {"image": "registry.test/mysite:1"},
    }
    kinds = ("socket", "service", *more, *(() if site.listen else ("template",)))
    files: dict[str, str] = {}
    for kind in kinds:
        try:
            made = KINDS[kind].load()(site, target, **more.get(kind, {}))
        except UsageError:  # not every site can be a container, or a user's own
            continue
        files |= {f"{kind}/{file.name}": file.text for file in made.files}
    # The template and the quadlet have sockets of the same name: a directory each.
    for kind in ("template", "quadlet"):
        one = {name: text for name, text in files.items() if name.startswith(kind)}
        found = findings(tmp_path_factory.mktemp(kind), one) if one else []
        assert {it.rule.id for it in found} <= asked, kind
    files = {name: text for name, text in files.items() if not name.startswith(("temp", "quad"))}
    found = findings(tmp_path_factory.mktemp("units"), files)
    assert {it.rule.id for it in found} <= asked


@pytest.mark.parametrize("name", ["mysite", r"my\x2dsite"])
def test_nothing_is_found_on_the_units_of_the_example(name: str, tmp_path: Path) -> None:
    files = {
        file.name: file.text
        for site in [Site(name, group="www-data", app="mysite.wsgi:application", chdir="/srv/x")]
        for kind in (generated.socket, generated.service)
        for file in kind(site, Target(252)).files
    }
    assert (
        findings(
            tmp_path, {k: v.replace(sys.executable, "/usr/bin/python3") for k, v in files.items()}
        )
        == []
    )


def test_a_template_s_drop_ins_and_a_type_s_hold_for_it(tmp_path: Path) -> None:
    files = {
        "web-a@.socket": "[Socket]\nListenStream=/run/web-%i.sock\nSocketGroup=www-data\n",
        "web-.socket.d/10-mode.conf": "[Socket]\nSocketMode=0666\n",
        "web-a@.socket.d/10-mode.conf": "[Socket]\nSocketMode=0660\n",
    }
    assert findings(tmp_path, files) == []
    (tmp_path / "web-a@.socket.d/10-mode.conf").unlink()
    (found,) = findings(tmp_path, {})
    assert (found.rule.id, Path(found.file).name, found.line) == ("SDA002", "10-mode.conf", 2)


def test_drop_ins_hold_in_the_order_of_their_names_wherever_they_lie(tmp_path: Path) -> None:
    files = broken.units(broken.Broken())
    files["web.socket.d/20-own.conf"] = "[Socket]\nBacklog=4096\n"
    files["socket.d/50-all.conf"] = "[Socket]\nBacklog=16\n"
    (found,) = findings(tmp_path, files)
    assert (found.rule.id, Path(found.file).name) == ("SDA015", "50-all.conf")


def test_a_socket_finds_its_service_by_name_and_by_service(tmp_path: Path) -> None:
    root = "[Service]\nExecStart=/bin/x\n"
    files = {
        "a.socket": "[Socket]\nListenStream=/run/a\nSocketMode=0660\nService=b.service\n",
        "b.service": root,
        "c.service": root,
    }
    write(tmp_path, files)
    pairs = {it.name: [unit.name for unit in it.units] for it in units.offline([str(tmp_path)])}
    assert pairs == {"b": ["a.socket", "b.service"], "c": ["c.service"]}


def test_units_of_one_name_in_two_directories_are_two_deployments(tmp_path: Path) -> None:
    good = broken.units(broken.Broken())
    bad = broken.units(broken.Broken(socket="Backlog=16"))
    files = {f"production/{name}": text for name, text in bad.items()}
    files |= {f"staging/{name}": text for name, text in good.items()}
    files["staging/web.socket.d/mode.conf"] = "[Socket]\nSocketMode=0666\n"
    write(tmp_path, files)
    wants = tmp_path / "staging" / "sockets.target.wants"
    wants.mkdir()
    (wants / "web.socket").symlink_to("../web.socket")
    found = findings(tmp_path, {})
    places = [(it.rule.id, str(Path(it.file).relative_to(tmp_path))) for it in found]
    assert places == [
        ("SDA015", "production/web.socket"),
        ("SDA002", "staging/web.socket.d/mode.conf"),
    ]
    # Units with names of their own belong together, wherever they lie.
    socket, service = tmp_path / "production/web.socket", tmp_path / "staging/web.service"
    (deployment,) = units.offline([str(socket), str(service)])
    assert [unit.name for unit in deployment.units] == ["web.socket", "web.service"]


def test_what_a_unit_says_steers_no_terminal(tmp_path: Path) -> None:
    found = findings(tmp_path, broken.units(broken.Broken(socket="ListenStream=@\x1b[2Jweb")))
    text = report.as_text(found)
    assert "\x1b" not in text
    assert "ListenStream=@\\x1b[2Jweb" in text


# Silencing


def test_a_comment_silences_a_rule_in_its_unit(tmp_path: Path) -> None:
    files = broken.units(broken.Broken(socket="Backlog=16\n# sdactivate: ignore=SDA015 tiny box"))
    assert findings(tmp_path, files) == []


def test_a_comment_in_one_unit_doesn_t_silence_another(tmp_path: Path) -> None:
    files = broken.units(
        broken.Broken(socket="Backlog=16", service="# sdactivate: ignore=SDA015 not here")
    )
    assert [it.rule.id for it in findings(tmp_path, files)] == ["SDA015"]


# As a command


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path, broken.units(broken.Broken()))
    assert main(["doctor", "--offline", *map(str, good)]) == 0
    assert capsys.readouterr().out == "nothing found\n"
    bad = write(tmp_path, broken.units(broken.Broken(socket="Backlog=16\nSocketMode=0666")))
    assert main(["doctor", "--offline", *map(str, bad)]) == 1
    out = capsys.readouterr().out
    assert f"at    {tmp_path}/web.socket:8: Backlog=16" in out
    assert out.endswith("1 error, 1 warning\n")
    assert main(["doctor", "--offline", str(bad[0]), "--ignore", "SDA002,SDA015"]) == 0
    assert main(["doctor", "--offline", str(bad[0]), "--ignore", "SDA999"]) == 2
    assert main(["doctor", "--offline", str(tmp_path / "nothing.socket")]) == 1
    assert main(["doctor", "--offline", str(ROOT / "pyproject.toml")]) == 2
    assert main(["doctor", "--offline", str(bad[0]), "--fix"]) == 2
    assert main(["doctor", "--offline", str(bad[0]), "--yes"]) == 2


def test_json_and_sarif_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path, broken.units(broken.Broken(socket="Backlog=16")))[0])
    assert main(["doctor", "--offline", path, "--format", "json"]) == 1
    (plain,) = json.loads(capsys.readouterr().out)
    assert main(["doctor", "--offline", path, "--format", "sarif"]) == 1
    sarif = json.loads(capsys.readouterr().out)
    assert sarif["version"] == "2.1.0"
    (run,) = sarif["runs"]
    (result,) = run["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (plain["rule"], plain["file"], plain["line"]) == ("SDA015", path, 8)
    assert (result["ruleId"], result["level"]) == ("SDA015", "warning")
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "SDA015"
    assert place["artifactLocation"]["uri"] == f"file://{path}"
    assert place["region"] == {"startLine": 8}


def test_sarif_has_a_place_for_every_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is one, whatever is in it; what has no file is named."""
    monkeypatch.chdir(tmp_path)
    name = "a: b%é#?.socket"
    write(Path(), {name: "[Socket]\nListenStream=/run/a\n"})
    (found,) = examine(Case(units.offline([name])[0]))
    live = found._replace(subject="nginx.service", file="", line=0, text="", then="go on")
    said = report.as_sarif([found, live])
    sarif.validate(said)
    first, second = said["runs"][0]["results"]
    uri = first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote(uri) == name
    assert second["locations"] == [{"logicalLocations": [{"fullyQualifiedName": "nginx.service"}]}]
    assert second["message"]["text"].endswith(", then: go on")


def test_the_schema_of_the_findings_says_all_that_is_printed(tmp_path: Path) -> None:
    """And what it refuses, so that it can be broken."""
    text = (ROOT / "docs" / "doctor.md").read_text()
    schema = json.loads(report.JSON_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    one = schema["$defs"]["finding"]
    found = findings(tmp_path, broken.units(broken.Broken(socket="SocketMode=0666")))
    (printed,) = report.as_json(found)
    assert list(printed) == list(one["properties"]) == one["required"]
    assert all(f"`{name}`" in text for name in printed)
    assert one["properties"]["severity"]["enum"] == list(get_args(Severity))
    for name in printed:
        with pytest.raises(jsonschema.ValidationError):
            FINDINGS.validate([{key: it for key, it in printed.items() if key != name}])
        with pytest.raises(jsonschema.ValidationError):
            FINDINGS.validate([printed | {name: {}}])
    FINDINGS.validate([printed | {"a name of a later version": 1}])


@pytest.mark.by_hand
@pytest.mark.skipif("SARIF_SCHEMA" not in os.environ, reason="OASIS's file isn't ours to bring")
def test_sarif_is_what_the_standard_s_own_schema_says(tmp_path: Path) -> None:
    """SARIF_SCHEMA=sarif-schema-2.1.0.json: of each broken setup, and with causes and effects."""
    schema = json.loads(Path(os.environ["SARIF_SCHEMA"]).read_text())
    for number, setup in enumerate(it for all_ in broken.OFFLINE.values() for it in all_):
        found = findings(tmp_path / str(number), broken.units(setup))
        effect = found[0]._replace(because_of=(found[0],), file="")
        jsonschema.validate(report.as_sarif([*found, effect]), schema)


def test_a_rule_s_row_is_complete_and_in_the_documentation() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    assert len(BY_ID) == len(TABLE)
    for rule in TABLE:
        assert all(rule), rule.id
        assert f"| {rule.id} | {rule.severity} | {rule.what} |" in text, rule.id
        assert rule.source in text


def test_ignoring_what_is_no_rule_is_misuse(tmp_path: Path) -> None:
    write(tmp_path, broken.units(broken.Broken()))
    (deployment,) = units.offline([str(tmp_path)])
    with pytest.raises(UsageError, match="SDA12: there is no such rule; did you mean SDA012"):
        examine(Case(deployment), ["SDA12"])
    with pytest.raises(UsageError, match="no such rule; docs"):
        examine(Case(deployment), ["everything"])


def test_a_comment_that_silences_no_rule_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comment = "# sdactivate: ignore=SDA0115, sda015 ONLY a tiny box"
    (path, _) = write(tmp_path, broken.units(broken.Broken(socket=f"Backlog=16\n{comment}")))
    assert main(["doctor", "--offline", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "SDA015" in said.out
    assert f"{path}:9: SDA0115: there is no such rule; did you mean SDA115?" in said.err
    assert f"{path}:9: sda015: there is no such rule; did you mean SDA015?" in said.err
    assert said.err.count("no such rule") == 2


def test_what_systemd_can_t_read_leaves_what_was_before(tmp_path: Path) -> None:
    """It passes over it with a warning; an empty value is no value of a mode or a number."""
    wrong = "SocketMode=\nSocketMode=rw\nBacklog=64\nBacklog=many\nFlushPending=maybe"
    found = findings(tmp_path, broken.units(broken.Broken(socket=wrong)))
    assert [(it.rule.id, it.text) for it in found] == [
        ("SDA015", "Backlog=64"),
        *(("SDA038", it) for it in ("SocketMode=rw", "Backlog=many", "FlushPending=maybe")),
    ]


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(socket=TEXT, service=TEXT)
def test_any_files_are_examined(
    socket: str, service: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = findings(tmp_path_factory.mktemp("any"), {"a.socket": socket, "a.service": service})
    report.as_text(found)
    json.dumps([report.as_json(found), report.as_sarif(found)])


# What forks


@pytest.mark.parametrize(
    ("line", "forks"),
    [
        ("sh -c '{}'", True),
        ("bash -c '{}'", False),
        ("bash -c 'true && {}'", False),
        ("bash -c '{} | cat'", True),
        ("bash -c 'if true; then {}; fi'", True),
        ("sh -c 'exec {}'", False),
        ("env A=b {}", False),
        ("nice {}", False),
        ("timeout 60 {}", True),
        ("setsid {}", False),
        ("flock /dev/null {}", True),
    ],
)
def test_what_is_said_to_fork_forks(line: str, forks: bool) -> None:
    """The real program is run: its process is the one that was started, or isn't."""
    if line.startswith("sh ") and Path("/bin/sh").resolve().name != "dash":
        pytest.skip("what is known of sh is known of dash")
    command = line.format(f'{sys.executable} -c "import os; print(os.getpid())"')
    argv = split(command)
    assert bool(forking_wrapper(argv)) is forks
    # A shell would do to start it, but not one that is in the way itself.
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.read())
    assert (pid != process.pid) is forks
