"""The manifests: valid in three versions of Kubernetes, restricted, drained as the units are."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from sdactivate.cli import main
from sdactivate.errors import UsageError
from sdactivate.generate import options, units
from sdactivate.generate.background import worker
from sdactivate.generate.build import make
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.output import Output, Target
from sdactivate.site import Site
from tests.generate.strategies import sites

# The oldest that has all fields out of beta, the newest, and one between
VERSIONS = ("1.27", "1.32", "1.37")
IMAGE = "registry.example/mysite:1"
GIVEN = {"app": "mysite.wsgi:application", "trust": "10.0.0.0/8", "image": IMAGE}


def generated(**given: Any) -> Output:
    asked = {key: value for key, value in {**GIVEN, **given}.items() if value != ""}
    site = options.site("mysite", asked)
    return make(site, [KINDS["kubernetes"]], asked, Target(252))


def objects(output: Output) -> dict[str, dict[str, Any]]:
    """Every object of the files, by its kind and name."""
    return {
        f"{it['kind']}/{it['metadata']['name']}": it
        for file in output.files
        for it in yaml.safe_load_all(file.text)
        if it
    }


def pods(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pods' specifications, by the objects that they belong to."""
    of = {}
    for name, it in found.items():
        spec = it["spec"].get("jobTemplate", it)["spec"]
        if "template" in spec:
            of[name] = spec["template"]
    return of


def check(output: Output) -> dict[str, dict[str, Any]]:
    """Hold what was written against the schemas and the restricted standard; return the objects."""
    found = objects(output)
    for it in found.values():
        for version in VERSIONS:
            kubernetes_validate.validate(it, version, strict=True)
    for name, pod in pods(found).items():
        spec = pod["spec"]
        # kubernetes.io/docs/concepts/security/pod-security-standards, Restricted
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert all(set(it) & {"emptyDir", "secret"} for it in spec["volumes"])
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not any("hostPort" in port for port in container.get("ports", ()))
    for name, it in found.items():
        if it["kind"] == "Deployment":
            labels = pods(found)[name]["metadata"]["labels"]
            assert it["spec"]["selector"]["matchLabels"].items() <= labels.items()
    return found


EVERYTHING = {
    "command": (("clearsessions",),),
    "every": "Mon 04:00 Europe/Berlin",
    "by_hand": (("migrate", "--no-input"), ("create_cachetable",)),
    "worker": (worker("mail=celery -A mysite worker -n w{instance}"), worker("loop=python x.py")),
    "credential": (("secret_key", "/etc/mysite/secret key"),),
    "encrypted_credential": (("token", "/etc/mysite/token"),),
    "env": (("A", "$(HOME) yes: #"), ("Y", "no")),
    "env_file": ("/etc/mysite/env", "/etc/mysite/more"),
    "memory_max": "512M",
    "cpu_quota": "150%",
    "replicas": 3,
}


def test_all_that_a_site_has() -> None:
    output = generated(**EVERYTHING)
    assert [file.name for file in output.files] == [
        *("mysite.yaml", "mysite-migrate.yaml", "mysite-create-cachetable.yaml")
    ]
    found = check(output)
    assert sorted(found) == [
        "CronJob/mysite-clearsessions",
        "Deployment/mysite",
        "Deployment/mysite-loop",
        "Deployment/mysite-mail-1",
        "Job/mysite-create-cachetable",
        "Job/mysite-migrate",
        "Service/mysite",
    ]
    assert found["Deployment/mysite"]["spec"]["replicas"] == 3
    cron = found["CronJob/mysite-clearsessions"]["spec"]
    assert (cron["schedule"], cron["timeZone"]) == ("0 4 * * 1", "Europe/Berlin")
    (mail,) = pods(found)["Deployment/mysite-mail-1"]["spec"]["containers"]
    assert mail["command"] == ["/opt/venv/bin/celery", "-A", "mysite", "worker", "-n", "w1"]
    (job,) = pods(found)["Job/mysite-migrate"]["spec"]["containers"]
    assert job["command"] == ["/opt/venv/bin/python", "manage.py", "migrate", "--no-input"]
    for name, pod in pods(found).items():
        (container,) = pod["spec"]["containers"]
        env = {it["name"]: it["value"] for it in container["env"]}
        assert (env["A"], env["Y"]) == ("$$(HOME) yes: #", "no"), name  # $$ is a dollar to it
        assert [it["secretRef"]["name"] for it in container["envFrom"]] == [
            *("mysite-env", "mysite-env-2")
        ]
        assert container["resources"] == {"limits": {"memory": "512Mi", "cpu": "1500m"}}
        (secret,) = (it["secret"] for it in pod["spec"]["volumes"] if "secret" in it)
        assert secret["secretName"] == "mysite"
        assert [it["key"] for it in secret["items"]] == ["secret_key", "token"]
        (mount,) = (it for it in container["volumeMounts"] if it["name"] == "secrets")
        assert env["CREDENTIALS_DIRECTORY"] == mount["mountPath"]
    assert "--from-file=secret_key=/etc/mysite/secret key'" in output.files[0].text


