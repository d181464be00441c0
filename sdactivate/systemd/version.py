"""systemd's version: this host's, and the one that units are written for."""

import os
import re

from sdactivate.errors import UsageError

OLDEST = 245
"""The oldest systemd that units are written for (Ubuntu 20.04 has it)."""

USUAL = 252
"""The systemd that a unit is written for if the host has none."""


def parse_version(text: str) -> int:
    """Return the version that `text` names: "252", "v252" or the output of `systemctl --version`.

    Raises UsageError for anything else and for a version older than OLDEST.
    """
    found = re.match(r"(?:systemd )?v?([0-9]{1,4})(?![0-9])", text)
    if not found:
        raise UsageError(f"{text!r}: not a version of systemd, which is a number such as {USUAL}")
    if (version := int(found[1])) < OLDEST:
        raise UsageError(f"{text!r}: units are written for systemd {OLDEST} and later")
    return version


def host_version() -> int:
    """Return the version of this host's systemd; USUAL if it has none or one older than OLDEST."""
    reader, writer = os.pipe()
    try:
        # Not with subprocess: importing it takes as long as the answer.
        pid = os.posix_spawnp(
            "systemctl",
            ["systemctl", "--version"],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
        )
    except OSError:
        os.close(reader)
        return USUAL
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    try:
        return parse_version(text)
    except UsageError:
        return USUAL
