"""How long a rolling release over many machines takes, and what it needs to spare: on paper.

A model, of times that were measured: a release of a site (`releases`), and a balancer that sees a
machine go, come back and fail (`drain`). A release goes over the machines in batches, one after
the other, each as soon as the one before it serves again. Two ways:

- in place: the release is built and switched to by a reload on each machine, which serves on;
- drained: each machine announces that it goes, gets the release, and comes back: what a new kernel
  or a new image needs. The batch is away meanwhile.

Who drives it does so with FORKS machines at a time, however large the batch: Ansible's --forks.
What has to be spared is the batch, if it is drained, and one machine that fails meanwhile.
"""

import json
import math
import statistics
from pathlib import Path
from typing import NamedTuple

FORKS = 50
FLEETS = (10, 100, 1000, 10_000)
BATCHES = ("one machine", "5 %", "10 %", "25 %")


class Times(NamedTuple):
    """Medians of what was measured, in seconds."""

    release: float
    drained: float
    """From the announcement to the end."""
    back: float
    """From the start until the balancer sends requests again."""
    failed: float
    """From a failure until the balancer sends none."""

    @property
    def each(self) -> float:
        """What one machine takes that is drained."""
        return self.drained + self.release + self.back


def times(directory: Path) -> Times:
    """Return the times of the results in `directory`."""
    release = json.loads((directory / "releases.json").read_text())["took_s"]["release"]
    drain = json.loads((directory / "drain.json").read_text())["took_s"]
    middle = statistics.median
    return Times(middle(release), *(middle(drain[name]) for name in ("drained", "back", "failed")))


def batch(fleet: int, name: str) -> int:
    """Return how many machines are in a batch of BATCHES; a part of one is one."""
    return 1 if name == BATCHES[0] else math.ceil(fleet * int(name.split()[0]) / 100)


def duration(fleet: int, size: int, each: float) -> float:
    """Return the seconds for `fleet` machines in batches of `size`, `each` seconds a machine."""
    whole, rest = divmod(fleet, size)
    return (whole * math.ceil(size / FORKS) + math.ceil(rest / FORKS)) * each


def spare(fleet: int, size: int) -> float:
    """Return the part of the fleet that can be away at once: a batch, and one that has failed."""
    return min(fleet, size + 1) / fleet


def draw(path: Path, measured: Times) -> None:
    """Draw both, over fleets of 10 to 10,000 machines."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "sdactivate", "svg.fonttype": "none"})
    from matplotlib import pyplot

    fleets = sorted({round(10 ** (step / 40)) for step in range(40, 161)})
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for name, colour in zip(BATCHES, ("#333", "#1b6ca8", "#d9a441", "#9aa5b1"), strict=True):
        sizes = [batch(fleet, name) for fleet in fleets]
        pairs = list(zip(fleets, sizes, strict=True))
        hours = [duration(fleet, size, measured.each) / 3600 for fleet, size in pairs]
        left.plot(fleets, hours, color=colour, label=f"{name} at a time", linewidth=1.4)
        reload = [duration(fleet, size, measured.release) / 3600 for fleet, size in pairs]
        left.plot(fleets, reload, color=colour, linewidth=0.8, linestyle=":")
        right.plot(fleets, [100 * spare(*pair) for pair in pairs], color=colour, linewidth=1.4)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("machines", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(which="major", color="#ddd", linewidth=0.5)
    left.set_title("Hours of a rolling release (dotted: in place)", fontsize=9)
    right.set_title("Capacity to spare while drained, %", fontsize=9)
    left.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
