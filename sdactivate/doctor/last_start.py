"""Find why a unit's last start failed, in its log: the first cause, not the last line.

The last lines are only summaries. gunicorn ends with "Reason: Worker failed to boot.", uWSGI with
"no app loaded. GAME OVER", systemd with "Failed with result 'exit-code'."; the reason is above. So
the first row of `TABLE` that matches a line gives it a rank. A traceback counts as its first
exception (`tracebacks`). The highest rank wins. Among lines of equal rank it is:

- CAUSE: the last, because the exception that ended the process is nearest to the end. Before it the
  application may have caught and logged others. Lines that only repeat it rank lower.
- ERROR: the first among the last lines, because an error is printed before its summary.
- PLAIN: the last.
- NOISE: not used, unless all lines are noise.

systemd's own lines rank as CAUSE if one of its steps failed before the program was executed.

To add a server's message, add a row, and add the server's output to tests/doctor/last_words.
The functions depend only on the lines and take linear time. They accept any text.
"""

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import groupby
from typing import NamedTuple

from sdactivate.doctor import tracebacks

MOST_LINES = 1000
"""How many lines of a start are read at most: its last ones."""
_LONGEST = 400  # characters of a line that are shown
_NEAR = 40  # lines before the end in which an error counts as the reason


class Line(NamedTuple):
    """One line of the journal. `start` is the same for all lines of one start of the unit.

    "" if journald did not know it, because the process had exited by then.
    """

    text: str
    by_systemd: bool = False
    start: str = ""


class Rank(IntEnum):
    """How much a line says about why a start failed."""

    NOISE = 0
    PLAIN = 1
    ERROR = 2
    CAUSE = 3


class Cause(NamedTuple):
    """Why a start failed: one line, its kind, and the file that it names."""

    said: str
    kind: str = ""
    """The name of systemd's step (CHDIR), of a row of `TABLE`, "traceback", or ""."""
    path: str = ""


class Row(NamedTuple):
    """A pattern for known lines, and their rank."""

    kind: str
    rank: Rank
    pattern: re.Pattern[str]
    said: str = "{line}"
    """The text to show: a format with {line} and the named groups of the pattern."""


def _row(kind: str, rank: Rank, pattern: str, said: str = "{line}") -> Row:
    return Row(kind, rank, re.compile(pattern), said)


_STEP = re.compile(r"Failed at step ([A-Z_]+) spawning (.+): ([^:]+)$")
_OF_SYSTEMD = (
    _row("environment", Rank.CAUSE, r"Failed to load environment files: (?P<why>.+)",
         "a file of EnvironmentFile= can't be read: {why}"),
    _row("other-notifies", Rank.CAUSE,
         r"Got notification message from PID (?P<pid>\d+), but reception only permitted for",
         "process {pid} reported that it is ready, but systemd accepts this only from the main "
         "process (NotifyAccess=)"),
    _row("not-ready", Rank.ERROR, r"[Ss]tart operation timed out"),
    _row("watchdog", Rank.ERROR, r"Watchdog timeout"),
    _row("memory", Rank.CAUSE, r"has been killed by the OOM killer|oom-kill"),
    _row("masked", Rank.CAUSE, r"Unit (?P<unit>\S+) is masked", "{unit} is masked"),
)  # fmt: skip
# These lines of systemd come before the step's own, and say more
_DETAIL = re.compile(
    r": (Failed to (?:set up|locate|execute|determine|load|open|apply|create|attach|change).*"
    r"|Changing to the requested working directory failed.*)$"
)
_ENDED = re.compile(
    r"Failed with result|Main process exited|Deactivated successfully|Failed to start|"
    r"Start request repeated too quickly|Failed at step"
)

