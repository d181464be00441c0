"""What of a service surrounds its processes, and what its specifiers mean outside of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import Error, UsageError
from sdactivate.operate import transient
from sdactivate.systemd import names
from sdactivate.systemd.unitfile import Unit, parse


def unit(text: str, name: str = "mysite.service") -> Unit:
    return Unit(name, [parse(text, f"/etc/{name}")], [f"/etc/{name}"])


def test_what_is_about_the_service_itself_is_left_out() -> None:
    text = """
[Unit]
Description=x
[Service]
Type=notify
NotifyAccess=main
ExecStart=/bin/true
ExecReload=/bin/true
ExecPaths=/srv
WatchdogSec=2
KillMode=mixed
TimeoutStopSec=1
Restart=always
RestartMaxDelaySec=2
StartLimitBurst=1
X-Mine=1
StandardOutput=journal
User=a
Environment=
Environment=A=1
[Install]
WantedBy=multi-user.target
"""
    assert transient.properties(unit(text), active=False) == [
        *("ExecPaths=/srv", "User=a", "Environment=", "Environment=A=1"),
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("%n", "mysite@a\\x2db-c.service"),
        ("%N", "mysite@a\\x2db-c"),
        ("%p%%", "mysite%"),
        ("%i", "a\\x2db-c"),
        ("%I", "a-b/c"),
        ("%f", "/a-b/c"),
        ("-%S/%p-%i %C %t %L %E", "-/var/lib/mysite-a\\x2db-c /var/cache /run /var/log /etc"),
        ("80%", "80%"),
        ("%z %1 %", "%z %1 %"),
        ("%y %Y", "/etc/mysite@a\\x2db-c.service /etc"),
    ],
)
def test_specifiers_mean_what_they_mean_in_the_unit(written: str, meant: str) -> None:
    made = unit(f"[Service]\nDescription={written}", "mysite@a\\x2db-c.service")
    assert transient.expand(made, made.entries[0]) == meant


def test_a_specifier_that_cannot_be_told_is_refused_with_its_line() -> None:
    made = unit("[Service]\nUser=a\nEnvironment=KEY=%d/key\n")
    with pytest.raises(Error, match=r"mysite.service:3: Environment=KEY=%d/key: %d can"):
        transient.properties(made, active=False)


@given(st.text(), st.booleans())
def test_any_unit_file_has_properties_or_a_reason(text: str, active: bool) -> None:
    try:
        found = transient.properties(unit(f"[Service]\n{text}"), active)
    except Error as error:
        found = [str(error)]
    assert all("=" in line and "\n" not in line for line in found)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_unescape_is_the_inverse_of_escape(text: str) -> None:
    assert names.unescape(names.escape(text)) == text


def test_the_network_is_given_back_by_the_rows_of_the_sandbox() -> None:
    assert transient.with_need("network") == [
        "BindReadOnlyPaths=-/run/systemd/notify -/run/systemd/journal -/run/systemd/userdb "
        "-/run/systemd/resolve",
        "PrivateNetwork=no",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "IPAddressDeny=",
    ]


@pytest.mark.parametrize(
    ("start", "python"),
    [
        ("/opt/v/bin/python -m sdactivate serve a:b", "/opt/v/bin/python"),
        ("-@/usr/bin/python3.11 x", "/usr/bin/python3.11"),
        ('"/opt/a b/bin/python3" x', "/opt/a b/bin/python3"),
    ],
)
def test_the_interpreter_is_the_service_s(start: str, python: str) -> None:
    assert transient.interpreter(unit(f"[Service]\nExecStart={start}")) == python


def test_the_interpreter_lies_beside_another_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("bin")
    made = unit(f"[Service]\nExecStart={directory}/gunicorn mysite.wsgi")
    with pytest.raises(Error, match=r"no interpreter beside .*gunicorn"):
        transient.interpreter(made)
    (directory / "python3").symlink_to("/nowhere")
    assert transient.interpreter(made) == f"{directory}/python3"


def test_a_running_service_keeps_its_runtime_directory() -> None:
    made = unit("[Service]\nRuntimeDirectory=mysite mysite/%N\n")
    assert transient.properties(made, active=False) == ["RuntimeDirectory=mysite mysite/mysite"]
    assert transient.properties(made, active=True)[1:] == [
        "RuntimeDirectory=",
        "Environment=RUNTIME_DIRECTORY=/run/mysite:/run/mysite/mysite",
        "ReadWritePaths=-/run/mysite",
        "ReadWritePaths=-/run/mysite/mysite",
    ]


@pytest.mark.parametrize("name", ["mysite.socket", "mysite@", "mysite@.service"])
def test_only_a_service_is_meant(name: str) -> None:
    with pytest.raises(UsageError, match="NAME"):
        transient.service_of(name)
