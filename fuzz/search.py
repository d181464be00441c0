"""The search for bytes that break a parser: atheris, which is libFuzzer for Python.

Only `python -m fuzz` starts this module, in a process for each parser: libFuzzer ends its own.
"""

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FOUND = HERE / "found"
# Bytes: many requests fit in, and a search through one byte after the other stays fast
LONGEST = 512


def search(name: str, seconds: int, grown: str) -> None:
    """Search for so many seconds; does not return.

    The seeds are those of corpus/NAME, a twin's those of its parser; what reaches new code goes to
    the directory `grown`, and what breaks a promise to found/, with exit status 77.
    """
    with atheris.instrument_imports(include=["sdactivate.servers.native.wire"]):
        from fuzz.targets import cut
        from fuzz.twins import PREFIX, target
    promise = target(name)
    seeds = CORPUS / name.removeprefix(PREFIX)
    FOUND.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-timeout=10",  # seconds for one input: longer is a hang
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        "-verbosity=0",
        f"-artifact_prefix={FOUND}/{name}-",
    ]
    atheris.Setup([sys.argv[0], *options, grown, str(seeds)], lambda data: promise(cut(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    search(sys.argv[1], int(sys.argv[2]), sys.argv[3])
