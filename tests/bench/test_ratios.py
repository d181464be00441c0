"""Servers side by side: every one of a comparison is loaded, and told of."""

import shutil

import pytest

from bench import front, ratios, report
from bench.load import bench
from bench.matrix import NO_SERVER
from bench.servers import SERVERS, Case

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="the load generator is compiled")


def test_a_comparison_has_a_row_for_each_that_is_here() -> None:
    ours = Case("sdactivate", "scgi", "trivial")
    peers = {Case("sdactivate", "http", "trivial"): 1.0, Case(NO_SERVER, "", "trivial"): None}
    with bench() as place:
        rows = list(ratios.compare(place, ratios.Comparison(ours, peers), 4, 0.25))
        asleep = list(ratios.asleep(place, [Case("sdactivate", "scgi", "sleep", 1, 2)], 2, 0.25))
    kept, bare = rows
    assert kept["peer"] == Case("sdactivate", "http", "trivial")._asdict()
    assert 1 < kept["ours_median"] < 1e6
    assert 1 < kept["peer_median"] < 1e6
    assert kept["quartiles"][0] <= kept["ratio"] <= kept["quartiles"][1]
    assert bare["ratio"] > 5  # the application itself is next to nothing
    assert [row["connections"] for row in asleep] == [2, 4]
    assert all(0 < row["share"] < 2 for row in asleep)
    told = report.threads_section(
        {"turns": 4, "seconds": 0.25, "rows": rows, "sleeping": asleep, "failed": {}}
    )
    assert f"**{kept['ratio']:.2f}** ({kept['quartiles'][0]:.2f}" in told


@pytest.mark.skipif(bool(front.absent()), reason="nginx or wrk is not installed")
def test_a_comparison_through_nginx() -> None:
    ours, other = (Case("sdactivate", protocol, "trivial", 2) for protocol in ("scgi", "http"))
    wanted = ratios.Comparison(ours, {other: None}, via="nginx")
    with bench() as place:
        (row,) = ratios.compare(place, wanted, 2, 1.0)
    assert 1 < row["ours_median"] < 1e6
    assert 1 < row["peer_median"] < 1e6
    assert ", 2 workers" in report.ratios_section(
        {"turns": 2, "seconds": 1.0, "rows": [row], "failed": {}}
    )


def test_everything_compared_is_a_server_with_that_protocol() -> None:
    compared = [comparison for part in ratios.PARTS.values() for comparison in part]
    for comparison in [*compared, *ratios.CHANGED, *ratios.THREADED]:
        for case in (comparison.ours, *comparison.peers):
            if case.server != NO_SERVER:
                row = SERVERS[case.server]
                assert case.protocol in row.protocols
                assert case.workers <= row.most_workers
                assert comparison.ours.server != "sdactivate-tcp" or row.tcp


def test_every_part_has_its_title() -> None:
    assert report.RATIOS.keys() == ratios.PARTS.keys()
