import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sdactivate import sandbox
from sdactivate.cli import main
from sdactivate.doctor import directives, rarer_directives
from sdactivate.doctor.explain import as_json, as_text, explain
from sdactivate.systemd.unitfile import Unit, parse

TEMPLATES = Path(sandbox.__file__).parent / "generate" / "templates"


def unit(text: str, name: str = "a.service") -> Unit:
    return Unit(name, [parse(text, f"/etc/{name}")], [f"/etc/{name}"])


def test_a_line_of_the_sandbox_has_its_cost() -> None:
    (line,) = explain(unit("[Service]\nRestrictNamespaces=yes\n")).lines
    assert line.why.startswith("It can't create namespaces")
    assert (line.source, line.cost, line.better) == ("systemd.exec(5)", 0.7, "")


def test_a_weaker_value_is_compared() -> None:
    (line,) = explain(unit("[Service]\nProtectSystem=full\n")).lines
    assert line.better == "ProtectSystem=strict"


def test_what_no_table_has_is_said_to_be_unknown() -> None:
    explained = explain(unit("[Service]\nX-Mine=1\n"))
    assert explained.lines[0].why == ""
    text = " ".join(as_text(explained).split())
    assert "does not know this directive: systemd has none of this name, or it is" in text
    assert "newer than systemd 262. systemd.directives(7)" in text


def test_what_is_new_says_since_when() -> None:
    explained = explain(unit("[Service]\nPrivatePIDs=yes\nConditionVersion=>250\nUser=a\n"))
    assert [line.since for line in explained.lines] == [257, 258, 0]
    assert [it["since"] for it in as_json(explained)["lines"]] == [257, 258, None]
    text = " ".join(as_text(explained).split())
    assert "New in systemd 257; older versions ignore it with a warning. systemd.exec(5)" in text
    assert text.count("New in systemd") == 2


def test_every_directive_of_this_systemd_is_known() -> None:
    """Those that its index of directives has, where the manual pages are installed."""
    page = Path("/usr/share/man/man7/systemd.directives.7.gz")
    if not page.exists():
        pytest.skip("systemd's manual pages are not installed")
    text = gzip.decompress(page.read_bytes()).decode()
    units = re.split(r"^\.SH ", text, flags=re.MULTILINE)
    (listed,) = (it for it in units if it.startswith('"UNIT DIRECTIVES"'))
    names = set(re.findall(r"^\\fI([A-Z]\w+)=\\fR", listed, re.MULTILINE))
    assert len(names) > 300
    unknown = [it for it in sorted(names) if not explain(unit(f"[Service]\n{it}=1\n")).lines[0].why]
    assert not unknown


def test_no_directive_is_explained_twice() -> None:
    rows = {row.name for row in sandbox.TABLE}
    assert not set(rarer_directives.TABLE) & (set(directives.TABLE) | rows)
    known = set(rarer_directives.TABLE) | set(directives.TABLE) | rows
    assert set(rarer_directives.SINCE) <= known
    for why, _ in rarer_directives.TABLE.values():
        assert why.endswith(".")


def test_what_is_not_there_is_told_the_costliest_first() -> None:
    absent = explain(unit("[Service]\nExecStart=/bin/true\n")).absent
    assert absent[0].name == "CapabilityBoundingSet"
    assert len(absent) == len(sandbox.TABLE)
    assert explain(unit("[Socket]\nListenStream=/run/a\n", "a.socket")).absent == ()


def test_drop_ins_are_told_apart() -> None:
    parts = [
        parse("[Socket]\nBacklog=1\n", "/a.socket"),
        parse("[Socket]\nBacklog=2\n", "/a.socket.d/b.conf"),
    ]
    text = as_text(explain(Unit("a.socket", parts, ["/a.socket", "/a.socket.d/b.conf"])))
    assert text.startswith("# /a.socket\n\n[Socket]\nBacklog=1\n    ")
    assert "\n\n# /a.socket.d/b.conf\n\n[Socket]\nBacklog=2\n    " in text


def test_json() -> None:
    one = as_json(explain(unit("[Service]\nUser=me\n")))
    assert json.loads(json.dumps(one))["lines"][0] == {
        "file": "/etc/a.service",
        "line": 2,
        "section": "Service",
        "directive": "User",
        "value": "me",
        "why": directives.TABLE["User"].why,
        "cost": 0.0,
        "better": None,
        "source": "systemd.exec(5)",
        "since": None,
    }


def test_every_line_that_gen_writes_is_explained() -> None:
    texts = [path.read_text() for path in TEMPLATES.glob("*.j2") if path.stem in WRITTEN]
    assert len(texts) == len(WRITTEN)
    keys = {key for text in texts for key in re.findall(r"^([A-Z][A-Za-z]+)=", text, re.MULTILINE)}
    keys |= {"LoadCredential", "LoadCredentialEncrypted"}
    assert keys - set(directives.TABLE) - {row.name for row in sandbox.TABLE} == set()
    assert set(directives.TABLE) & {row.name for row in sandbox.TABLE} == set()


WRITTEN = ("socket", "service", "surroundings", "command", "timer")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.timer"
    file.write_text("[Timer]\nOnCalendar=daily\n")
    assert main(["explain", str(file)]) == 0
    assert "\nOnCalendar=daily\n    When it runs" in capsys.readouterr().out
    assert main(["explain", str(file), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["unit"] == "a.timer"
    assert main(["explain", str(tmp_path / "none.service")]) == 1
    file.write_text("root:x:0:0\n")
    assert main(["explain", str(file)]) == 1
    assert "a.timer: not a unit file" in capsys.readouterr().err


def test_a_file_here_needs_no_slash_where_systemd_has_no_such_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("no-such-unit.timer").write_text("[Timer]\nOnCalendar=daily\n")
    assert main(["explain", "no-such-unit.timer"]) == 0
    assert "\nOnCalendar=daily\n" in capsys.readouterr().out
    assert main(["explain", "no-such-unit.service"]) == 1


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze measures")
def test_the_costs_are_as_measured(tmp_path: Path) -> None:
    """Each of 252's directives left out of the whole sandbox, by itself.

    Another systemd may weigh another way: the table says which one it was measured with.
    """
    version = subprocess.run(
        ["systemd-analyze", "--version"], capture_output=True, text=True
    ).stdout
    if not version.startswith("systemd 252"):
        pytest.skip("the costs are 252's")

    def exposure(without: str) -> float:
        lines = [row.line for row in sandbox.TABLE if row.name != without]
        (tmp_path / "a.service").write_text(
            "\n".join(["[Service]", "ExecStart=/bin/true", "User=x", *lines, ""])
        )
        run = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", str(tmp_path / "a.service")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        found = re.search(r"a\.service: ([0-9.]+)", run.stdout)
        assert found
        return float(found[1])

    whole = exposure("")
    costs: dict[str, float] = {}
    for row in sandbox.TABLE:
        costs.setdefault(row.name, row.cost)
    assert {name: round(exposure(name) - whole, 1) for name in costs} == costs
