"""The access log in the journal, from within the sandbox that is generated."""

import json

from tests.machine.machine import Machine

UNIT = "mysite.service"


def test_a_request_has_fields_of_its_own(site: Machine) -> None:
    drop_in = "[Service]\nEnvironment=SDACTIVATE_ACCESS_LOG=yes\n"
    site.write(f"/etc/systemd/system/{UNIT}.d/log.conf", drop_in)
    site.run("systemctl", "daemon-reload")
    site.curl("/")
    site.run("curl", "-s", "http://localhost/forged%0A%1b/")

    def entries() -> list[dict[str, str]]:
        found = site.run("journalctl", "-u", UNIT, "-o", "json", "_TRANSPORT=journal").stdout
        return [json.loads(line) for line in found.splitlines()]

    def requests() -> list[dict[str, str]]:
        return [entry for entry in entries() if "REQUEST_PATH" in entry]

    site.wait(lambda: len(requests()) == 2, "two entries")
    home, forged = requests()
    wanted = {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "sdactivate",
        "REQUEST_METHOD": "GET",
        "REQUEST_PATH": "/",
        "REQUEST_PROTOCOL": "scgi",
        "RESPONSE_STATUS": "200",
        "REMOTE_ADDR": "127.0.0.1",
        "PEER": "unix peer (scgi)",
    }
    assert {name: home[name] for name in wanted} == wanted
    assert int(home["RESPONSE_BYTES"]) > 100
    assert float(home["REQUEST_MSEC"]) > 0
    assert home["MESSAGE"].startswith("GET / from unix peer (scgi): 200, ")
    assert forged["REQUEST_PATH"] == "/forged\\n\\x1b/"
    assert forged["RESPONSE_STATUS"] == "404"


def test_a_journal_that_has_stopped_holds_up_no_request(site: Machine) -> None:
    drop_in = "[Service]\nEnvironment=SDACTIVATE_ACCESS_LOG=yes\n"
    site.write(f"/etc/systemd/system/{UNIT}.d/log.conf", drop_in)
    site.run("systemctl", "daemon-reload")
    site.curl("/")
    journald = site.show("systemd-journald.service", "MainPID")
    site.run("kill", "-STOP", journald)
    try:
        # More than its sockets hold: an entry for each, and Django's own line on standard error
        asked = site.run(
            *("curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}\\n"),
            "http://localhost/[1-5000]/",
        ).stdout
        assert asked.splitlines() == ["404"] * 5000
    finally:
        site.run("kill", "-CONT", journald)
    site.curl("/")
    site.wait(
        lambda: "entries were dropped here" in site.run("journalctl", "-u", UNIT).stdout,
        "the count of what was dropped",
    )
