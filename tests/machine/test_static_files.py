"""docs/static-files.md: each way in which a static file is not served, found and fixed by it."""

import re

import pytest

from tests.machine.machine import CHECKOUT, Machine
from tests.machine.test_guide import SUDO, blocks

PAGE = (CHECKOUT / "docs" / "static-files.md").read_text()
STYLE = "/static/guestbook/style.css"
FILES = "/srv/mysite/staticfiles/"
FILE = f"{FILES}guestbook/style.css"
LOG = "/var/log/nginx/error.log"
FIND_OUT = "Find out whether it is closed or missing"
NGINX = "/etc/nginx/conf.d/mysite.conf"
SITE = """
sdactivate install mysite --group www-data --app mysite.wsgi:application --chdir /srv/mysite
sdactivate gen mysite --kind nginx --static /static/=/srv/mysite/staticfiles \\
    >/etc/nginx/conf.d/mysite.conf
systemctl start nginx
"""
# How each row of the page's table comes about, and the address that is asked for.
BREAK = (
    ("chmod 0700 /srv/mysite", STYLE),
    (f"chmod 0600 {FILE}", STYLE),
    ("true", "/static/"),
    ("rm -r /srv/mysite/staticfiles", STYLE),
    (f"sdactivate gen mysite --kind nginx >{NGINX}; systemctl reload nginx", STYLE),
)


def rows() -> list[list[str]]:
    table = PAGE.partition("<!-- cases -->")[2].partition("<!-- / -->")[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


@pytest.fixture(scope="module")
def site(machine: Machine) -> Machine:
    machine.write("/usr/local/bin/sudo", SUDO, mode=0o755)
    machine.run("sh", "-ec", SITE)
    return machine


def status(machine: Machine, address: str) -> str:
    ask = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://localhost{address}")
    return machine.run(*ask).stdout


def test_every_row_can_be_made() -> None:
    assert len(rows()) == len(BREAK)


def test_the_commands_that_find_it(site: Machine) -> None:
    site.run("chmod", "0700", "/srv/mysite")
    said = ""
    for block in blocks(PAGE):
        if (block.language, block.heading) == ("console", FIND_OUT):
            said += site.run("sh", "-c", block.text, check=False).stdout
    site.run("chmod", "0755", "/srv/mysite")
    assert said.startswith("403\n")
    assert f'"{FILE}" failed (13: Permission denied)' in said
    (shown,) = (it.text for it in blocks(PAGE) if it.language == "text")
    for line in shown.splitlines():
        assert " ".join(line.split()) in " ".join(said.split())


@pytest.mark.parametrize("number", range(len(BREAK)))
def test_what_it_answers_says_and_needs(number: int, site: Machine) -> None:
    answer, log, who, _, fix = rows()[number]
    breaks, address = BREAK[number]
    assert status(site, STYLE) == "200"
    site.run("sh", "-c", f": >{LOG}")
    site.run("sh", "-ec", breaks)
    # A reload of nginx's is not waited for by systemctl.
    site.wait(lambda: status(site, address) == answer, f"{address} to answer {answer}")
    said = site.read(LOG)
    assert log.strip("`") in said
    assert bool(said) == bool(log)
    path = FILES + address.removeprefix("/static/")
    asked = site.run("sdactivate", "who", path, "--as", "www-data", check=False)
    assert who.strip("`") in asked.stdout
    assert asked.returncode == (who.strip("`") not in ("others have r-x", "others have r--"))
    collect = [it.text for it in blocks(PAGE) if it.heading == "Collect static files"]
    commands = collect if fix.startswith("[") else re.findall("`(.*?)`", fix)
    for command in commands:
        site.run("sh", "-ec", command)
    site.wait(lambda: status(site, STYLE) == "200", "the style sheet is served again")