TABLE: tuple[Row, ...] = (
    # Summaries, and messages without a reason
    _row("", Rank.NOISE, r"^\s*$"),
    _row("", Rank.NOISE, r"\[(INFO|DEBUG|WARNING)\]|^(\d[\d:., -]+ )?(INFO|DEBUG|WARNING)\b"),
    _row("", Rank.NOISE, r"\[ERROR\] (Worker \(pid:\d+\)|Shutting down: Master|Reason: )"),
    _row("", Rank.NOISE, r"Exception in worker process$|Exception in 'lifespan' protocol$"),
    _row("", Rank.NOISE, r"Application startup failed\. Exiting\.|^Process \w+-\d+:$"),
    _row("", Rank.NOISE, r"^(\*\*\*|!!!|---) |^VACUUM|^goodbye to uWSGI|getopt_long\(\) error"),
    _row("", Rank.NOISE, r"^your (server|mercy|processes|memory)|^uWSGI running as root"),
    _row("", Rank.NOISE, r"^(usage: |Usage: |Try '.* --help')"),
    _row("", Rank.NOISE, r"^sdactivate( serve)?: (stopping|stopped|serving|ready|reload)"),
    # The servers' own errors, with no traceback
    _row("module", Rank.CAUSE, r"\(ModuleNotFoundError\) importing your module|"
                               r"There was an exception \((?P<name>\w+)\) importing your module"),
    _row("waitress", Rank.CAUSE, r"^1\. (?P<what>.+)", "importing the application: {what}"),
    _row("module", Rank.CAUSE, r"(?P<what>Error loading ASGI app\. .+)", "{what}"),
    _row("application", Rank.CAUSE, r"^Failed to find (attribute|application) .+|"
                                    r"^Application object must be callable"),
    _row("application", Rank.CAUSE, r"^Malformed application .+|^Bad module .+"),
    _row("module", Rank.CAUSE, r"^(?P<python>\S+): No module named (?P<name>[\w.']+)",
         "{python} has no module {name}"),
    _row("file", Rank.CAUSE, r"can't open file '(?P<path>[^']+)': \[Errno \d+\] (?P<why>.+)",
         "{path}: {why}"),
    _row("interpreter", Rank.CAUSE, r"^Fatal Python error: (?P<what>.+)"),
    _row("library", Rank.CAUSE, r"error while loading shared libraries: (?P<what>.+)"),
    _row("env", Rank.CAUSE, r"^(?:/usr)?/bin/env: \W?[\w.+-]+\W?: No such file or directory"),
    _row("shell", Rank.CAUSE,
         r"^(?P<shell>\S*sh): (?:\d+: |line \d+: )?(?P<what>.+): (command )?not found$",
         "{shell} finds no command {what}"),
    _row("address", Rank.CAUSE,
         r"\[ERROR\] (?P<what>(Connection in use|connection to .+ failed): .+)",
         "{what}"),
    _row("address", Rank.CAUSE, r"\[Errno 98\] .+|^bind\(\): .+|Address already in use"),
    _row("uwsgi", Rank.CAUSE, r"^(?P<what>(chdir|realpath|open|getpwnam|connect|execvp)\(\)"
                              r"[^\[]+)\[core/"
                              , "{what}"),
    _row("uwsgi", Rank.CAUSE, r'^(?P<what>open\("[^"]+"\): [^\[]+)\[core/logging', "{what}"),
    _row("option", Rank.CAUSE, r"unrecognized option '?(?P<what>\S+?)'?$|"
                               r"^\S+: error: .+|^Error: (?:No such option|Invalid value).+|"
                               r"^Error: .+"),
    _row("celery", Rank.CAUSE, r"Unable to load celery application|^The module \S+ was not found"),
    _row("connection", Rank.CAUSE, r"consumer: Cannot connect to (?P<what>.+?)\.?$",
         "it can't connect to {what}"),
    _row("no-socket", Rank.CAUSE, r"^sdactivate serve: (?P<what>no socket was passed[^,]*)",
         "{what}"),
    _row("sdactivate", Rank.CAUSE, r"^sdactivate( serve)?: (?P<what>.+)"),
    # uWSGI's only message if the name is wrong; after a traceback it is a summary
    _row("application", Rank.ERROR, r"^unable to load app \d+ .+",
         "uWSGI finds no application of that name: {line}"),
    _row("", Rank.ERROR,
         r"\b(ERROR|CRITICAL|FATAL|Error|fatal|panic|Segmentation fault|Aborted)\b"),
)  # fmt: skip
"""Known lines. The first row that matches a line ranks it; other lines are PLAIN."""

_ALONE = re.compile(
    r"^((?:[^\W\d]\w{0,99}\.){0,20}[^\W\d]\w{0,99}(?:Error|Exception)): (.+)"
)  # an exception that was logged without its traceback
_FILE = re.compile(r'\s*File "([^"]{1,4096})", line (\d{1,9})')


def last_start(lines: Iterable[Line], *, is_restarting: bool = False) -> list[Line]:
    """Return the lines of a unit's last start among those of several, in their order.

    is_restarting: return those of the last start that has ended. The latest start may have logged
    nothing yet.
    """
    of_start: dict[str, list[Line]] = {}
    start = ""
    for line in lines:
        start = line.start or start
        of_start.setdefault(start, []).append(line)
    starts = list(of_start.values())
    if is_restarting:
        ended = [it for it in starts if any(_is_end(line) for line in it)]
        starts = ended or starts
    return starts[-1][-MOST_LINES:] if starts else []


