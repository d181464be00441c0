"""Servers side by side: every one of a comparison is loaded, and told of."""

import shutil

import pytest

from bench import ratios, report
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


def test_everything_compared_is_a_server_with_that_protocol() -> None:
    for comparison in [*ratios.COMPARISONS, *ratios.THREADED]:
        for case in (comparison.ours, *comparison.peers):
            assert case.server == NO_SERVER or case.protocol in SERVERS[case.server].protocols
