"""Which server of a front answers, by the configurations that distributions bring in."""

import os
import re
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdactivate import fronts
from sdactivate.front_config import (
    Configuration,
    InTheWay,
    Naming,
    default_for,
    in_the_way,
    include_line,
    names_socket,
    read,
)
from sdactivate.fronts import FRONTS, Packaging
from sdactivate.generate.fronts.default_server import warnings
from sdactivate.generate.fronts.options import Tls
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.generate.output import Target
from sdactivate.install.image import inside
from sdactivate.site import Site
from tests.front_trees import TREES, make

NAMED = {"server_name": ("example.org", "www.example.org")}
LOCALHOST = {"server_name": ("localhost",)}


def family(layout: str) -> str:
    return next((name for name in fronts.DISTRIBUTIONS if layout.startswith(name)), "fedora")


def placed(packaging: Packaging) -> str:
    return (packaging.link or packaging.config).replace("NAME", "mysite")


def look(
    root: Path, front: str, layout: str, **options: object
) -> tuple[Configuration, list[InTheWay]]:
    """What is read of a tree with the site's file in it, and what is in its way."""
    found = FRONTS[front]
    packaging = found.packaging[family(layout)]
    asked = front_request(found, Site("mysite"), distribution=family(layout), **options)
    path = placed(packaging)
    at = partial(inside, make(root, TREES[front, layout]))
    configuration = read(found, packaging, at, {path: config(asked)})
    rivals = in_the_way(found, packaging, configuration.servers, lambda it: it.file == path)
    return configuration, rivals


IN_THE_WAY = {
    ("nginx", "debian"): ("rm /etc/nginx/sites-enabled/default", "systemctl reload nginx.service"),
    ("nginx", "rhel"): ("remove that server from /etc/nginx/nginx.conf",),
    ("nginx", "nginx.org"): (
        "mv /etc/nginx/conf.d/default.conf /etc/nginx/conf.d/default.conf.off",
    ),
    ("nginx", "arch"): ("remove that server from /etc/nginx/nginx.conf",),
    ("nginx", "arch with conf.d"): ("remove that server from /etc/nginx/nginx.conf",),
    ("apache", "debian"): ("a2dissite 000-default", "systemctl reload apache2.service"),
    ("caddy", "debian"): ("remove that server from /etc/caddy/Caddyfile",),
    ("caddy", "fedora"): ("remove that server from /etc/caddy/Caddyfile",),
    ("caddy", "arch"): ("remove that server from /etc/caddy/Caddyfile",),
}
"""Where a site of no particular name would not be answered, and what is said."""


@pytest.mark.parametrize(("front", "layout"), TREES)
def test_the_packaged_default_server_is_seen_where_it_answers(
    front: str, layout: str, tmp_path: Path
) -> None:
    _, found = look(tmp_path, front, layout)
    expected = IN_THE_WAY.get((front, layout), ())
    assert len(found) == bool(expected)
    for words in expected:
        assert words in found[0].fix


@pytest.mark.parametrize(("front", "layout"), TREES)
def test_it_is_not_in_the_way_of_names(front: str, layout: str, tmp_path: Path) -> None:
    tls = {} if front == "haproxy" else {"tls": Tls("/etc/ssl/a.pem", "/etc/ssl/a.key")}
    assert look(tmp_path / "http", front, layout, **NAMED)[1] == []
    assert look(tmp_path / "https", front, layout, **NAMED, **tls)[1] == []


def test_a_name_that_the_default_server_has_is_its_own(tmp_path: Path) -> None:
    for layout in ("nginx.org", "arch"):
        _, (found,) = look(tmp_path / layout, "nginx", layout, **LOCALHOST)
        assert "answers localhost instead of the site" in found.because
    assert look(tmp_path / "debian", "nginx", "debian", **LOCALHOST)[1] == []


