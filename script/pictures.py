"""Make the pictures of the documentation, each from a real run: script/pictures says which."""

import codecs
import fcntl
import html
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

IMAGES = CHECKOUT / "docs" / "images"
SHOWN_CHECKOUT = "/usr/src/sdactivate"
"""The path that a recording shows instead of the checkout's."""
COLUMNS, ROWS = 116, 60
LONGEST_PAUSE = 0.7
"""The longest pause in a picture, in seconds, even if the run took longer."""

FONT, LINE, MARGIN = 13.0, 18.0, 16.0
STYLE = """
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d8dee6;
  white-space: pre; }
.b { font-weight: bold; fill: #fff; } .d { fill: #9aa5b1; }
g { animation: shown .01s both; }
@keyframes shown { from { opacity: 0; } to { opacity: 1; } }
@media (prefers-reduced-motion) { g { animation: none; } }
"""
CHROMIUM = ("chromium", "chromium-browser", "chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)


class Output(NamedTuple):
    """A piece of output, and how many seconds after the start it came."""

    time: float
    text: str


# -- the demonstration -----------------------------------------------------------------------------


def demo() -> None:
    """Record script/demo, as asciicast (version 2) and as SVG."""
    outputs = merged(record(str(CHECKOUT / "script" / "demo")))
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "script/demo"}
    lines = [json.dumps({**head, "idle_time_limit": LONGEST_PAUSE})]
    lines += [json.dumps([it.time, "o", it.text]) for it in outputs]
    (IMAGES / "demo.cast").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (IMAGES / "demo.svg").write_text(drawn(outputs, after="1. "), encoding="utf-8")


def record(*command: str) -> Iterator[Output]:
    """Run a command on a terminal of its own; yield its output as it arrives."""
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    decode = codecs.getincrementaldecoder("utf-8")().decode
    began = time.monotonic()
    while True:
        try:
            got = os.read(terminal, 65536)
        except OSError:  # EIO: no process has it open any more
            got = b""
        if not got:
            break
        yield Output(time.monotonic() - began, decode(got))
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise SystemExit(f"{' '.join(command)}: exit status {code}")


def merged(outputs: Iterator[Output]) -> list[Output]:
    """Return one output per line, with this machine's paths replaced."""
    found: list[Output] = []
    pending = ""
    for exactly, text in outputs:
        when = round(exactly, 3)
        *lines, pending = f"{pending}{text}".splitlines(keepends=True)
        if pending.endswith("\n"):
            lines, pending = [*lines, pending], ""
        for line in lines:
            line = line.replace(str(CHECKOUT), SHOWN_CHECKOUT)
            line = re.sub(r"(sdactivate-demo)-\w+", r"\1", line)
            if found and found[-1].time == when:
                found[-1] = Output(when, found[-1].text + line)
            else:
                found.append(Output(when, line))
    return found


def drawn(outputs: list[Output], after: str) -> str:
    """Return an SVG of a recording, beginning with the first line that starts with `after`.

    Each part appears at the time at which it was printed, but long pauses are shortened. If the
    reader prefers no motion, or the viewer does not animate, all of it is visible at once.
    """
    rows: list[str] = []
    clock = last = 0.0
    count, width, is_drawn = 0, 0, False
    for when, text in outputs:
        clock += min(when - last, LONGEST_PAUSE) if is_drawn else 0
        last = when
        part = []
        for line in text.splitlines():
            plain = re.sub(r"\x1b\[\d*m", "", line)
            is_drawn = is_drawn or plain.startswith(after)
            if is_drawn:
                count += 1
                width = max(width, len(plain))
                place = f'x="{MARGIN:g}" y="{MARGIN + LINE * (count - 0.25):g}"'
                part.append(f"<text {place}>{spans(line)}</text>" if plain.strip() else "")
        if any(part):
            rows.append(f'<g style="animation-delay:{clock:.2f}s">{"".join(part)}</g>')
    size = (round(2 * MARGIN + width * FONT * 0.605), round(2 * MARGIN + count * LINE))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
            f'width="{size[0]}" height="{size[1]}" role="img">',
            f"<title>What script/demo prints</title><style>{STYLE}</style>",
            '<rect width="100%" height="100%" rx="6" fill="#15191e"/>',
            *rows,
            "</svg>\n",
        ]
    )


def spans(line: str) -> str:
    """Return a line of a terminal as SVG; bold and dim text have CSS classes."""
    classes = {"\x1b[1m": ' class="b"', "\x1b[2m": ' class="d"'}
    parts, style = [], ""
    for part in re.split(r"(\x1b\[\d*m)", line):
        if part.startswith("\x1b"):
            style = classes.get(part, "")
        elif part:
            parts.append(f"<tspan{style}>{html.escape(part, quote=False)}</tspan>")
    return "".join(parts)


# -- the doctor's page -----------------------------------------------------------------------------


def doctor() -> None:
    """Take a picture of the doctor's page for a site whose front lacks the socket's group."""
    from tests.conftest import build_wheel
    from tests.machine.broken_sites import NGINX, UNITS, missing_group, status
    from tests.machine.machine import Machine, asked_for, install

    with tempfile.TemporaryDirectory() as scratch:
        wheel = build_wheel(Path(scratch))[0]
        with Machine(install(wheel, asked_for())) as machine:
            app = ("--app", "mysite.wsgi:application", "--chdir", "/srv/mysite")
            for kind, options in (("socket", ()), ("service", (*app, "--python", machine.python))):
                gen = ("gen", "mysite", "--group", "web", "--kind", kind, *options)
                unit = machine.run(*machine.sdactivate, *gen).stdout
                machine.write(f"{UNITS}/mysite.{kind}", unit)
            machine.run("sh", "-ec", "usermod -aG web www-data; hostname example.org")
            machine.run("systemctl", "daemon-reload")
            machine.run("systemctl", "start", "mysite.socket", "nginx.service")
            assert (NGINX, status(machine)) == (NGINX, "200")
            missing_group(machine)
            assert status(machine) == "502"
            verb = ("doctor", "mysite", "--html", "/root/page.html")
            machine.run(*machine.sdactivate, *verb, check=False)
            page = Path(scratch, "page.html")
            page.write_text(machine.read("/root/page.html"), encoding="utf-8")
        photograph(page, IMAGES / "doctor.png", (1000, 1100))


def photograph(page: Path, picture: Path, size: tuple[int, int]) -> None:
    """Write a screenshot of a page in Chromium, in a window of this size."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not chromium:
        raise SystemExit("Chromium is missing: script/setup test")
    with tempfile.TemporaryDirectory() as profile:
        argv = [chromium, *QUIET, f"--user-data-dir={profile}"]
        argv += [f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", page.as_uri()]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)


PICTURES: dict[str, Callable[[], None]] = {"demo": demo, "doctor": doctor}


def main() -> int:
    """Make the pictures that are named, or all."""
    wanted = sys.argv[1:] or list(PICTURES)
    if unknown := set(wanted) - set(PICTURES):
        print(f"pictures: {', '.join(unknown)}: there is {', '.join(PICTURES)}", file=sys.stderr)
        return 2
    IMAGES.mkdir(exist_ok=True)
    for name in wanted:
        PICTURES[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