def _is_end(line: Line) -> bool:
    return line.by_systemd and _ENDED.search(line.text) is not None


def cause(lines: Sequence[Line]) -> Cause | None:
    """Return why the start with the log `lines` failed; None if no line gives a reason."""
    lines = lines[-MOST_LINES:]
    found = _of_systemd([it.text for it in lines if it.by_systemd])
    if found and found[0] is Rank.CAUSE:
        return found[1]
    said = _of_process([it.text for it in lines if not it.by_systemd])
    ranked = [it for it in (said, found) if it]
    return max(ranked, key=lambda it: it[0])[1] if ranked else None


_Ranked = tuple[Rank, Cause]


def _of_systemd(texts: Sequence[str]) -> _Ranked | None:
    for text in reversed(texts):
        if step := _STEP.search(text):
            return Rank.CAUSE, _step(step, texts)
    known = [it for text in texts if (it := _known(text, _OF_SYSTEMD))]
    return max(known, key=lambda it: it[0]) if known else None


def _step(step: re.Match[str], texts: Sequence[str]) -> Cause:
    """Return what failed in a step: the line before the step's own has the object or the reason."""
    name, program, error = step.groups()
    details = [found[1] for text in texts if (found := _DETAIL.search(text))]
    said = details[-1] if details else error
    named = re.search(r"(/[^:]*): [^:]+$", said)
    path = named[1].removeprefix("/run/systemd/unit-root") or "/" if named else ""
    if name == "EXEC":
        path = program
    return Cause(_shown(f"{path}: {error}" if path else said), name, path)


def _of_process(texts: Sequence[str]) -> _Ranked | None:
    candidates: list[_Ranked] = []
    taken: set[int] = set()
    seen: set[str] = set()
    ends: dict[int, tracebacks.Chain | None] = {}
    for written in tracebacks.chains(texts):
        taken |= set(range(written.start, written.end + 1))
        seen |= {it.message for it in written.raised if it.message}
        ends[written.end] = written
    for place, text in enumerate(texts):
        if (chain := ends.get(place)) is not None:
            why = not chain.is_ignored and chain.causes
            candidates.append((Rank.CAUSE if why else Rank.PLAIN, Cause(str(chain), "traceback")))
        elif place not in taken and text.strip() not in seen:  # gunicorn repeats it
            candidates.append(_alone(texts, place) or _ranked(text))
    return _best(candidates)


def _alone(texts: Sequence[str], place: int) -> _Ranked | None:
    """Return an exception without a traceback or without its first line, as uWSGI logs it."""
    if not (found := _ALONE.match(texts[place])):
        return None
    said = found[0]
    for above in reversed(texts[max(0, place - 4) : place]):
        if at := _FILE.match(above):
            said += f" ({at[1]}, line {at[2]})"
            break
    return Rank.CAUSE, Cause(_shown(said), "traceback")


def _ranked(text: str) -> _Ranked:
    return _known(text, TABLE) or (Rank.PLAIN, Cause(_shown(text)))


def _known(text: str, table: Iterable[Row]) -> _Ranked | None:
    text = text[: 4 * _LONGEST]
    for row in table:
        if found := row.pattern.search(text):
            groups = {name: value or "" for name, value in found.groupdict().items()}
            said = row.said.format(line=text.strip(), **groups)
            return row.rank, Cause(_shown(said), row.kind, groups.get("path", ""))
    return None


def _best(candidates: Sequence[_Ranked]) -> _Ranked | None:
    by_rank = {
        rank: [it[1] for it in group]
        for rank, group in groupby(sorted(candidates, key=lambda it: it[0]), lambda it: it[0])
    }
    if causes := by_rank.get(Rank.CAUSE):
        return Rank.CAUSE, causes[-1]
    near = [it[1] for it in candidates[-_NEAR:] if it[0] is Rank.ERROR]
    if near or by_rank.get(Rank.ERROR):
        return Rank.ERROR, (near or by_rank[Rank.ERROR][-1:])[0]
    for rank in (Rank.PLAIN, Rank.NOISE):
        if said := [it for it in by_rank.get(rank, ()) if it.said]:
            return rank, said[-1]
    return None


def _shown(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