@pytest.mark.parametrize(
    ("front", "text", "answered"),
    [
        ("nginx", "server { server_name a.test; } server { server_name b.test; }", "a.test"),
        ("nginx", "server { server_name a.test; } server { listen 80 default; }", ""),
        ("nginx", "server { server_name a.test; } server { server_name *.test; }", None),
        ("nginx", "server { server_name a.test; } server { server_name .www.test; }", None),
        ("nginx", "server { server_name a.test; } server { server_name www.*; }", None),
        ("nginx", "server { server_name a.test; } server { server_name ~^w; }", None),
        ("nginx", "server { listen 81; server_name a.test; }", None),
        ("nginx", "server { listen 127.0.0.1:80; server_name a.test; }", None),
        ("apache", "<VirtualHost *:80>\nServerName a.test\n</VirtualHost>\n", "a.test"),
        ("apache", "<VirtualHost *:80>\nServerAlias www.test\n</VirtualHost>\n", None),
        ("caddy", "http://a.test {\n}\n:80 {\n}\n", ""),
        ("caddy", "http://a.test {\n}\n", None),
    ],
)
def test_which_server_answers_a_name_that_none_has(
    front: str, text: str, answered: str | None, tmp_path: Path
) -> None:
    packaging = FRONTS[front].packaging["debian"]
    path = tmp_path / packaging.main.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(f"http {{ {text} }}" if front == "nginx" else text)
    servers = read(FRONTS[front], packaging, partial(inside, tmp_path)).servers
    assert servers
    found = default_for(FRONTS[front], servers, "www.test", 80)
    assert (" ".join(found.names) if found else None) == answered


READ = {
    ("nginx", "arch"): "include /etc/nginx/conf.d/*.conf;",
    ("apache", "arch"): "IncludeOptional /etc/httpd/conf/extra/mysite.conf",
    ("lighttpd", "fedora"): 'include "/etc/lighttpd/vhosts.d/*.conf"',
    ("lighttpd", "arch"): 'include "/etc/lighttpd/conf.d/*.conf"',
    ("caddy", "debian"): "import /etc/caddy/*.caddyfile",
}
"""Where the packaged configuration does not include the site's file, and the line that does."""


@pytest.mark.parametrize(("front", "layout"), TREES)
def test_whether_the_sites_file_is_read(front: str, layout: str, tmp_path: Path) -> None:
    packaging = FRONTS[front].packaging[family(layout)]
    configuration, _ = look(tmp_path, front, layout)
    line = READ.get((front, layout))
    assert bool(configuration.missed) == bool(line)
    if line:
        assert include_line(FRONTS[front], packaging, "mysite") == line
        main = tmp_path / packaging.main.lstrip("/")
        text = main.read_text().rstrip()
        end = "\n}\n" if front == "nginx" else "\n"
        main.write_text(f"{text.removesuffix('}') if front == 'nginx' else text}\n{line}{end}")
        again = read(FRONTS[front], packaging, partial(inside, tmp_path), {placed(packaging): ""})
        assert again.missed == ()


def test_gen_warns_only_where_the_text_will_be_read(tmp_path: Path) -> None:
    root = make(tmp_path, TREES["nginx", "debian"])
    asked = front_request(FRONTS["nginx"], Site("mysite"), distribution="debian")
    (said,) = warnings(asked, config(asked), Target(at=partial(inside, root)))
    assert said.startswith("nginx's server in /etc/nginx/sites-enabled/default, line 2, answers")
    assert "give the site's names with --server-name, or `rm " in said
    make(
        tmp_path / "again", {**TREES["nginx", "fedora"], "/etc/nginx/conf.d/a.conf": config(asked)}
    )
    fedora = front_request(FRONTS["nginx"], Site("mysite"), distribution="fedora")
    again = Target(at=partial(inside, tmp_path / "again"))
    assert list(warnings(fedora, config(fedora), again)) == []
    empty = Target(at=partial(inside, tmp_path / "empty"))
    assert list(warnings(asked, config(asked), empty)) == []
    other = next(name for name in fronts.DISTRIBUTIONS if name != fronts.distribution())
    elsewhere = front_request(FRONTS["nginx"], Site("mysite"), distribution=other)
    assert list(warnings(elsewhere, config(elsewhere), Target())) == []


