"""The README, followed to the letter on a clean machine."""

import re

from tests.machine.machine import CHECKOUT, Machine


def blocks_of(readme: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)


def squeezed(text: str) -> str:
    """One blank for several: what stands beside a column makes it wider or narrower."""
    return re.sub(" +", " ", text)


def test_its_console_blocks(machine: Machine) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    # As Debian's package leaves it: running, with its own default server.
    machine.run("rm", "/etc/nginx/conf.d/mysite.conf")
    machine.run("ln", "-s", "/etc/nginx/sites-available/default", "/etc/nginx/sites-enabled/")
    machine.run("systemctl", "start", "nginx")
    shown = squeezed(machine.run("sh", "-ec", "".join(blocks_of(readme, "console"))).stdout)
    assert "<h1>Guestbook</h1>" in shown
    assert 'Status: "ready' in shown
    assert "\nnothing found\n" in shown  # by the doctor
    for line in blocks_of(readme, "text")[1].splitlines():
        assert squeezed(line) in shown
    assert "body {" in machine.curl("/static/guestbook/style.css")


def test_the_entry_point_it_shows_is_the_example_sites(machine: Machine) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    (block,) = blocks_of(readme, "python")
    wsgi = (CHECKOUT / "examples" / "mysite" / "mysite" / "wsgi.py").read_text()
    shown = [line for line in block.splitlines() if line not in ("", "...")]
    assert [line for line in wsgi.splitlines() if line in shown] == shown
