"""--network local, by the packets: this host answers, another one never hears of it."""

import json
from functools import partial
from typing import Any

import pytest

from tests.machine.machine import Machine

NOTED = "/root/noted-other"
# Another host: a network namespace at the other end of a cable.
CABLE = """
ip netns add other
ip link add here type veth peer name there netns other
ip address add 192.0.2.1/24 dev here
ip -6 address add fd00:2::1/64 dev here nodad
ip link set here up
ip -n other address add 192.0.2.2/24 dev there
ip -n other -6 address add fd00:2::2/64 dev there nodad
ip -n other link set there up
"""
# Answers by TCP, and notes whoever has reached it, by TCP or UDP.
HOST = """
import socket, threading
stream = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
datagrams.bind(("::", 7000))

def listen():
    while True:
        datagrams.recvfrom(100)
        print("udp", flush=True)

threading.Thread(target=listen, daemon=True).start()
print("ready", flush=True)
while True:
    connection, peer = stream.accept()
    print("tcp", flush=True)
    connection.sendall(b"hello")
    connection.close()
"""
TRY = """
import errno, json, os, signal, socket, sys

def ask(kind, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, kind) as talk:
            talk.settimeout(2)
            talk.connect((address, 7000))
            talk.send(b"hello")
            return kind is socket.SOCK_DGRAM or talk.recv(100) == b"hello"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return errno.errorcode[error.errno]

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
tried = {
    "this host": [ask(TCP, "127.0.0.1"), ask(TCP, "::1")],
    "its other address": ask(TCP, "192.0.2.1"),
    "another host": [ask(kind, a) for kind in (TCP, UDP) for a in ("192.0.2.2", "fd00:2::2")],
}
print(json.dumps(tried))
if sys.argv[1:]:
    with open(os.environ["STATE_DIRECTORY"] + "/" + sys.argv[1] + ".new", "w") as file:
        json.dump(tried, file)
    os.rename(file.name, file.name.removesuffix(".new"))
    signal.pause()
"""
SITES = """
[sites.mysite]
app = "mysite.wsgi:application"
chdir = "/srv/mysite"
group = "www-data"
network = "local"

[sites.mysite.worker]
local = "python try.py local"

[sites.mysite.worker.open]
command = "python try.py open"
network = true

[sites.mysite.worker.closed]
command = "python try.py closed"
network = false
"""
OPEN = {"this host": [True, True], "its other address": True, "another host": [True] * 4}
CLOSED = {
    "this host": ["EAFNOSUPPORT"] * 2,
    "its other address": "EAFNOSUPPORT",
    "another host": ["EAFNOSUPPORT"] * 4,
}


@pytest.fixture(scope="module")
def site(machine: Machine) -> Machine:
    """The site, with its background workers, on a host that answers and beside one that does."""
    machine.run("sh", "-ec", CABLE)
    machine.write("/root/host.py", HOST)
    machine.write("/srv/mysite/try.py", TRY)
    machine.write("/etc/sites.toml", SITES)
    for path, more in (
        ("/root/noted", ()),
        (NOTED, ("-p", "NetworkNamespacePath=/run/netns/other")),
    ):
        noted = ("-p", f"StandardOutput=append:{path}")
        machine.run("systemd-run", *noted, *more, machine.python, "/root/host.py")
        machine.wait(partial(machine.succeeds, "grep", "ready", path), path)
    machine.run("sdactivate", "install", "mysite", "--from", "/etc/sites.toml", timeout=180)
    return machine


def reached(machine: Machine) -> int:
    """How often the other host has heard of somebody."""
    return len(machine.read(NOTED).split()) - 1


def is_local(tried: dict[str, Any]) -> bool:
    """Whether this host has answered, and nothing that left it has."""
    refused = [tried["its other address"], *tried["another host"]]
    return tried["this host"] == [True, True] and True not in refused


def test_a_background_worker(site: Machine) -> None:
    found = {}
    for mode in ("local", "open", "closed"):
        path = f"/var/lib/mysite/{mode}"
        site.wait(partial(site.succeeds, "test", "-e", path), path)
        found[mode] = json.loads(site.read(path))
    assert found["open"] == OPEN
    assert found["closed"] == CLOSED
    assert is_local(found["local"]), found["local"]
    site.wait(lambda: reached(site) == 4, "the open one to have reached the other host")


def test_a_command_has_what_the_site_has_and_more_where_it_is_asked_for(site: Machine) -> None:
    command = ("--", "python", "/srv/mysite/try.py")
    tried = json.loads(site.run("sdactivate", "run", "mysite", *command).stdout)
    assert is_local(tried), tried
    assert reached(site) == 4  # the background worker's that may
    tried = json.loads(site.run("sdactivate", "run", "mysite", "--network", *command).stdout)
    assert tried == OPEN
    site.wait(lambda: reached(site) == 8, "the command to have reached the other host")
