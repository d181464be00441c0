"""Units of background workers, and what may be said of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.generate import background, workers
from sdactivate.generate.background import Worker
from sdactivate.generate.build import ALL, chosen, make
from sdactivate.generate.options import site as site_of
from sdactivate.generate.output import Target
from sdactivate.generate.sites_toml import Tables
from sdactivate.generate.systemd_generator import generate
from sdactivate.site import Site
from sdactivate.values import parse_listen
from tests.generate.strategies import HOSTILE
from tests.generate.test_units import needs_systemd, verify

SITE = Site(
    "mysite",
    app="mysite.wsgi:application",
    chdir="/srv/mysite",
    python="/opt/v/bin/python",
    env=(("A", "1"), ("B", "2")),
    settings={"threads": "4"},
)
TOML = """\
[sites.mysite]
app = "mysite.wsgi:application"
chdir = "/srv/mysite"
[sites.mysite.worker]
rq = "rq worker"
[sites.mysite.worker.mail]
command = "celery -A mysite worker"
count = 2
network = "local"
env = ["B=3"]
"""


def lines(*worker: Worker, site: Site = SITE, systemd: int = 252) -> list[str]:
    (file,) = workers.service(site, Target(systemd), worker=worker).files
    return file.text.splitlines()


def test_it_runs_in_the_sites_sandbox_and_ends_gracefully() -> None:
    told = lines(background.worker("mail=celery -A mysite worker -n 'w{instance}@%h $x'"))
    assert {
        "PartOf=mysite.socket",
        "WantedBy=mysite.socket",
        'ExecStart=/opt/v/bin/celery -A mysite worker -n "w%i@%%h $$x"',
        "Restart=always",
        "KillMode=mixed",
        "TimeoutStopSec=5min",
        "User=mysite",
        "DynamicUser=yes",
        "StateDirectory=mysite",
        "ProtectSystem=strict",
        "PrivateNetwork=yes",
        "Environment=B=2",
    } <= set(told)
    assert not [line for line in told if "SDACTIVATE_" in line or "{" in line]
    assert "RestartMaxDelaySec=30" in lines(background.worker("a=b"), systemd=254)


def test_what_is_its_own_outranks_the_sites() -> None:
    own = Worker("a", ("python", "x.py"), 3, True, "1G", (("B", "3"), ("C", "4")), "20s")
    told = lines(own)
    assert {"ExecStart=/opt/v/bin/python x.py", "MemoryMax=1G", "TimeoutStopSec=20s"} <= set(told)
    assert [line for line in told if line[:14] in ("Environment=A=", "Environment=B=")] == [
        *("Environment=A=1", "Environment=B=3"),
    ]
    assert "PrivateNetwork=yes" not in told
    (file,) = workers.service(SITE, Target(252), worker=(own,)).files
    assert file.units == ("mysite-a@1.service", "mysite-a@2.service", "mysite-a@3.service")


def test_it_belongs_to_the_sites_first_socket() -> None:
    listen = tuple(map(parse_listen, ["admin=/run/a.sock", "other=/run/b.sock"]))
    told = lines(background.worker("a=b"), site=Site("s", listen=listen, join=("redis",)))
    assert {"PartOf=s-admin.socket", "SupplementaryGroups=redis"} <= set(told)


def test_a_program_that_is_not_installed_is_warned_of(tmp_path: Path) -> None:
    for name in ("python", "celery"):
        (tmp_path / name).write_text("")
    site = Site("mysite", app="a:b", python=f"{tmp_path}/python")
    made = tuple(map(background.worker, ["a=celery", "b=python x", "c=rq worker", "d=/bin/no"]))
    told = [one for one in workers.service(site, Target(252), worker=made).warnings if "-w" in one]
    assert [line.split(":")[0] for line in told] == ["--worker c", "--worker d"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mail", "NAME=COMMAND"),
        ("=x", "at most 32 letters"),
        ("a b=x", "at most 32 letters"),
        ("a@1=x", "at most 32 letters"),
        ("a=", "name a program"),
        ("a=''", "name a program"),
        ("a='x", "No closing quotation"),
        ("a=bin/x y", "did you mean 'python bin/x y'?"),
        ("a=manage.py loop", "did you mean 'python manage.py loop'?"),
        ("a=x \x07", "a unit file can't contain"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        background.worker(text)
    assert said in str(refused.value)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two background workers"):
        lines(Worker("a", ("x",)), Worker("a", ("y",)))


def test_a_file_has_a_table_for_each(tmp_path: Path) -> None:
    path = tmp_path / "sites.toml"
    path.write_text(TOML)
    given = Tables(path).entry("mysite").given
    assert given["worker"] == (
        Worker("rq", ("rq", "worker")),
        Worker("mail", ("celery", "-A", "mysite", "worker"), 2, "local", env=(("B", "3"),)),
    )
    kinds = chosen([ALL], given)
    files = make(site_of("mysite", given), kinds, given, Target(252)).files
    (mail,) = [file for file in files if file.name == "mysite-mail@.service"]
    assert mail.units == ("mysite-mail@1.service", "mysite-mail@2.service")
    assert "IPAddressAllow=localhost" in mail.text


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[sites.a.worker.m]\ncount = 2\n", "1: sites.a.worker.m: command is missing"),
        ("[sites.a.worker.m]\ncomand = 'x'\n", "2: sites.a.worker.m.comand: there is no such key"),
        (
            "[sites.a.worker.m]\ncommand='x'\ncount = 0\n",
            "3: sites.a.worker.m.count: '0' is not a whole",
        ),
        ("[sites.a.worker.m]\ncommand='x'\ncount = 100\n", "number from 1 to 99"),
        ("[sites.a.worker.m]\ncommand='x'\nstop-timeout = 'x'\n", "a time span such as"),
        ("[sites.a.worker.m]\ncommand='x'\nnetwork = 'x'\n", "give local for TCP"),
        ("[sites.a.worker]\nm = 3\n", "2: sites.a.worker.m: not a table"),
        ("[sites.a.worker]\n'm x' = 'y'\n", "sites.a.worker.m x: NAME 'm x'"),
        ("[sites.a]\nworker = 'x'\n", "2: sites.a.worker: 'x': a background worker is NAME="),
        ("[sites.a]\nworker = ['x=y', 3]\n", "2: sites.a.worker: the value is not a string"),
    ],
)
def test_a_files_mistakes_have_their_line(table: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "sites.toml"
    path.write_text(table)
    with pytest.raises(UsageError) as refused:
        Tables(path).entry("a")
    assert said in str(refused.value)


def test_the_generator_enables_the_instances(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (normal := tmp_path / "normal").mkdir()
    (tmp_path / "etc/a.toml").write_text(TOML)
    said: list[str] = []
    generate(tmp_path / "etc", normal, Target(252), said.append)
    assert said == []
    wants = normal / "mysite.socket.wants"
    assert {link.name for link in wants.iterdir()} == {
        *("mysite-mail@1.service", "mysite-mail@2.service", "mysite-rq@1.service"),
    }
    assert all("Restart=always" in link.read_text() for link in wants.iterdir())


@needs_systemd
def test_systemd_reads_them(tmp_path: Path) -> None:
    words = ("/bin/true", "a b", "$HOME", "%n", "{instance}", 'q"', ";", "\\x41", "")
    made = Worker("a", words, env=(("X", "%h $x"),))
    (file,) = workers.service(SITE, Target(252), worker=(made,)).files
    socket = "[Socket]\nListenStream=/run/x\nService=mysite-a@1.service\n"
    assert verify(tmp_path, ("mysite.socket", socket), (file.name, file.text)) == ""


@given(st.text() | HOSTILE.map("a={}".format))
def test_any_text_is_a_background_worker_or_has_a_reason(text: str) -> None:
    try:
        made = background.worker(text)
    except UsageError:
        return
    told = "\n".join(lines(made))
    assert told.count("ExecStart=") >= 1
    assert told.count("[Install]\n") >= 1
