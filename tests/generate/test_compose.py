"""Compose and stack: the same site in two dialects, and what each leaves out."""

import re
from typing import Any

import pytest
import yaml

from sdactivate.errors import UsageError
from sdactivate.generate import options, units
from sdactivate.generate.background import worker
from sdactivate.generate.build import make
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.output import Output, Target
from sdactivate.site import Site

KINDS_HERE = ("compose", "stack")
GIVEN = {"app": "mysite.wsgi:application", "image": "registry.example/mysite:1"}
EVERYTHING = {
    "command": (("clearsessions",),),
    "by_hand": (("migrate", "--no-input"),),
    "worker": (worker("mail=celery -A mysite worker"), worker("n=python {instance}.py")),
    "credential": (("secret_key", "/etc/mysite/secret_key"),),
    "env": (("A", "$HOME ${X} yes: #"), ("Y", "no")),
    "env_file": ("/etc/mysite/env",),
    "memory_max": "512M",
    "cpu_quota": "150%",
    "tasks_max": "512",
    "writable": ("/srv/media",),
    "live_path": "/live",
}


def generated(kind: str, **given: Any) -> Output:
    asked = {key: value for key, value in {**GIVEN, **given}.items() if value != ""}
    site = options.site("mysite", asked)
    return make(site, [KINDS[kind]], asked, Target(252))


def document(output: Output) -> dict[str, Any]:
    """All files as one: those of a stack are deployed beside each other."""
    first, *others = (yaml.safe_load(file.text) for file in output.files)
    for other in others:
        assert other.get("secrets") == first.get("secrets")
        first["services"] |= other["services"]
    read: dict[str, Any] = first
    return read


@pytest.mark.parametrize("kind", KINDS_HERE)
def test_every_part_is_confined_and_told_the_same(kind: str) -> None:
    services = document(generated(kind, **EVERYTHING))["services"]
    assert sorted(services) == ["clearsessions", "mail", "migrate", "n-1", "web"]
    for name, service in services.items():
        assert service["user"] == "10001:10001", name
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["init"] is True
        assert service["environment"]["A"] == "$$HOME $${X} yes: #"  # $$ is a dollar to both
        assert service["environment"]["Y"] == "no"
        assert service["environment"]["CREDENTIALS_DIRECTORY"] == "/run/secrets"
        assert service["env_file"] == ["/etc/mysite/env"]
        assert service["secrets"][0]["target"] == "secret_key"
        targets = [str(it["target"] if isinstance(it, dict) else it) for it in service["volumes"]]
        targets = [it.rpartition(":")[2] for it in (*targets, *service.get("tmpfs", ()))]
        assert {"/var/lib/mysite", "/var/cache/mysite", "/tmp"} <= set(targets)
        assert ("healthcheck" in service) == (name == "web")
    assert services["mail"]["entrypoint"][0] == "/opt/venv/bin/celery"
    assert services["n-1"]["entrypoint"][1] == "1.py"
    assert services["migrate"]["entrypoint"][1:] == ["manage.py", "migrate", "--no-input"]
    assert services["mail"]["stop_grace_period"] == "300s"


def test_compose_is_one_machine() -> None:
    output = generated("compose", **EVERYTHING)
    services = document(output)["services"]
    assert services["web"]["ports"] == ["127.0.0.1:8000:8000"]
    assert services["web"]["build"] == "."
    assert "/srv/media:/srv/media" in services["web"]["volumes"]
    assert all(it["security_opt"] == ["no-new-privileges:true"] for it in services.values())
    assert {n for n, it in services.items() if it.get("profiles") == ["by-hand"]} == {
        *("clearsessions", "migrate")
    }
    assert document(output)["secrets"] == {"secret_key": {"file": "/etc/mysite/secret_key"}}
    said = " ".join(output.warnings)
    assert "--command clearsessions: Compose has no timers" in said
    assert "make it readable for user 10001" in said
    assert services["web"]["stop_grace_period"] == f"{30 + units.STOP_MARGIN}s"