def test_it_is_asked_and_drained() -> None:
    found = check(generated(drain_delay="15", graceful_timeout="20", start_timeout="2min"))
    spec = pods(found)["Deployment/mysite"]["spec"]
    (web,) = spec["containers"]
    for probe, path in (("startup", "ready"), ("readiness", "ready"), ("liveness", "live")):
        assert web[f"{probe}Probe"]["httpGet"] == {"path": f"/-/{path}", "port": 8000}
    startup = web["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 120
    assert spec["terminationGracePeriodSeconds"] == 15 + 20 + units.STOP_MARGIN
    env = {it["name"]: it["value"] for it in web["env"]}
    assert env["SDACTIVATE_DRAIN_DELAY"] == "15"
    update = found["Deployment/mysite"]["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0


def test_the_grace_period_is_the_unit_s() -> None:
    asked = {**GIVEN, "drain_delay": "7", "graceful_timeout": "90"}
    spec = pods(check(generated(**asked)))["Deployment/mysite"]["spec"]
    site = options.site("mysite", {key: asked[key] for key in asked if key != "image"})
    assert spec["terminationGracePeriodSeconds"] == units.stop_timeout(site)


def test_the_figures_port_is_asked_where_there_is_one() -> None:
    (metrics,) = (row for row in options.SITE if row.name == "listen")
    listen = (metrics.read("/run/mysite.sock"), metrics.read("metrics=/run/m.sock"))
    found = check(generated(listen=listen, metrics="metrics", workers="2"))
    (web,) = pods(found)["Deployment/mysite"]["spec"]["containers"]
    assert web["livenessProbe"]["httpGet"]["port"] == 8001
    assert [it["name"] for it in web["ports"]] == ["http", "metrics"]
    (port,) = found["Service/mysite"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, 8000)


def test_what_the_site_says_itself_stands() -> None:
    found = check(generated(ready_path="/r", live_path="/l", drain_delay="0"))
    (web,) = pods(found)["Deployment/mysite"]["spec"]["containers"]
    assert web["readinessProbe"]["httpGet"]["path"] == "/r"
    assert web["livenessProbe"]["httpGet"]["path"] == "/l"
    assert {"name": "SDACTIVATE_DRAIN_DELAY", "value": "0"} in web["env"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"image": ""}, "needs --image, which every machine pulls"),
        ({"trust": ""}, "needs --trust: the networks that health checks"),
        ({"app": ""}, "needs --app"),
        ({"server": "waitress"}, "the engine checks by HTTP whether each container"),
        ({"server": "gunicorn", "trust": ""}, "the engine checks by HTTP whether each container"),
        ({"protocol": "fastcgi"}, "the engine checks by HTTP whether each container"),
        ({"every": "Mon *-*-01 04:00"}, "^--every 'Mon .*cron can't express it"),
        ({"allow_peer": "user:www-data"}, "--allow-peer user:www-data: --kind kubernetes: peers"),
        ({"worker": (worker("web=python x.py"),)}, "would be called web"),
        ({"worker": (worker("x=python x.py"),), "by_hand": (("x",),)}, "would be called x"),
        ({"worker": (worker(f"{'x' * 32}=python x.py"),), "by_hand": (("x" * 60,),)}, "at most 52"),
    ],
)
def test_what_can_not_be_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        generated(**given)


