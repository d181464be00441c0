"""Do to a container what a kubelet does to a pod: start it, probe it, tell it to stop, kill it.

    python kubelet.py IMAGE <pod.json

Runs inside a machine with Docker, with nothing but the standard library. The pod is the template of
a Deployment as `gen --kind kubernetes` writes it: its arguments, variables, users, mounts, probes
and grace period are taken from there, and what it asks of the kernel is asked of Docker. A pod
process is PID 1 (shareProcessNamespace). Clients ask through a list of ready pods, as a Service's
endpoints are, which hears of changes late. Prints one JSON object of what was seen.
"""

import contextlib
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

LATE = 3.0
"""Seconds until those who send requests hear that a pod is going."""


def docker(*argv: str) -> str:
    run = subprocess.run(["docker", *argv], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"docker {argv}: {run.stderr}")
    return run.stdout.strip()


class Pod:
    """One pod, and what watches over it."""

    def __init__(self, template: dict[str, Any], image: str, name: str, *env: str) -> None:
        self.name = name
        self.ready = False
        self.started = False
        self.going = threading.Event()
        self.seen: list[tuple[float, str]] = []
        self.restarts = 0
        spec = template["spec"]
        (self.container,) = spec["containers"]
        self.grace = spec["terminationGracePeriodSeconds"]
        self.options = self._options(spec, env)
        self.image = image
        docker("run", "--detach", "--name", f"{name}-pause", "--entrypoint", "sleep", image, "1d")
        self._run()
        self.watch = threading.Thread(target=self._probe, daemon=True)
        self.watch.start()

    def _options(self, spec: dict[str, Any], env: tuple[str, ...]) -> list[str]:
        inside, whole = self.container["securityContext"], spec["securityContext"]
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["shareProcessNamespace"] is True
        pause = f"container:{self.name}-pause"
        options = [f"--pid={pause}", f"--network={pause}"]
        options += [f"--user={whole['runAsUser']}:{whole['runAsGroup']}"]
        options += ["--cap-drop=ALL"] if inside["capabilities"]["drop"] == ["ALL"] else []
        options += ["--read-only"] if inside["readOnlyRootFilesystem"] else []
        if not inside["allowPrivilegeEscalation"]:
            options.append("--security-opt=no-new-privileges")
        for it in self.container["volumeMounts"]:
            options.append(f"--tmpfs={it['mountPath']}:mode=0770,gid={whole['fsGroup']}")
        said = [f"{it['name']}={it['value'].replace('$$', '$')}" for it in self.container["env"]]
        return options + [f"--env={variable}" for variable in (*said, *env)]

    def _run(self) -> None:
        args = [word.replace("$$", "$") for word in self.container["args"]]
        docker("run", "--detach", "--name", self.name, *self.options, self.image, *args)
        form = "{{.NetworkSettings.IPAddress}}"
        self.address = docker("inspect", f"--format={form}", f"{self.name}-pause")
        self.began = time.monotonic()

    def say(self, what: str) -> None:
        self.seen.append((round(time.monotonic() - self.began, 1), what))

    # Probes: kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes

    def _ask(self, probe: dict[str, Any]) -> bool:
        get, limit = probe["httpGet"], probe["timeoutSeconds"]
        connection = http.client.HTTPConnection(self.address, get["port"], timeout=limit)
        try:
            connection.request("GET", get["path"], headers={"User-Agent": "kube-probe/1.37"})
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _probe(self) -> None:
        failed = dict.fromkeys(("startupProbe", "readinessProbe", "livenessProbe"), 0)
        due = dict.fromkeys(failed, 0.0)
        while not self.going.wait(0.1):
            for kind in failed:
                probe = self.container[kind]
                now = time.monotonic()
                if (kind == "startupProbe") == self.started or now < due[kind]:
                    continue
                due[kind] = now + probe["periodSeconds"]
                well = self._ask(probe)
                failed[kind] = 0 if well else failed[kind] + 1
                over = failed[kind] >= probe["failureThreshold"]
                if kind == "readinessProbe" and (well or over) and self.ready != well:
                    self.ready = well
                    self.say("ready" if well else "not ready")
                elif kind == "startupProbe" and well:
                    self.started = True
                    self.say("started")
                elif kind != "readinessProbe" and over:
                    self.say(f"{kind} failed: restarted")
                    self._stop()
                    docker("rm", "--force", self.name)
                    self.restarts += 1
                    self.started = self.ready = False
                    failed = dict.fromkeys(failed, 0)
                    self._run()
                    break

    def _stop(self) -> int:
        """TERM, and KILL after the grace period; the exit code."""
        docker("kill", "--signal=TERM", self.name)
        deadline = time.monotonic() + self.grace
        while docker("inspect", "--format={{.State.Running}}", self.name) == "true":
            if time.monotonic() > deadline:
                self.say("killed")
                docker("kill", "--signal=KILL", self.name)
            time.sleep(0.2)
        return int(docker("inspect", "--format={{.State.ExitCode}}", self.name))

    def delete(self, endpoints: "Endpoints") -> dict[str, Any]:
        """Delete it, as the API does: it leaves the endpoints, and is told to stop at once."""
        probe = self.container["readinessProbe"]
        announced: list[float] = []
        began = time.monotonic()

        def look() -> None:
            while not self.going.wait(0.2):
                if not self._ask(probe):
                    announced.append(round(time.monotonic() - began, 1))
                    return

        threading.Timer(LATE, lambda: endpoints.pods.remove(self)).start()
        threading.Thread(target=look, daemon=True).start()
        code = self._stop()
        self.going.set()
        took = round(time.monotonic() - began, 1)
        logs = docker("logs", self.name)[-500:]
        docker("rm", "--force", self.name, f"{self.name}-pause")
        return {"exit": code, "took": took, "unready_after": announced[:1], "logs": logs}