def test_a_stack_replaces_its_tasks_one_by_one() -> None:
    output = generated("stack", **EVERYTHING, replicas=3)
    read = document(output)
    web = read["services"]["web"]
    assert web["deploy"]["replicas"] == 3
    update = web["deploy"]["update_config"]
    assert (update["order"], update["failure_action"]) == ("start-first", "rollback")
    assert read["services"]["mail"]["deploy"]["update_config"]["order"] == "stop-first"
    assert web["stop_grace_period"] == f"{10 + 30 + units.STOP_MARGIN}s"
    assert web["environment"]["SDACTIVATE_DRAIN_DELAY"] == "10"
    # As the engine adds them up: an unhealthy task is seen within what is watched
    check = web["healthcheck"]
    seconds = int(check["interval"][:-1]) * check["retries"] + int(check["timeout"][:-1])
    assert int(update["monitor"][:-1]) > seconds
    job = read["services"]["migrate"]["deploy"]
    assert (job["mode"], job["replicas"]) == ("replicated-job", 1)
    assert [file.name for file in output.files] == [
        *("mysite.stack.yaml", "mysite-clearsessions.stack.yaml", "mysite-migrate.stack.yaml")
    ]
    assert set(yaml.safe_load(output.files[0].text)["services"]) == {"web", "mail", "n-1"}
    assert read["secrets"] == {"mysite_secret_key": {"external": True}}
    assert not {"build", "security_opt", "profiles"} & set(web)
    said = " ".join(output.warnings)
    assert "--command clearsessions: a swarm has no timers" in said
    assert "/srv/media is left out: each task" in said


def test_it_is_published_where_it_was_to_listen() -> None:
    (listen,) = (row for row in options.SITE if row.name == "listen")
    asked = tuple(map(listen.read, ("10.0.0.11:8080", "[::1]:9000", "metrics=/run/m.sock")))
    services = document(generated("compose", listen=asked, metrics="metrics"))["services"]
    assert services["web"]["ports"] == [
        *("10.0.0.11:8080:8080", "[::1]:9000:9000", "127.0.0.1:8000:8000")
    ]
    stack = document(generated("stack", listen=asked, metrics="metrics"))["services"]["web"]
    # The figures are not for clients
    assert [it["target"] for it in stack["ports"]] == [8080, 9000]
    assert "8000" in stack["healthcheck"]["test"][-1]


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        ("stack", {"image": ""}, "--kind stack needs --image"),
        ("stack", {"server": "gunicorn"}, "the engine checks by HTTP whether each container"),
        ("compose", {"encrypted_credential": (("a", "/a"),)}, "only systemd can decrypt it"),
        ("compose", {"app": ""}, "--kind compose needs --app"),
        ("compose", {"worker": (worker("web=python x"),)}, "would be called web"),
    ],
)
def test_what_can_not_be_is_refused(kind: str, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        generated(kind, **given)


@pytest.mark.parametrize("kind", KINDS_HERE)
def test_a_name_that_no_container_has(kind: str) -> None:
    with pytest.raises(UsageError, match=f"--kind {kind}: NAME 'My_site'"):
        KINDS[kind].load()(Site("My_site", app="a:b"), Target(252), image="x:1")


def test_compose_needs_no_image_and_takes_other_servers() -> None:
    service = document(generated("compose", image="", server="gunicorn"))["services"]["web"]
    assert service["image"] == "localhost/mysite:latest"
    assert "healthcheck" not in service


def test_the_health_check_asks_where_it_listens() -> None:
    (listen,) = (row for row in options.SITE if row.name == "listen")
    asked = (listen.read("[::1]:9000"),)
    web = document(generated("stack", listen=asked, trust="10.0.0.1"))["services"]["web"]
    assert "('::1',9000)" in web["healthcheck"]["test"][-1]
    assert web["environment"]["SDACTIVATE_TRUST"] == "::1 10.0.0.1"


def test_a_worker_s_part_of_an_unknown_machine_is_left_out() -> None:
    mail = worker("mail=celery -A mysite worker")._replace(memory_max="25%")
    output = generated("stack", worker=(mail,))
    assert "resources" not in document(output)["services"]["mail"]["deploy"]
    assert "--memory-max 25% of mail is left out" in " ".join(output.warnings)
