"""Several machines on one wire, and a control node that Ansible runs on.

    with Fleet() as fleet:
        web = fleet.add("web1", installation)
        fleet.ansible("sdactivate.kit.setup", inventory)

The wire is a bridge in a network namespace of its own, which each machine joins by a cable (veth);
nothing leads out of it. The control node is this very system in that namespace: it has the
checkout's Ansible, and comes to the machines by ssh as users' do. The collection is installed as
users install it, from what `ansible-galaxy collection build` makes.
"""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests import ansible_home
from tests.ansible_home import BIN
from tests.machine.machine import CHECKOUT, ENVIRON, Held, Installation, Machine, execute

NETWORK = "10.77.0"
CONTROL = f"{NETWORK}.1"
SSH = {
    "ANSIBLE_PIPELINING": "1",
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=15s "
    "-o ServerAliveInterval=5 -o ServerAliveCountMax=2 -o ConnectTimeout=10",
    "ANSIBLE_FORKS": "4",
}
"""What Ansible is told of the machines."""
# What this system's root has in its shell's files is run at each connection: a hundred processes
SSHD = """
rm -f /root/.bashrc /root/.bash_profile /root/.profile
mkdir -p /run/sshd
ssh-keygen -A >/dev/null
hostname "$1"
cat >/etc/ssh/sshd_config.d/fleet.conf <<END
AuthorizedKeysFile /etc/ssh/fleet
UseDNS no
END
systemctl start ssh
"""


class Played(subprocess.CompletedProcess[str]):
    """What a playbook said."""

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """The counts of the recap by host: ok, changed, unreachable, failed …"""
        found = {}
        for host, counts in re.findall(r"^(\S+) +: (ok=.*)$", self.stdout, re.MULTILINE):
            found[host] = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", counts)}
        return found

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts."""
        return sum(counts["changed"] for counts in self.recap.values())


class Fleet(Held):
    """A context manager; the machines end with it."""

    def __init__(self) -> None:
        super().__init__()
        self.machines: dict[str, Machine] = {}
        self.addresses: dict[str, str] = {}

    def _begin(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="fleet-")
        self.directory = Path(self._end.enter_context(directory))
        self._environ = {**ansible_home.environ(self.directory), **SSH}
        hold = ["setpriv", "--pdeathsig=KILL", "unshare", "--net", "sleep", "infinity"]
        self._wire = subprocess.Popen(hold, stdin=subprocess.DEVNULL)
        self._end.callback(self._wire.wait)
        self._end.callback(self._wire.kill)
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self._wire.pid}/ns/net") == own:
            assert self._wire.poll() is None
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", "wire", "type", "bridge")
        self.run("ip", "address", "add", f"{CONTROL}/24", "dev", "wire")
        self.run("ip", "link", "set", "wire", "up")
        key = str(self.directory / "key")
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        self._collection()

    def add(self, name: str, installation: Installation) -> Machine:
        """Boot a machine with an address on the wire and an sshd; return it."""
        number = 11 + len(self.addresses)
        self.addresses.setdefault(name, f"{NETWORK}.{number}")
        machine = self._end.enter_context(Machine(installation))
        self.machines[name] = machine
        self._connect(name, machine)
        return machine

    def kill(self, name: str) -> None:
        """End a machine as a power cut does."""
        self.machines[name].__exit__()

    def _connect(self, name: str, machine: Machine) -> None:
        cable = f"to-{name}"
        ends = ("type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
        self.run("ip", "link", "add", cable, *ends)
        self.run("ip", "link", "set", cable, "master", "wire", "up")
        machine.run("ip", "address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        machine.write("/etc/ssh/fleet", (self.directory / "key.pub").read_text(), mode=0o600)
        machine.run("sh", "-ec", SSHD, "sh", name)
        # Of a machine made anew the wire first has to forget the address of the old one's card
        scan = ("ssh-keyscan", "-T", "2", "-t", "ed25519", self.addresses[name])
        machine.wait(lambda: self.run(*scan, check=False).stdout, f"{name} to answer by ssh")

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` on the control node when it is run here."""
        return ["nsenter", f"--net=/proc/{self._wire.pid}/ns/net", "--", *argv]

    def run(
        self,
        *argv: str,
        check: bool = True,
        env: dict[str, str] | None = None,
        timeout: float = 600,
    ) -> Played:
        """Run a command on the control node; as Machine.run does."""
        done = execute(self.command(*argv), timeout, check=check, env=env or ENVIRON)
        return Played(done.args, done.returncode, done.stdout, done.stderr)

    def inventory(self, hosts: dict[str, list[str]], variables: dict[str, Any]) -> Path:
        """Write an inventory of groups, their hosts and their variables; return its path."""
        key = self.directory / "key"
        quiet = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        usual = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args": quiet,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        groups = {
            group: {
                "hosts": {name: {"ansible_host": self.addresses[name]} for name in names},
                "vars": variables.get(group, {}),
            }
            for group, names in hosts.items()
        }
        made = {"all": {"vars": {**usual, **variables.get("all", {})}, "children": groups}}
        path = self.directory / "inventory.json"
        path.write_text(json.dumps(made, indent=2))
        return path

    def ansible(self, *argv: str, check: bool = True, timeout: float = 600) -> Played:
        """Run a command of Ansible's on the control node."""
        return self.run(
            str(BIN / argv[0]), *argv[1:], check=check, env=self._environ, timeout=timeout
        )

    def play(self, name: str, inventory: Path, *options: str, **how: Any) -> Played:
        """Run a playbook of the collection."""
        book = f"sdactivate.kit.{name}"
        return self.ansible("ansible-playbook", "-i", str(inventory), book, *options, **how)

    def _collection(self) -> None:
        build = ("ansible-galaxy", "collection", "build", "--output-path", str(self.directory))
        self.ansible(*build, str(CHECKOUT / "ansible"))
        (archive,) = self.directory.glob("sdactivate-kit-*.tar.gz")
        place = ("--collections-path", str(self.directory / "collections"))
        # What it requires is installed beside Ansible, and this namespace leads nowhere
        offline = ("--offline", "--no-deps")
        install = ("ansible-galaxy", "collection", "install", str(archive))
        self.ansible(*install, *place, *offline)