class Endpoints:
    """Clients, and the list of pods that they may ask."""

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        self.lost: list[str] = []
        self.requests = 0
        self.releases: set[str] = set()
        self.gone = threading.Event()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def clients(self, count: int, path: str = "/") -> Iterator[None]:
        crowd = [threading.Thread(target=self._ask, args=(path,)) for _ in range(count)]
        for one in crowd:
            one.start()
        yield
        self.gone.set()
        for one in crowd:
            one.join()

    def _ask(self, path: str) -> None:
        while not self.gone.is_set():
            pod = random.choice([pod for pod in self.pods if pod.ready])
            answer = ask(pod, path)
            with self._lock:
                self.requests += 1
                self.releases.add(answer)
                if not answer.startswith("release"):
                    self.lost.append(f"{pod.name}: {answer}")
            time.sleep(random.uniform(0, 0.05))


def ask(pod: Pod, path: str) -> str:
    connection = http.client.HTTPConnection(pod.address, 8000, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def until(condition: Callable[[], bool], what: str, limit: float = 90) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def rolling(template: dict[str, Any], image: str, rounds: int) -> dict[str, Any]:
    """Two pods, clients, and rolling updates: a new pod is ready before an old one goes."""
    service = Endpoints()
    for number in range(2):
        service.pods.append(Pod(template, image, f"first-{number}", "RELEASE=0"))
    until(lambda: all(pod.ready for pod in service.pods), "two ready pods")
    slow: list[str] = []
    deleted = []
    with service.clients(8):
        for release in range(1, rounds + 1):
            for number in range(2):
                old = service.pods[0]
                new = Pod(template, image, f"pod-{release}-{number}", f"RELEASE={release}")
                until(lambda new=new: new.ready, "a ready pod")  # type: ignore[misc]
                service.pods.append(new)
                if number == 0:  # a request that takes longer than the announcement
                    waiter = threading.Thread(target=lambda o=old: slow.append(ask(o, "/slow/8")))
                    waiter.start()
                    time.sleep(0.3)
                deleted.append(old.delete(service))
    for pod in list(service.pods):
        pod.delete(service)
    return {
        "requests": service.requests,
        "lost": service.lost,
        "releases": sorted(service.releases),
        "slow": slow,
        "deleted": deleted,
    }


def watched(template: dict[str, Any], image: str) -> dict[str, Any]:
    """One pod that starts slowly, then has all its threads busy, then stands still."""
    service = Endpoints()
    pod = Pod(template, image, "watched", "SLOW_START=6")
    until(lambda: pod.ready, "ready")
    started = list(pod.seen)
    busy = [threading.Thread(target=ask, args=(pod, "/slow/25")) for _ in range(8)]
    for one in busy:
        one.start()
    time.sleep(24)
    while_busy = {"ready": pod.ready, "restarts": pod.restarts}
    for one in busy:
        one.join()
    docker("pause", pod.name)
    until(lambda: any("livenessProbe" in what for _, what in pod.seen), "seen", 60)
    docker("unpause", pod.name)  # TERM reaches nobody who is frozen
    until(lambda: pod.restarts == 1 and pod.ready, "restarted")
    service.pods.append(pod)
    end = pod.delete(service)
    return {"started": started, "while_busy": while_busy, "seen": pod.seen, "end": end}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    print(
        json.dumps(
            {
                "watched": watched(given, sys.argv[1]),
                "rolling": rolling(given, sys.argv[1], int(sys.argv[2])),
            }
        )
    )
