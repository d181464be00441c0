"""The table of rules, on every server of the kit and over every protocol that can express them."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes import has_ended
from tests.servers.peers import PROTOCOLS, Request, ask, exactly, record, until_end
from tests.servers.request_rules import REQUEST_RULES
from tests.servers.rules import RULES, Rule
from tests.servers.service import Service, of, serving

EVERY = [*RULES, *REQUEST_RULES]
SPOKEN = [(server, protocol) for server in ("native", "pure") for protocol in PROTOCOLS]
SPOKEN += [("flup", "scgi"), ("flup", "fastcgi")]
FOLLOWING = Request("/following", keep=True)


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Service]:
    app = "tests.servers.rule_applications:application"
    with serving(tmp_path_factory.mktemp("rules"), app, **of(request.param)) as started:
        yield started
        assert started.stop() == 0


def cases() -> Iterator[Any]:
    for server, protocol in SPOKEN:
        for rule in EVERY:
            if isinstance(rule.ask, Request) or protocol in rule.ask:
                yield pytest.param(server, protocol, rule, id=f"{server}-{protocol}-{rule.name}")


@pytest.mark.parametrize(("service", "protocol", "rule"), list(cases()), indirect=["service"])
def test_rule(service: Service, protocol: str, rule: Rule) -> None:
    wire = PROTOCOLS[protocol]
    if isinstance(rule.ask, Request):
        asked, data = rule.ask, wire.encode(rule.ask)
    else:
        data = rule.ask[protocol]
        asked = Request(method=data.split(b" ", 1)[0].decode("latin-1"))
    with service.connect() as peer:
        peer.sendall(data)
        answer = wire.read(peer, asked)
        assert answer.status == rule.status, answer
        # Content-Length may tell of a body that such an answer does not have
        assert answer.whole or asked.method == "HEAD" or rule.status == 304, answer
        if rule.body is not None:
            assert answer.body == rule.body
        assert {name: answer.all(name) for name in rule.has} == {
            name: [value] for name, value in rule.has.items()
        }
        assert [name for name in rule.lacks if answer.all(name)] == []
        if rule.environ:
            found = json.loads(answer.body)
            assert {name: found.get(name) for name in rule.environ} == rule.environ
        if asked.keep and protocol in ("http", "fastcgi") and not answer.all("Connection"):
            # No byte too many, none too few
            assert ask(peer, protocol, FOLLOWING).body == b"the next one"
    if rule.logged:
        service.logged(rule.logged)


@pytest.mark.parametrize("service", ["native", "flup"], indirect=True)
def test_a_front_that_aborts_a_request_ends_it_while_it_streams(service: Service) -> None:
    """FastCGI, section 5.4; the connection is kept."""
    wire = PROTOCOLS["fastcgi"]
    asked = Request("/ticks", keep=True)
    with service.connect() as peer:
        peer.sendall(wire.encode(asked))
        first = exactly(peer, 8)
        exactly(peer, int.from_bytes(first[4:6], "big") + first[6])
        peer.sendall(record(2, b""))
        assert wire.read(peer, asked).whole
        assert ask(peer, "fastcgi", FOLLOWING).body == b"the next one"
        assert ask(peer, "fastcgi", Request("/was_closed", keep=True)).body.startswith(b"ticks")


@pytest.mark.parametrize(
    ("service", "protocol"), [*SPOKEN, ("waitress", "http")], indirect=["service"]
)
def test_a_child_that_lives_on_holds_up_no_response(service: Service, protocol: str) -> None:
    wire, asked = PROTOCOLS[protocol], Request("/forks")
    with service.connect() as peer:
        peer.sendall(wire.encode(asked))
        answer = wire.read(peer, asked)
        assert until_end(peer) == b""
    child = int(answer.body)
    ended = has_ended(child)
    os.kill(child, signal.SIGKILL)
    assert not ended, "the response has waited for the child's end"


def test_each_rule_says_where_it_is_written() -> None:
    assert len({rule.name for rule in EVERY}) == len(EVERY)
    assert all(rule.section for rule in EVERY)