def nginx(root: Path, text: str) -> Configuration:
    make(root, {"/etc/nginx/nginx.conf": text})
    return read(FRONTS["nginx"], FRONTS["nginx"].packaging["debian"], partial(inside, root))


def test_nginx_is_read_as_nginx_reads_it(tmp_path: Path) -> None:
    text = """
    stream { server { listen 80; } }
    http {
        upstream app { server unix:/run/a.sock; }
        map $uri $x { default "a;b}"; '~^{' ${host}; }
        server { listen 192.0.2.1:80; server_name one.test; }
        server {  # no listen: port 80
            server_name A.test *.a.test;
            location / { if ($x) { return 204; } proxy_pass http://app; }
        }
        server { listen *:8080; listen [::]:443 ssl default_server; server_name "b.test"; }
        include loop*.conf;
    }
    """
    make(tmp_path, {"/etc/nginx/loop1.conf": "include loop1.conf;\nserver { listen 81; }\n"})
    found = nginx(tmp_path, text)
    assert [(sorted(it.ports), it.names, it.is_default) for it in found.servers] == [
        ([], ("one.test",), False),
        ([80], ("a.test", "*.a.test"), False),
        ([443, 8080], ("b.test",), True),
        ([81], (), False),
    ]
    assert "proxy_pass" in found.servers[1].text
    assert found.servers[1].line == 7


@pytest.mark.parametrize(
    "text", ["", "}", "server {", "http { server { listen", '"', "include;", "listen 80;"]
)
def test_what_nginx_would_refuse_is_no_reason_to_fail(text: str, tmp_path: Path) -> None:
    assert nginx(tmp_path, text).servers == ()


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, {"/etc/nginx/nginx.conf": "-> /nowhere"})
    found = FRONTS["nginx"]
    assert read(found, found.packaging["debian"], partial(inside, tmp_path)).files == {}


# --- includes -----------------------------------------------------------------------------------

SITE_OF = {
    "nginx": "server { listen 80; }\n",
    "apache": "<VirtualHost *:80>\n</VirtualHost>\n",
    "caddy": ":80 {\n}\n",
}


def included(root: Path, front: str, line: str, tree: dict[str, str]) -> list[str]:
    """The files that a main file of one line includes, in their order, without its directory."""
    packaging = FRONTS[front].packaging["debian"]
    make(root, {packaging.main: line + "\n", **tree})
    folder = os.path.dirname(packaging.main) + "/"
    _, *found = read(FRONTS[front], packaging, partial(inside, root)).files
    return [path.removeprefix(folder) for path in found]


@pytest.mark.parametrize(
    ("front", "line", "expected"),
    [
        ("apache", "Include sites-enabled/", ["sites-enabled/a.conf", "sites-enabled/b/c.conf"]),
        ("apache", "Include sites-enabled", ["sites-enabled/a.conf", "sites-enabled/b/c.conf"]),
        ("apache", "IncludeOptional mods-*/x.conf", ["mods-1/x.conf", "mods-2/x.conf"]),
        ("apache", "Include mods-[!1]", ["mods-2/x.conf"]),
        ("apache", "Include none/", []),
        ("nginx", "include mods-*/*.conf;", ["mods-1/x.conf", "mods-2/x.conf"]),
        ("nginx", "include sites-enabled/;", []),
        ("nginx", "include sites-enabled/*;", ["sites-enabled/a.conf"]),
        ("lighttpd", 'include "mods-?/x.conf"', ["mods-1/x.conf", "mods-2/x.conf"]),
        ("caddy", "import mods-*/x.conf", ["mods-1/x.conf", "mods-2/x.conf"]),
    ],
)
def test_an_include_means_what_the_front_takes_it_for(
    front: str, line: str, expected: list[str], tmp_path: Path
) -> None:
    folder = os.path.dirname(FRONTS[front].packaging["debian"].main)
    names = ("sites-enabled/a.conf", "sites-enabled/b/c.conf", "mods-1/x.conf", "mods-2/x.conf")
    tree = {f"{folder}/{name}": SITE_OF.get(front, "") for name in names}
    assert included(tmp_path, front, line, tree) == expected


