"""docs/guide.md, followed line by line on a clean machine: from nothing to a rollback."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.machine.machine import CHECKOUT, Installation, Machine, wheels

GUIDE = CHECKOUT / "docs" / "guide.md"
PROJECT = "/root/mysite"
# The machine has none, and need not ask: all is done as root.
SUDO = """\
#!/bin/sh
[ "$1" = -u ] || exec "$@"
user=$2
shift 2
exec setpriv --reuid="$user" --regid="$user" --init-groups "$@"
"""
ENVIRON = {
    "HOME": "/root",
    "PATH": "/opt/sdactivate/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    **{f"GIT_{who}_NAME": "alice" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "alice@mysite.test" for who in ("AUTHOR", "COMMITTER")},
}
FIND_LINKS = "--find-links /srv/wheels"


class Block(NamedTuple):
    """A fenced block: the heading above it, its language, its text."""

    heading: str
    language: str
    text: str


def blocks(text: str) -> Iterator[Block]:
    heading = ""
    for match in re.finditer(r"^## ([^\n]+)|^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        else:
            yield Block(heading, match[2], match[3])


def bring(machine: Machine, directory: Path) -> None:
    """Copy the wheels in `directory` into the machine's /srv/wheels: it has no network."""
    machine.run("mkdir", "-p", "/srv/wheels")
    with subprocess.Popen(
        ["tar", "-C", str(directory), "-c", "."], stdout=subprocess.PIPE
    ) as packed:
        unpack = machine.command("tar", "-C", "/srv/wheels", "--no-same-owner", "-x")
        subprocess.run(unpack, stdin=packed.stdout, check=True, timeout=60)


def follow(machine: Machine, block: Block) -> str:
    """Do what `block` says, and return what it prints."""
    if block.language == "python":
        name = block.text.partition("\n")[0].removeprefix("# ")
        appended = name == "mysite/settings.py"
        before = machine.read(f"{PROJECT}/{name}") if appended else ""
        machine.write(f"{PROJECT}/{name}", before + block.text)
        return ""
    script = block.text.replace(FIND_LINKS, f"{FIND_LINKS} --no-index")
    there = f"cd {PROJECT} 2>/dev/null || cd\n"
    done = machine.run("sh", "-ec", there + script, env=ENVIRON, timeout=300)
    return done.stdout + done.stderr


def test_it_is_followed_to_its_end(
    machine: Machine, installation: Installation, fitting_wheel: Path
) -> None:
    machine.run("rm", "-r", "/srv/mysite", "/etc/nginx/conf.d/mysite.conf")
    machine.run("systemctl", "start", "nginx")  # as Debian's package does
    machine.write("/usr/local/bin/sudo", SUDO, mode=0o755)
    bring(machine, wheels(installation, fitting_wheel, "Django", "psycopg[binary]"))
    said: dict[str, str] = {}
    for block in blocks(GUIDE.read_text()):
        if block.language in ("console", "python"):
            said[block.heading] = said.get(block.heading, "") + follow(machine, block)

    assert "csrfmiddlewaretoken" in said["Make the first release and put the site up"]
    assert "\nnothing found\n" in said["Make the first release and put the site up"]
    assert "alice is an admin user" in said["Make an admin user"]
    assert "TABLE DATA public notes_note mysite" in said["Back up, and try the restore"]
    releases = said["Release a hundred times"]
    assert len(re.findall(r"^\d{8}-\d{6}\S* ", releases, re.MULTILINE)) == 5  # --keep
    assert "mysite serves release" in releases

    def notes() -> dict[str, object]:
        fetch = ("--resolve", "mysite.test:80:127.0.0.1", "http://mysite.test/notes")
        (note,) = json.loads(machine.run("curl", "-sSf", *fetch).stdout)["notes"]
        return dict(note)

    machine.wait(lambda: notes()["words"] == 3, "the background worker has counted")
    upload = f"http://mysite.test/media/{notes()['file']}"
    fetch = ("curl", "-sSf", "--resolve", "mysite.test:80:127.0.0.1")
    assert "sdactivate==" in machine.run(*fetch, upload).stdout
    assert (
        "color-scheme" in machine.run(*fetch, "http://mysite.test/static/admin/css/base.css").stdout
    )
