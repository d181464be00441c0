"""The generated units in a real systemd run as meant. That they are read so: test_read_back.py."""

import pytest

from sdactivate.generate import options
from tests.machine.machine import Machine

UNITS = "/etc/systemd/system"


@pytest.fixture(scope="module")
def site(machine: Machine) -> Machine:
    """The example site, by the commands that the README shows."""
    options = """--group www-data --app mysite.wsgi:application --chdir /srv/mysite
        --credential secret_key=/etc/mysite.key --memory-max 512M --threads 4
        --by-hand migrate --command clearsessions --every daily"""
    commands = f"""
        sdactivate gen mysite --kind all --out {UNITS} {" ".join(options.split())}
        echo not-so-secret >/etc/mysite.key
        chmod 600 /etc/mysite.key
        systemctl daemon-reload
        systemctl start mysite-migrate.service
        systemctl enable --now mysite.socket mysite-clearsessions.timer
    """
    machine.run("sh", "-ec", commands)
    return machine


def get(machine: Machine, path: str = "/", user: str = "www-data") -> str:
    command = (
        "curl",
        "-sS",
        "--unix-socket",
        "/run/mysite.sock",
        f"http://mysite.test{path}",
        "--max-time",
        "20",
    )
    return machine.run(*command, f"http://mysite.test{path}", user=user).stdout


def test_nothing_runs_before_the_first_request(site: Machine) -> None:
    assert site.run("stat", "-c", "%U:%G %a", "/run/mysite.sock").stdout == "root:www-data 660\n"
    assert site.run("systemctl", "is-active", "mysite.service", check=False).stdout == "inactive\n"


def test_the_first_request_starts_a_django_site_with_its_database(site: Machine) -> None:
    page = get(site)
    assert "<form" in page
    assert site.run("systemctl", "is-active", "mysite.service").stdout == "active\n"
    assert site.run("test", "-s", "/var/lib/mysite/db.sqlite3").returncode == 0
    assert site.run("stat", "-c", "%a", "/var/lib/mysite/").stdout == "700\n"


def test_the_running_service_is_as_exposed_as_it_says(site: Machine) -> None:
    assert (
        "level for mysite.service: 0.2 "
        in site.run("systemd-analyze", "security", "mysite.service").stdout
    )


def test_a_command_runs_as_the_site_beside_the_site(site: Machine) -> None:
    get(site)
    owner = ("stat", "-c", "%U", "/var/lib/mysite/db.sqlite3")
    before = site.run(*owner).stdout
    site.run("systemctl", "start", "mysite-clearsessions.service")
    assert site.run(*owner).stdout == before == "mysite\n"
    assert "<form" in get(site)
    assert "mysite-clearsessions.service" in site.run("systemctl", "list-timers").stdout
    assert (
        "level for mysite-clearsessions.service: 0.2 "
        in site.run("systemd-analyze", "security", "mysite-clearsessions.service").stdout
    )


def test_two_instances_share_nothing(machine: Machine) -> None:
    commands = f"""
        sdactivate gen many --kind template --out {UNITS} --group www-data \\
            --app mysite.wsgi:application --chdir /srv/mysite
        systemctl daemon-reload
        systemctl start many@one.socket many@two.socket
    """
    machine.run("sh", "-ec", commands)
    for name in ("one", "two"):
        fetch = ("curl", "-sS", "--max-time", "30", "--unix-socket", f"/run/many-{name}.sock")
        machine.run(*fetch, "http://mysite.test/static/", user="www-data")
        assert machine.run("stat", "-c", "%U", f"/var/lib/many-{name}/").stdout == f"many-{name}\n"


def test_a_socket_group_of_the_sites_own_name(machine: Machine) -> None:
    """systemd makes no dynamic user that is called like a group: the service has another name."""
    commands = f"""
        sdactivate gen own --kind all --out {UNITS} --group own --member www-data \\
            --app mysite.wsgi:application --chdir /srv/mysite
        systemd-sysusers {UNITS}/sysusers.d/own.conf
        systemctl daemon-reload
        systemctl start own.socket
    """
    machine.run("sh", "-ec", commands)
    fetch = ("curl", "-sS", "--max-time", "30", "--unix-socket", "/run/own.sock", "http://own.test")
    machine.run(*fetch, user="www-data")
    assert machine.run(*fetch, user="nobody", check=False).returncode != 0
    assert machine.run("stat", "-c", "%U", "/var/lib/own/").stdout == "own-app\n"


def test_what_systemd_has_loaded_is_explained(site: Machine) -> None:
    explained = site.run("sdactivate", "explain", "mysite").stdout
    assert "\nSocketMode=0660\n    Who may connect" in explained
    assert "\nDynamicUser=yes\n" in explained
    timer = site.run("sdactivate", "explain", "mysite-clearsessions.timer").stdout
    assert "\nOnCalendar=daily\n" in timer


def test_the_secret_is_a_credential(site: Machine) -> None:
    assert site.run("test", "-e", "/var/lib/mysite/secret_key", check=False).returncode == 1


@pytest.mark.parametrize("row", [row.name for row in options.SITE if row.topic == "runtime"])
def test_every_setting_can_be_given(machine: Machine, row: str) -> None:
    """The unit carries it, and the runtime takes it."""
    from sdactivate.settings import BY_NAME, DEFAULTS, resolve

    setting = BY_NAME[row.replace("-", "_")]
    value = getattr(DEFAULTS, setting.name)
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    assert resolve({}, {}, {setting.variable: text})