def test_a_planned_file_is_seen_in_a_directory_that_is_included(tmp_path: Path) -> None:
    """As `install --front apache` asks, before it makes the first file there."""
    found = FRONTS["apache"]
    packaging = found.packaging["debian"]
    for line in ("Include sites-enabled/", "Include sites-enabled", "IncludeOptional site*/my*"):
        make(tmp_path, {packaging.main: line})
        at = partial(inside, tmp_path)
        configuration = read(found, packaging, at, {placed(packaging): SITE_OF["apache"]})
        assert configuration.missed == (), line
        assert [it.file for it in configuration.servers] == [placed(packaging)]


def test_links_in_a_circle_are_left_out(tmp_path: Path) -> None:
    links = {"/etc/apache2/a": "-> b", "/etc/apache2/b": "-> a", "/etc/apache2/c": "-> ."}
    for line in ("Include a", "Include a/*.conf", "Include */x", "Include c/c/c/c/none"):
        assert included(tmp_path / line.replace("/", " "), "apache", line, links) == []


# --- files that somebody has written to keep it busy --------------------------------------------

WORDS = (
    *("server", "http", "listen", "include", "server_name", "default_server", "{", "}", ";", "80"),
    *("<VirtualHost", "</VirtualHost>", "*:80>", "ServerName", "Include", "IncludeOptional"),
    *(
        "ServerRoot",
        "/",
        "import",
        "*",
        "**",
        "[",
        "[z-a]",
        "?",
        "..",
        ":80",
        "https://",
        "a.test,",
    ),
    *("var.a", "=", "+", "a", "server.port", "\n", "\t", " ", "\0", "#", '"', "'", "\\", "${", "%"),
    *("9" * 5000, "\u0663", "²", "a" * 300, "\ud800"),
)


