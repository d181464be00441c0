"""doctor --learn of others' libraries and programs: the option that it names is enough.

By hand, since they are large to fetch:

    script/test -m by_hand -rP tests/machine/test_learn_applications.py

What it prints goes into docs/tested.md.
"""

import json
import shutil
from pathlib import Path

import pytest

from tests.machine.machine import Installation, Machine, asked_for, wheels

pytestmark = pytest.mark.by_hand

REQUIREMENTS = ("Django", "matplotlib", "numba", "psutil", "imageio-ffmpeg")
PROGRAMS = {
    "matplotlib": (
        "import matplotlib, os; matplotlib.use('Agg')",
        "import matplotlib.pyplot as plot",
        "plot.plot([1, 2]); plot.title('x')",
        "plot.savefig(os.environ['STATE_DIRECTORY'] + '/a.png')",
    ),
    "numba": ("from numba import njit", "print(njit(lambda n: n + 1)(1))"),
    "psutil": ("import psutil", "print(psutil.virtual_memory().total, psutil.cpu_percent())"),
    "ffmpeg": (
        "import imageio_ffmpeg, os, subprocess",
        "program, to = imageio_ffmpeg.get_ffmpeg_exe(), os.environ['STATE_DIRECTORY'] + '/a.mp4'",
        "made = ['-v', 'error', '-y', '-f', 'lavfi', '-i', 'testsrc=d=1', to]",
        "subprocess.run([program, *made], check=True)",
    ),
    "node": (
        "import subprocess",
        "subprocess.run(['node', '-e', 'console.log(1)'], check=True)",
    ),
}
NEEDS = {
    "matplotlib": [],
    "numba": ["--jit"],
    "psutil": ["--proc"],
    "ffmpeg": [],
    "node": ["--jit"],
}


@pytest.fixture(scope="module")
def laboratory(machine: Machine, installation: Installation, fitting_wheel: Path) -> Machine:
    from tests.machine.test_guide import bring

    bring(machine, wheels(installation, fitting_wheel, *REQUIREMENTS))
    pip = "/srv/venv/bin/pip install --quiet --no-index --find-links /srv/wheels sdactivate"
    make = f"/usr/bin/python3 -m venv /srv/venv && {pip} {' '.join(REQUIREMENTS)}"
    machine.run("sh", "-ec", make, timeout=600)
    for name, lines in PROGRAMS.items():
        machine.write(f"/srv/mysite/try_{name}.py", "\n".join([*lines, ""]))
    return machine


@pytest.mark.parametrize("name", NEEDS)
def test_the_option_that_is_named_is_enough(name: str, laboratory: Machine) -> None:
    if name == "node" and not (asked_for() == Path("/") and shutil.which("node")):
        pytest.skip("node is not installed")
    install = ("sdactivate", "install", "mysite", "--app", "mysite.wsgi:application")
    site = ("--chdir", "/srv/mysite", "--group", "www-data", "--python", "/srv/venv/bin/python")
    laboratory.run(*install, *site)
    try:
        command = ("--while", f"python /srv/mysite/try_{name}.py", "--format", "json")
        learn = ("sdactivate", "doctor", "mysite", "--learn", *command)
        done = laboratory.run(*learn, check=False, timeout=300)
        found = [it for it in json.loads(done.stdout)["refusals"] if it["needed"] and it["option"]]
        print(name, [(it["directive"], it["option"], it["exposure"], it["line"]) for it in found])
        options = [it["option"] for it in found]
        assert options == NEEDS[name], done.stderr
        laboratory.run(*install, *site, *(word for it in options for word in it.split()))
        run = ("sdactivate", "run", "mysite", "--", "python", f"/srv/mysite/try_{name}.py")
        laboratory.run(*run, timeout=300)
    finally:
        laboratory.run("sdactivate", "uninstall", "mysite")
