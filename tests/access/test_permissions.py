"""Every verdict on paper is the kernel's own."""

import errno
import os

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from sdactivate.access.connect import prove, reached
from sdactivate.access.path_walk import parse_acl, walk
from sdactivate.access.permissions import Acl, Identity, Node, Range, judge, permission
from sdactivate.errors import Error
from tests.doctor.trees import IDENTITIES, Rights, Tree, encode_acl, planted, trees
from tests.effort import examples

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users, which root only may")

_OPEN = Rights(0, 0, 0o755, None)
_STRANGER = Identity(20004, 20004)


@as_root
@given(trees(), st.lists(IDENTITIES, min_size=1, max_size=4))
@settings(deadline=None, max_examples=examples(200), suppress_health_check=list(HealthCheck))
# The kernel reads no ACL where the mask is empty: the named user is one of the others.
@example(
    Tree((_OPEN,), Rights(0, 0, 0o606, Acl(((20001, 6),), 6, (), 0)), (), "/s"),
    [Identity(20001, 20001), Identity(20002, 0)],
)
# The owner is refused what everyone else has.
@example(Tree((_OPEN,), Rights(20001, 0, 0o066, None), (), "/s"), [Identity(20001, 0)])
# A link in a sticky directory is followed by its owner only.
@example(
    Tree(
        (Rights(0, 0, 0o1777, None),),
        Rights(0, 0, 0o666, None),
        ((0, "s", Rights(20001, 0, 0, None)),),
        "/l0",
    ),
    [Identity(20001, 0), Identity(20002, 0), Identity(0, 0, override=True)],
)
def test_the_verdict_is_the_proof(tree: Tree, identities: list[Identity]) -> None:
    with planted(tree) as root:
        way = walk(tree.path, root)
        for identity in identities:
            verdict = judge(way, identity)
            error = prove(tree.path, identity, root)
            event(f"{verdict.by} {verdict.allowed}")
            assert verdict.allowed == reached(error), (verdict, os.strerror(error))
            if verdict.by == "error":
                assert verdict.error == error


@as_root
def test_a_closed_directory_decides_before_the_open_socket() -> None:
    closed = Rights(0, 0, 0o750, None)
    tree = Tree((_OPEN, closed, _OPEN), Rights(0, 0, 0o666, None), (), "/d1/d2/s")
    with planted(tree) as root:
        verdict = judge(walk(tree.path, root), _STRANGER)
    assert not verdict.allowed
    assert verdict.node is not None
    assert (verdict.node.path, verdict.by, verdict.has) == ("/d1", "others", 0)


@as_root
def test_a_mask_is_named_where_it_takes_the_grant_away() -> None:
    masked = Rights(0, 0, 0o660, Acl((), 0, ((20003, 6),), 4))
    with planted(Tree((_OPEN,), masked, (), "/s")) as root:
        verdict = judge(walk("/s", root), Identity(20001, 20003))
    assert (verdict.allowed, verdict.by, verdict.whose, verdict.has) == (False, "mask", 20003, 4)


def test_capabilities_mean_nothing_over_files_that_the_user_namespace_does_not_know() -> None:
    node = Node("/s", "socket", 0, 0, 0o600)
    inside = Identity(100000, 100000, override=True, uids=(Range(100000, 65536),), gids=())
    assert not permission(node, 2, inside).granted
    assert permission(node, 2, inside._replace(uids=None, gids=None)).granted


def test_a_path_that_sun_path_cannot_hold_is_proven_too_long() -> None:
    ourselves = Identity(os.geteuid(), os.getegid(), frozenset(os.getgroups()))
    assert prove("/" + "s" * 120, ourselves) == errno.ENAMETOOLONG


@as_root
def test_a_process_that_may_not_become_somebody_says_so() -> None:
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return
    code = 2
    try:
        os.setgroups([20001, 20003])  # as login(1) has them: the primary one is among them
        os.setresgid(20001, 20001, 20001)
        os.setresuid(20001, 20001, 20001)
        # but itself it is
        code = 3 if prove("/", Identity(20001, 20001, frozenset({20003}))) != errno.EACCES else 4
        prove("/run", Identity(20002, 20002))
    except Error as error:
        code = 0 if code == 4 and "run as root" in str(error) else 1
    finally:
        os._exit(code)


@given(st.binary(max_size=64))
def test_any_bytes_are_an_acl_or_a_value_error(raw: bytes) -> None:
    try:
        acl = parse_acl(raw)
    except ValueError:
        return
    assert 0 <= len(acl.users) + len(acl.groups) <= len(raw) // 8


def test_an_acl_is_read_as_the_kernel_lays_it_out() -> None:
    acl = Acl(((5, 6), (9, 4)), 5, ((7, 2),), 3)
    assert parse_acl(encode_acl(acl, 7, 0)) == acl