@pytest.mark.parametrize("name", ["My-site", "my_site", "1site", "a" * 53, "site-", "my.site"])
def test_a_name_that_no_object_has(name: str) -> None:
    kind = KINDS["kubernetes"].load()
    with pytest.raises(UsageError, match="--kind kubernetes: NAME"):
        kind(Site(name, app="a:b", settings={"trust": "10.0.0.1"}), Target(252), image=IMAGE)


def test_what_is_left_out_is_said() -> None:
    output = generated(
        writable=("/srv/media",),
        memory_max="25%",
        idle_timeout="5min",
        workers="2",
        network=True,
        python="/usr/bin/python3",
        image="registry.example/mysite",
    )
    check(output)
    said = "\n".join(output.warnings)
    for words in (
        "/srv/media is left out: each pod",
        "--memory-max 25% is left out",
        "--idle-timeout is left out",
        "--workers 2: a health check waits for a free worker",
        "--network, --python: --kind kubernetes does not use it",
        "--image registry.example/mysite: nodes may have different images",
    ):
        assert words in said
    assert "memory" not in output.files[0].text.replace("#", "")


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(sites())
def test_whatever_a_site_says_the_manifests_are_valid(site: Site) -> None:
    """Words arrive as they were meant: what its server is told is in its command line."""
    site = replace(site, settings={"trust": "10.0.0.0/8"})
    output = KINDS["kubernetes"].load()(site, Target(252), image=IMAGE)
    for file in output.files:
        for it in yaml.safe_load_all(file.text):
            kubernetes_validate.validate(it, VERSIONS[-1], strict=True)
    found = objects(output)
    (web,) = pods(found)[f"Deployment/{site.name}"]["spec"]["containers"]
    assert web["args"][-1].replace("$$", "$") == site.app
    env = {it["name"]: it["value"].replace("$$", "$") for it in web["env"]}
    assert dict(site.env).items() <= env.items()


def test_without_comments_it_is_the_same() -> None:
    asked = {**GIVEN, **EVERYTHING}
    site = options.site("mysite", asked)
    bare = make(site, [KINDS["kubernetes"]], asked, Target(252, comments=False))
    assert objects(bare) == objects(generated(**EVERYTHING))
    for file in bare.files:
        first, *rest = file.text.splitlines()
        assert "written by sdactivate" in first
        assert not [line for line in rest if line.lstrip().startswith("#")]


def test_the_commands_of_its_comments_can_be_typed() -> None:
    (line, *_) = (
        line
        for line in generated(**EVERYTHING).files[0].text.splitlines()
        if "create secret" in line
    )
    words = shlex.split(line.removeprefix("# "))
    assert words[:5] == ["kubectl", "create", "secret", "generic", "mysite"]
    assert words[5] == "--from-file=secret_key=/etc/mysite/secret key"


def test_a_file_of_sites_describes_it_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The very table that units are made of, with an image and a number of pods besides."""
    sites_toml = tmp_path / "sites.toml"
    sites_toml.write_text(
        '[sites.mysite]\nkind = ["service", "kubernetes"]\napp = "mysite.wsgi:application"\n'
        'image = "registry.example/mysite:1"\nreplicas = 4\ntrust = "10.0.0.0/8"\n'
        'command = ["clearsessions"]\nby-hand = ["migrate"]\n'
        '[sites.mysite.worker.mail]\ncommand = "celery -A mysite worker"\ncount = 3\n'
    )
    out = tmp_path / "out"
    assert main(["gen", "--from", str(sites_toml), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        *("mysite.service", "mysite.yaml", "mysite-migrate.yaml")
    }
    found = {
        it["metadata"]["name"]: it["spec"]["replicas"]
        for it in yaml.safe_load_all((out / "mysite.yaml").read_text())
        if it["kind"] == "Deployment"
    }
    assert found == {"mysite": 4, "mysite-mail": 3}
    sites_toml.write_text(sites_toml.read_text().replace("= 4", "= 0"))
    capsys.readouterr()
    assert main(["gen", "--from", str(sites_toml), "--out", str(tmp_path / "other")]) == 2
    assert "sites.mysite.replicas: '0' is not a whole number from 1" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
