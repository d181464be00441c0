"""Format the metrics of a serving process as OpenMetrics 1.0 text, for Prometheus and others.

The format is that of https://github.com/prometheus/OpenMetrics (specification, section "Text
format"): families in order, each with its type, unit and help; counters end with _total; the text
ends with # EOF. Durations are quantiles of the latest requests, as in `sdactivate status`: a
cumulative histogram would need every request to be counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdactivate.status_record import percentile

if TYPE_CHECKING:
    from sdactivate.servers.api import Figures

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Samples = Sequence[tuple[str, float | None]]
_QUANTILES = (0.5, 0.9, 0.99)


def text(
    figures: Figures,
    durations: tuple[int, ...],
    since: float,
    reloaded: float,
    failed_reloads: int,
    is_announced: bool,
) -> str:
    """Return the whole text.

    figures: see Figures. durations: of the latest requests, as `status_record.histogram` returns
    them. since, reloaded: when the service started and when this process took over, in seconds
    since the epoch; 0: it has not. failed_reloads: their number. is_announced: whether a stop is
    announced.
    """
    quantiles = [(f'{{quantile="{part:g}"}}', percentile(durations, part)) for part in _QUANTILES]
    families: list[tuple[str, str, str, str, Samples]] = [
        ("requests", "counter", "", "Requests served.", [("_total", figures.requests)]),
        (
            *("failed_requests", "counter", ""),
            "Requests that were refused, failed, or were answered with 5xx.",
            [("_total", figures.errors)],
        ),
        ("ready", "gauge", "", "0 once a stop is announced.", [("", float(not is_announced))]),
        ("busy_threads", "gauge", "", "Requests being served.", [("", figures.busy)]),
        (
            "threads",
            "gauge",
            "",
            "Requests that can be served concurrently.",
            [("", figures.threads)],
        ),
        ("workers", "gauge", "", "Processes that serve.", [("", figures.workers)]),
        (
            *("oldest_request_seconds", "gauge", "seconds"),
            "Age of the oldest request in progress.",
            [("", figures.oldest)],
        ),
        (
            *("recent_request_seconds", "gauge", "seconds"),
            "Durations of the latest requests.",
            quantiles,
        ),
        (
            *("backlog_connections", "gauge", ""),
            "Connections that wait to be accepted, on TCP.",
            [("", figures.backlog)],
        ),
        (
            *("start_time_seconds", "gauge", "seconds"),
            "When the service started, in seconds since the epoch.",
            [("", since)],
        ),
        (
            *("reload_time_seconds", "gauge", "seconds"),
            "When the last reload finished, in seconds since the epoch.",
            [("", reloaded or None)],
        ),
        ("failed_reloads", "counter", "", "Reloads that failed.", [("_total", failed_reloads)]),
    ]
    lines = []
    for name, kind, unit, help_text, samples in families:
        known = [(suffix, value) for suffix, value in samples if value is not None]
        if not known:
            continue
        lines.append(f"# TYPE sdactivate_{name} {kind}")
        if unit:
            lines.append(f"# UNIT sdactivate_{name} {unit}")
        lines.append(f"# HELP sdactivate_{name} {help_text}")
        lines += [f"sdactivate_{name}{suffix} {_number(value)}" for suffix, value in known]
    return "\n".join([*lines, "# EOF", ""])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}".rstrip("0").rstrip(".")