@pytest.mark.parametrize("front", ["nginx", "apache", "lighttpd", "caddy"])
@given(
    words=st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=30), glue=st.text(" \n")
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_says_reading_it_ends(
    front: str, words: list[str], glue: str, tmp_path: Path
) -> None:
    """And raises nothing; how many directories are listed for it is bounded."""
    packaging = FRONTS[front].packaging["debian"]
    looked_at: list[str] = []

    def at(path: str) -> Path:
        looked_at.append(path)
        return inside(tmp_path, path)

    text = glue.join(words)
    (file := tmp_path / packaging.main.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    configuration = read(FRONTS[front], packaging, at, {placed(packaging): text})
    assert len(looked_at) <= 2000
    in_the_way(
        FRONTS[front], packaging, configuration.servers, lambda it: it.file != packaging.main
    )


SIZE = 1 << 18
LONG = {
    "nginx": [
        *("server{}\n" * 110_000, "include a*;" * 20_000, '"' + '\\"' * SIZE, "${a" * 70_000),
        *("include *;" * 20_000, "\n" * SIZE, "{" * SIZE, "http{server{" * 20_000),
    ],
    "apache": [
        *("<VirtualHost" + " " * SIZE, ("<VirtualHost" + " " * 900 + "\n") * 280),
        *("\n" * SIZE + "ServerRoot", " \n" * (SIZE // 2), "Include a*\n" * 20_000),
        *("Include .\n" * 20_000, "ServerRoot\n" * 20_000 + '"', " " * SIZE + "x"),
        "<VirtualHost *>\n</VirtualHost>\n" * 8_000,
    ],
    "lighttpd": [
        *('a = "x"\n' + "a = a + a + a\n" * 16_000, 'a = "x"\n' + "a = " + "a + " * 60_000),
        *('include "*"\n' * 20_000, "a" * SIZE, "a " * (SIZE // 2)),
        'a = "' + "x" * 4000 + '"\n' + ("b = " + "a + " * 1000 + "\n") * 60,
    ],
    "caddy": [
        *("a," * (SIZE // 2), "a,\n" * 70_000, ":80 {\n}\n" * 30_000, "import *\n" * 20_000),
        *("{\n" * (SIZE // 2), " #" * (SIZE // 2), "https://" * 30_000 + "{\n}\n"),
    ],
}
"""Files of 256 KiB: where a pattern or a loop begins again at each line, they take an hour."""


def within_bounds(work: Callable[[], object]) -> bool:
    """Whether `work` ends before 10 seconds of CPU time and within 2 GiB, which the kernel sees to.

    How long it takes on a busy machine does not matter.
    """
    if not (child := os.fork()):
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("front", LONG)
def test_a_long_file_takes_as_long_as_it_is(front: str, tmp_path: Path) -> None:
    packaging = FRONTS[front].packaging["debian"]
    for number, text in enumerate(LONG[front]):
        root = make(tmp_path / str(number), {packaging.main: text})

        def work(root: Path = root) -> None:
            at = partial(inside, root)
            configuration = read(FRONTS[front], packaging, at, {placed(packaging): ""})
            in_the_way(FRONTS[front], packaging, configuration.servers, lambda it: not it.line)

        assert within_bounds(work), text[:20]


def test_a_socket_is_looked_for_once_in_each_place() -> None:
    assert within_bounds(lambda: names_socket("/run/a.sock" * 90_000, "/run/a.sock"))
    for text, named in {
        "unix:/run/a.sock;": True,
        "unix:/run/a.sock.": True,
        "unix:/run/a.sock.old": False,
        "unix:/run/a.sock-2": False,
        "unix:/run/a.sock..x": False,
        "unix:/run/a.sock/x, /run/a.sock": True,
    }.items():
        assert names_socket(text, "/run/a.sock") == named, text


_PATHS = st.text("/.ab-é \n[", max_size=6).map("/{}".format)


@given(texts=st.lists(st.lists(_PATHS | st.sampled_from((";", "unix:"))).map("".join)), path=_PATHS)
def test_an_index_finds_what_a_look_at_each_text_finds(texts: list[str], path: str) -> None:
    def names(text: str) -> bool:
        return re.search(re.escape(path) + r"(?!\.*[\w/-])", text) is not None

    index = Naming(enumerate(texts))
    wanted = [place for place, text in enumerate(texts) if names(text)]
    assert index.of(path) == wanted
    assert wanted == [place for place, text in enumerate(texts) if names_socket(text, path)]


DIGITS = "9" * 5000
ODD = {
    "nginx": [
        f"server {{ listen {DIGITS}; }}",
        "server { listen \u00b2; }",
        "include /a\0b/*;",
        "include a\0b;",
        "include [z-a];",
    ],
    "apache": [
        f"<VirtualHost *:{DIGITS}>\n</VirtualHost>\n",
        'ServerRoot "/a\0b"\nInclude *\nInclude c\n',
        "Include a\0b/\n",
    ],
    "lighttpd": ['include "a\0b/*"\n', f'include "{"../" * 3000}*"\n', f'include "{"a" * 300}*"\n'],
    "caddy": [f":{DIGITS} {{\n}}\n", ":\u00b2 {\n}\n", "import a\0b*\n"],
}
"""What no front takes, and what it must not keep anybody from reading."""


@pytest.mark.parametrize("front", ODD)
def test_what_no_front_takes_is_passed_over(front: str, tmp_path: Path) -> None:
    packaging = FRONTS[front].packaging["debian"]
    for number, text in enumerate(ODD[front]):
        root = make(tmp_path / str(number), {packaging.main: text})
        found = read(FRONTS[front], packaging, partial(inside, root))
        assert list(found.files) == [packaging.main]
        assert all(not server.ports for server in found.servers)
