"""The log files that a front's configuration names."""

import os
import time
from pathlib import Path

import pytest

from sdactivate.doctor import front_log_files
from sdactivate.doctor.host_state import tail
from sdactivate.fronts import FRONTS


@pytest.mark.parametrize(
    ("front", "text", "found"),
    [
        ("nginx", "error_log /var/log/nginx/site.log;", ["/var/log/nginx/site.log"]),
        ("nginx", "server { error_log /srv/a.log warn; }", ["/srv/a.log"]),
        ("nginx", 'error_log "/srv/a.log" crit;\nerror_log /srv/b;', ["/srv/a.log", "/srv/b"]),
        ("nginx", "    # error_log /srv/a.log;", []),
        ("nginx", "error_log stderr; error_log syslog:server=127.0.0.1; error_log logs/a;", []),
        ("nginx", "proxy_pass_error_log /srv/a.log;", []),
        ("apache", "ErrorLog ${APACHE_LOG_DIR}/site.log", ["/var/log/apache2/site.log"]),
        ("apache", 'errorlog "/srv/a.log"', ["/srv/a.log"]),
        ("apache", 'ErrorLog "|/usr/bin/rotatelogs /srv/a.log 86400"\nErrorLog syslog', []),
        ("apache", "ErrorLog ${OTHER}/a.log\nErrorLogFormat x", []),
        ("apache", "ErrorLog logs/site-error.log", ["/var/log/apache2/site-error.log"]),
        ("lighttpd", 'server.errorlog = "/srv/a.log"', ["/srv/a.log"]),
        ("caddy", "error_log /srv/a.log", []),
    ],
)
def test_the_error_logs_that_are_named(front: str, text: str, found: list[str]) -> None:
    packaging = FRONTS[front].packaging["debian"]
    assert front_log_files.named_error_logs(FRONTS[front], packaging, [text]) == found


def test_only_files_written_to_in_the_last_hour_are_read(tmp_path: Path) -> None:
    """The distribution's error log is the first; access logs are those of its directory too."""
    log, own = tmp_path / "error.log", tmp_path / "own.log"
    packaging = FRONTS["nginx"].packaging["debian"]._replace(log=str(log))
    texts = [f"error_log {own};\naccess_log {own} main;"]
    assert front_log_files.error_logs(FRONTS["nginx"], packaging, texts) == []
    for file in (log, own, tmp_path / "site.access.log"):
        file.touch()
    assert front_log_files.error_logs(FRONTS["nginx"], packaging, texts) == [str(log), str(own)]
    found = front_log_files.access_logs(FRONTS["nginx"], packaging, texts)
    assert found == [str(tmp_path / "site.access.log"), str(own)]
    os.utime(log, (0, time.time() - 7200))
    assert front_log_files.error_logs(FRONTS["nginx"], packaging, texts) == [str(own)]


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    """What a client sends as Referer must not begin a line of its own."""
    log = tmp_path / "error.log"
    log.write_text("one\u2028two\x0bthree\x85four\rfive\nsix\n", newline="")
    assert tail(str(log)) == ["one\u2028two\x0bthree\x85four\rfive", "six"]
    log.write_text("")
    assert tail(str(log)) == []


def test_of_many_files_less_is_read(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert tail(str(log), 8) == ["line 99"]
    assert len(tail(str(log))) == 100
