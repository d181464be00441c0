"""What a process can do to the socket it inherits, and what becomes of it after the process."""

import re

import pytest

from tests.machine.machine import Machine

APPLICATION = """
import os, signal, socket

def inherited():
    for fd in range(3, 20):
        try:
            held = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return held

def application(environ, start_response):
    said = b"served"
    if environ["PATH_INFO"] == "/listen":
        try:
            inherited().listen(0)
            said = b"listened"
        except PermissionError:
            said = b"refused"
    if environ["PATH_INFO"] == "/shutdown":
        inherited().shutdown(socket.SHUT_RD)
        os.kill(os.getpid(), signal.SIGKILL)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [said]
"""


@pytest.fixture(scope="module")
def hijacked(machine: Machine) -> Machine:
    machine.write("/srv/hijacked/hijacked.py", APPLICATION)
    install = "sdactivate install hijacked --group www-data --app hijacked:application"
    machine.run(*install.split(), "--chdir", "/srv/hijacked")
    return machine


def get(machine: Machine, path: str) -> str:
    fetch = ("curl", "-sS", "--max-time", "30", "--unix-socket", "/run/hijacked.sock")
    return machine.run(*fetch, f"http://hijacked.test{path}", check=False).stdout


def test_the_backlog_can_not_be_changed(hijacked: Machine) -> None:
    assert get(hijacked, "/listen") == "refused"


def test_a_socket_that_was_shut_down_is_told_of_and_made_anew(hijacked: Machine) -> None:
    assert get(hijacked, "/") == "served"
    get(hijacked, "/shutdown")
    said = "was shut down by a process that held it"
    hijacked.wait(lambda: said in hijacked.journal("hijacked.service"), "a start that is refused")
    assert get(hijacked, "/") == ""  # nobody can connect
    command = re.search(r"`(systemctl stop [^`]*)`", hijacked.journal("hijacked.service"))
    assert command
    hijacked.run("sh", "-ec", command[1])
    assert get(hijacked, "/") == "served"
