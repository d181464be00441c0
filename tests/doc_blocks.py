"""The shell blocks of README.md and docs/: which there are, and what runs each.

A block is what a reader copies: fenced as `sh` or `console`; fenced without a language, with a
prompt ($) in its first line; or indented, with a command in its first line. A test runs it, or a
comment in the line above says why none does:

    <!-- not run: it needs the network -->
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = "tests/machine/test_docs.py"

RUN_BY: dict[str, str] = {
    "docs/asgi.md": "tests/machine/test_asgi.py",
    "docs/guide.md": "tests/machine/test_guide.py",
    "docs/packages.md": "tests/machine/test_debian_package.py",
    "docs/servers.md#granian behind a proxy": "tests/machine/test_socket_proxy.py",
    "docs/stability.md": "tests/machine/test_readme.py",
    "docs/static-files.md": "tests/machine/test_static_files.py",
    **dict.fromkeys(
        (
            *("docs/compile.md", "docs/django.md", "docs/doctor.md", "docs/explain.md"),
            *("docs/from-gunicorn.md", "docs/from-runfcgi.md", "docs/from-supervisor.md"),
            *("docs/from-uwsgi.md", "docs/fronts.md", "docs/gen.md", "docs/generator.md"),
            *("docs/hardening.md", "docs/install.md", "docs/launch.md", "docs/manual-pages.md"),
            *("docs/server.md", "docs/several-machines.md", "docs/status.md", "docs/who.md"),
            "docs/without-systemd.md",
        ),
        DOCS,
    ),
}
"""The test that runs the blocks of a page, or of a page's section (PAGE#HEADING).

tests/machine/test_docs.py runs every block that has no mark; of the others' pages only those of
`console` are run, unless a section is named.
"""

README = {
    "console": "tests/machine/test_readme.py",
    "sh#Put a site up": "tests/machine/test_readme.py",
    "sh": "not run: tests/test_demo.py runs script/demo, and script/test is all the tests",
}
"""The same for README.md, by LANGUAGE#HEADING or a language: the test, or why there is none."""

COMMANDS = frozenset(
    (
        *("ansible-playbook", "apt", "apt-get", "cat", "cd", "certbot", "chmod", "chown"),
        *("cp", "curl", "docker", "git", "groupadd", "install", "journalctl", "kubectl"),
        *("ln", "man", "mkdir", "nginx", "pip", "podman", "python", "python3", "rm"),
        *("runuser", "s6-fdholder-daemon", "script/demo", "script/test", "sdactivate"),
        *("sh", "sudo", "systemctl", "systemd-run", "tail", "touch", "useradd"),
    )
)
"""What an indented block begins with if it is one of the shell's."""


class Block(NamedTuple):
    """A block of code in a page."""

    page: str
    line: int
    """The number of its first line, that of the fence."""
    heading: str
    """The heading that it stands under."""
    language: str
    """What the fence says: sh, console, python; "" without; "indented" where there is none."""
    text: str
    mark: str
    """Why it is not run; "" where no comment says so."""

    @property
    def is_shell(self) -> bool:
        """Whether a reader would copy it to a shell."""
        if self.language in ("sh", "console", "bash", "shell"):
            return True
        first = next((it for it in self.text.splitlines() if it and it[:2] not in ("# ", "#!")), "")
        if self.language != "indented":
            return not self.language and first.startswith("$ ")
        words = [it for it in first.removeprefix("$ ").split() if not re.match("[A-Z_0-9]+=", it)]
        is_said = len(words) > 1 and words[1].endswith(":")  # `sdactivate serve: no socket was …`
        return bool(words) and words[0] in COMMANDS and not is_said

    @property
    def run_by(self) -> str:
        """The test that runs it, or "not run: " and why; "" where nothing is said."""
        if self.mark:
            return f"not run: {self.mark}"
        if self.page == "README.md":
            kinds = (f"{self.language}#{self.heading}", self.language)
            return next((README[kind] for kind in kinds if kind in README), "")
        if test := RUN_BY.get(f"{self.page}#{self.heading}"):
            return test
        test = RUN_BY.get(self.page, "")
        return test if test == DOCS or self.language == "console" else ""

    @property
    def commands(self) -> str:
        """What is typed: all of it, or what stands behind the prompts, without what is printed."""
        if not re.search(r"^\$ ", self.text, re.MULTILINE):
            return self.text
        typed = re.findall(r"^\$ ((?:.*\\\n)*.*\n)", self.text, re.MULTILINE)
        return "".join(typed)

    @property
    def printed(self) -> list[str]:
        """The lines that it shows as printed: those behind the commands."""
        without = re.sub(r"^\$ (?:.*\\\n)*.*\n", "", self.text, flags=re.MULTILINE)
        return [] if without == self.text else [line for line in without.splitlines() if line]


_FENCE = re.compile(r"( *)(`{3,})(\w*)")
_MARK = re.compile(r"<!-- not run: (\S.*) -->")


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of `page`, a path in the checkout."""
    return of_text(page, (CHECKOUT / page).read_text(encoding="utf-8"))


def of_text(page: str, text: str) -> Iterator[Block]:
    """Yield the blocks of `text`, which is that of `page`."""
    lines = text.splitlines()
    heading = before = ""
    at = 0
    while at < len(lines):
        begin, line = at, lines[at]
        at += 1
        if fence := _FENCE.fullmatch(line):
            while at < len(lines) and lines[at].strip() != fence[2]:
                at += 1
            inside = [it.removeprefix(fence[1]) for it in lines[begin + 1 : at]]
            at += 1
            language = fence[3]
        elif line.startswith("    ") and (not before or before.startswith("<!--")):
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at]):
                at += 1
            inside = [it[4:] for it in lines[begin:at]]
            language = "indented"
        else:
            heading = line.lstrip("# ") if line.startswith("#") else heading
            before = line
            continue
        mark = _MARK.fullmatch(before.strip())
        body = "\n".join(inside).strip("\n") + "\n"
        yield Block(page, begin + 1, heading, language, body, mark[1] if mark else "")
        before = ""


def pages() -> list[str]:
    """Return the pages that readers follow, README.md first."""
    found = sorted((CHECKOUT / "docs").rglob("*.md"))
    return ["README.md", *(str(path.relative_to(CHECKOUT)) for path in found)]


def shell(page: str) -> list[Block]:
    """Return the shell blocks of `page`."""
    return [block for block in blocks(page) if block.is_shell]
