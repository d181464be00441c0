"""Build, test and install the package's contents. debian/rules calls it in the source's top.

build       compile the extensions; write the completions, the manual pages and the wheel for
            virtual environments, all into build/debian
test        run the command on what was built
install DIR copy everything into the package's directory
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

TOP = Path.cwd()
BUILT = TOP / "build" / "debian"
LIBRARY = BUILT / "library"
"""The contents of /usr/lib/python3/dist-packages."""
VERSION = os.environ["DEB_VERSION_UPSTREAM"].partition("+")[0]

RUNTIME = "/usr/lib/sdactivate/runtime"
"""The system's packages that a virtual environment can import: sdactivate and systemd-python."""
IN_RUNTIME = ("sdactivate", "systemd")

COMPLETIONS = {
    "share/bash-completion/completions/sdactivate": "usr/share/bash-completion/completions",
    "share/zsh/site-functions/_sdactivate": "usr/share/zsh/vendor-completions",
    "share/fish/vendor_completions.d/sdactivate.fish": "usr/share/fish/vendor_completions.d",
}
COMMANDS = {"sdactivate": "sdactivate.cli", "sdactivate-generator": "sdactivate.cli.generator"}
COMMAND = """\
#!/usr/bin/python3
import sys

from {module} import entry

sys.exit(entry())
"""
# systemd waits for it at each boot and daemon-reload: without sites it starts no interpreter.
GENERATOR = """\
#!/bin/sh
for file in /etc/sdactivate/*.toml; do
    [ -e "$file" ] && exec /usr/bin/sdactivate-generator "$@"
done
exit 0
"""
METADATA = """\
Metadata-Version: 2.1
Name: sdactivate
Version: {version}
Summary: systemd socket activation for Python web applications, Django first
License: MIT
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: sdactivate (packaging/debian)
Root-Is-Purelib: true
Tag: py3-none-any
"""
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def build() -> None:
    sys.path[:0] = [str(TOP), str(TOP / "shtab")]
    import hatch_build

    package = LIBRARY / "sdactivate"
    # Before the copy, since it removes its temporary files
    compiled = hatch_build.compiled(BUILT / "accel")
    copy(TOP / "sdactivate", package)
    shutil.copy(compiled, package / "servers/native" / f"_accel{SUFFIX}")
    bundled = package / "_bundled"
    copy(TOP / "flup" / "flup", bundled / "flup")
    copy(TOP / "httptools" / "httptools", bundled / "httptools")
    for extension in httptools(TOP / "httptools"):
        shutil.copy(extension, bundled / "httptools" / "parser")
    for name in ("flup", "httptools"):  # programs read the version there
        metadata = bundled / f"{name}-{version_of(name)}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version_of(name)}\n")
    about = LIBRARY / f"sdactivate-{VERSION}.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text(METADATA.format(version=VERSION))
    for place, text in hatch_build.shared_files().items():
        directory = "man" if "/man/" in place else "completions"
        path = BUILT / directory / place.rpartition("/")[2]
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    wheel(BUILT / f"sdactivate-{VERSION}-py3-none-any.whl")


def copy(source: Path, target: Path) -> None:
    """Copy a package without C and Cython sources, and without compiled files."""
    unwanted = shutil.ignore_patterns("*.c", "*.so", "*.pyx", "*.pxd", "__pycache__", "_bundled")
    shutil.copytree(source, target, ignore=unwanted)


def version_of(component: str) -> str:
    lines = (TOP / component / "PKG-INFO").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Version:"))


def httptools(source: Path) -> list[Path]:
    """Compile httptools' two extensions from their Cython sources; return them."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    vendor = source / "vendor"
    parts = {
        "parser": (vendor / "llhttp" / "src", vendor / "llhttp" / "include"),
        "url_parser": (vendor / "http-parser", vendor / "http-parser"),
    }
    extensions = []
    for name, (sources, headers) in parts.items():
        made = BUILT / "httptools" / f"{name}.c"
        made.parent.mkdir(parents=True, exist_ok=True)
        pyx = source / "httptools" / "parser" / f"{name}.pyx"
        subprocess.run(["cython3", "--3str", "-o", made, pyx.relative_to(TOP)], check=True)
        wanted = ["http_parser.c"] if name == "url_parser" else ["api.c", "http.c", "llhttp.c"]
        files = [made, *(sources / file for file in wanted)]
        relative = [str(file.relative_to(TOP)) for file in files]
        extensions.append(
            Extension(
                f"httptools.parser.{name}",
                relative,
                include_dirs=[str(headers.relative_to(TOP))],
                extra_compile_args=["-O2"],
            )
        )
    command = build_ext(Distribution({"name": "httptools", "ext_modules": extensions}))
    command.build_lib = command.build_temp = "build/debian/httptools"
    command.ensure_finalized()
    command.run()
    return [Path(command.get_ext_fullpath(extension.name)) for extension in extensions]


def wheel(path: Path) -> None:
    """Write a wheel that lets a virtual environment import the package's runtime.

    pip installs it without an index, and so the environment knows what it has.
    """
    about = f"sdactivate-{VERSION}.dist-info"
    python = "Requires-Python: =={}.{}.*\n".format(*sys.version_info)
    files = {
        "sdactivate.pth": f"{RUNTIME}\n",
        f"{about}/METADATA": METADATA.format(version=VERSION) + python,
        f"{about}/WHEEL": WHEEL,
    }
    record = f"{about}/RECORD"
    lines = [f"{name},sha256={digest(text)},{len(text)}" for name, text in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text)


def digest(text: str) -> str:
    return urlsafe_b64encode(sha256(text.encode()).digest()).decode().rstrip("=")


def test() -> None:
    def answer(*argv: str) -> str:
        return subprocess.run(
            [sys.executable, "-B", *argv],
            cwd=LIBRARY,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    said = answer("-m", "sdactivate", "--version", "--verbose")
    for line in (
        f"sdactivate {VERSION} (native server: compiled)",
        f"httptools: {version_of('httptools')}",
        f"flup: {version_of('flup')}",
    ):
        assert line in said.splitlines(), said
    unit = answer("-m", "sdactivate", "gen", "mysite", "--group", "www-data")
    assert "ListenStream=/run/mysite.sock" in unit
    program = "import sdactivate.servers.flup, sdactivate.servers.native.wire.http as h; "
    program += "print(h.httptools.__file__)"
    assert "/_bundled/httptools/" in answer("-c", program)


def install(root: Path) -> None:
    shutil.copytree(LIBRARY, root / "usr/lib/python3/dist-packages")
    for name, module in COMMANDS.items():
        write(root / "usr/bin" / name, COMMAND.format(module=module), 0o755)
    write(root / "usr/lib/systemd/system-generators/sdactivate", GENERATOR, 0o755)
    runtime = root / RUNTIME.lstrip("/")
    runtime.mkdir(parents=True)
    for name in IN_RUNTIME:
        (runtime / name).symlink_to(f"../../python3/dist-packages/{name}")
    for place, directory in COMPLETIONS.items():
        name = place.rpartition("/")[2]
        write(root / directory / name, (BUILT / "completions" / name).read_text(), 0o644)
    wheels = root / "usr/share/sdactivate/wheels"
    wheels.mkdir(parents=True)
    for path in BUILT.glob("*.whl"):
        shutil.copy(path, wheels)


def write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


if __name__ == "__main__":
    globals()[sys.argv[1]](*map(Path, sys.argv[2:]))
