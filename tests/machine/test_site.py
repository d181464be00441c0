"""The example site with all that a site uses, inside the sandbox: nothing here is a stand-in.

A PostgreSQL and a Postfix by their unix sockets, state, cache, an encrypted credential, a timer.
"""

import json
import re
from pathlib import Path

import pytest
from django.core.signing import Signer

from tests.machine.machine import Machine

KEY = "only this machine can decrypt it"
HARDENING = Path(__file__).parents[2] / "docs" / "hardening.md"
# Debian's names for them; a cluster of its own, on a port of its own
SERVERS = """
version=$(ls /usr/lib/postgresql | sort -n | tail -1)
pg_createcluster "$version" sites --port 5440 >/dev/null
systemctl start "postgresql@$version-sites"
export PGPORT=5440
setpriv --reuid=postgres --regid=postgres --clear-groups createuser mysite
setpriv --reuid=postgres --regid=postgres --clear-groups createdb --owner mysite mysite

postconf -e inet_interfaces=loopback-only mydestination=localhost alias_maps= home_mailbox=
systemctl start postfix
systemctl daemon-reload
systemctl start mail.socket
"""
INSTALL = """
printf %s "$1" | systemd-creds encrypt --with-key=host --name=secret_key - /etc/mysite.cred
sdactivate install mysite --group www-data --app mysite.wsgi:application --chdir /srv/mysite \\
    --encrypted-credential secret_key=/etc/mysite.cred \\
    --env PGDATABASE=mysite --env PGHOST=/run/postgresql --env PGPORT=5440 \\
    --env MAIL_SOCKET=/run/mail.sock --by-hand migrate --command clearsessions --every 5s
"""
UNITS = "/etc/systemd/system"
AT_ONCE = "[Timer]\nAccuracySec=1ms\n"  # systemd's own is a minute
OLD_SESSION = """
insert into django_session values ('old', '', now() - interval '1 day')
"""


@pytest.fixture(scope="module")
def site(machine: Machine) -> Machine:
    machine.write(f"{UNITS}/mysite-clearsessions.timer.d/at-once.conf", AT_ONCE)
    for path, text in units().items():
        machine.write(path, text)
    machine.run("sh", "-ec", SERVERS)
    machine.run("sh", "-ec", INSTALL, "sh", KEY)
    machine.run("systemctl", "start", "mysite-migrate.service")
    return machine


def units() -> dict[str, str]:
    """The units that docs/hardening.md shows, by their paths."""
    shown = re.findall(r"```ini\n# (/etc/\S+)\n(.*?)```", HARDENING.read_text(), re.DOTALL)
    assert [Path(path).name for path, _ in shown] == ["mail.socket", "mail@.service"]
    return dict(shown)


def sql(machine: Machine, query: str) -> str:
    as_owner = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
    psql = ("psql", "--port=5440", "--tuples-only", "--no-align", "--command", query, "mysite")
    return machine.run(*as_owner, *psql).stdout.strip()


def use(machine: Machine, subject: str) -> dict[str, object]:
    form = ("-d", f"subject={subject}", "-d", "to=alice@localhost")
    fetch = ("curl", "-sSf", "--max-time", "60", "--unix-socket", "/run/mysite.sock", *form)
    answer: dict[str, object] = json.loads(
        machine.run(*fetch, "http://mysite.test/use", user="www-data").stdout
    )
    return answer


def test_database_state_cache_credential_and_mail(site: Machine) -> None:
    first = use(site, "first")
    signed = first.pop("signed")
    assert Signer(key=KEY, fallback_keys=[]).unsign(str(signed)) == "mysite"
    assert first == {"database": ["postgresql", "mysite"], "state": 1, "cache": 1, "mail": 1}
    again = use(site, "again")
    assert (again["state"], again["cache"]) == (2, 2)
    assert int(sql(site, "select count(*) from django_migrations")) > 10
    site.wait(
        lambda: "Subject: again" in site.run("cat", "/var/mail/alice", check=False).stdout,
        "mail for alice",
    )
    assert "sent by the site" in site.read("/var/mail/alice")


def test_all_of_it_in_the_whole_sandbox(site: Machine) -> None:
    use(site, "sandbox")
    said = site.run("systemd-analyze", "security", "mysite.service").stdout
    assert "level for mysite.service: 0.2 " in said
    for name, value in {
        "DynamicUser": "yes",
        "PrivateNetwork": "yes",
        "RestrictAddressFamilies": "AF_UNIX",
        "MemoryDenyWriteExecute": "yes",
    }.items():
        assert site.show("mysite.service", name) == value


def test_the_key_lies_encrypted_and_only_the_service_has_it(site: Machine) -> None:
    assert KEY not in site.run("cat", "/etc/mysite.cred").stdout
    use(site, "key")
    inside = "/run/credentials/mysite.service/secret_key"
    assert site.run("cat", inside, user="alice", check=False).returncode != 0
    pid = site.show("mysite.service", "MainPID")
    assert site.run("cat", f"/proc/{pid}/root{inside}").stdout == KEY
    # The site would have made a key, had it found none.
    assert site.run("test", "-e", "/var/lib/mysite/secret_key", check=False).returncode == 1


def test_the_timer_clears_sessions_in_the_same_database(site: Machine) -> None:
    sql(site, OLD_SESSION)
    site.wait(
        lambda: sql(site, "select count(*) from django_session where session_key = 'old'") == "0",
        "the session that has expired to be cleared by the timer",
    )
    assert site.show("mysite-clearsessions.service", "Result") == "success"
