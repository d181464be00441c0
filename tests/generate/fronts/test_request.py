"""What a front is asked to do: refused where it can't, with what to know where it can."""

import pytest

from sdactivate import fronts
from sdactivate.cli import main
from sdactivate.generate.fronts.options import behind
from sdactivate.generate.fronts.request import FrontRequest, front_request, warnings
from sdactivate.site import Site


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["caddy", "--protocol", "scgi"], "--protocol scgi: Caddy has no scgi transport; with"),
        (["apache", "--protocol", "uwsgi"], "--protocol uwsgi: Apache's mod_proxy_uwsgi"),
        (["cherokee", "--protocol", "http"], "--protocol http: Cherokee's HTTP proxy"),
        (
            ["cherokee", "--server", "uvicorn"],
            "--server uvicorn: it speaks http only, and Cherokee's HTTP proxy cannot connect",
        ),
        (["nginx", "--server", "uvicorn", "--websocket-timeout", "0"], "a time span of at least"),
        (
            ["nginx", "--websocket-timeout", "soon"],
            "--websocket-timeout 'soon' is not a time span such",
        ),
        (["nginx", "--server", "uvicorn", "--app", "a.wsgi:app"], "uvicorn speaks ASGI, not WSGI"),
        (["nginx", "--server-name", "a b"], "--server-name 'a b' is not a host name"),
        (["nginx", "--mount", "/"], "--mount '/' is not a URL path below the root"),
        (["nginx", "--mount", "/../x"], "--mount '/../x' is not a URL path"),
        (["nginx", "--static", "/static/"], "--static '/static/' is not URL=DIR"),
        (["nginx", "--static", "/s=relative"], "--static 'relative' is not an absolute path"),
        (["nginx", "--media", "/m=/a;b"], "--media '/a;b' is not an absolute path"),
        (["nginx", "--tls", "/a"], "--tls '/a' is not CERT,KEY"),
        (["nginx", "--tls", "/a,/b"], "--tls: the redirect to HTTPS needs a fixed host"),
        (["nginx", "--tls", "auto"], "--tls: the redirect to HTTPS needs a fixed host"),
        (
            ["nginx", "--tls", "auto", "--server-name", "*.example.org"],
            "--server-name '*.example.org' is not a host name",
        ),
        (
            ["nginx", "--tls", "auto", "--server-name", "192.0.2.1"],
            "--server-name 192.0.2.1: a certificate needs a host name",
        ),
        (
            ["caddy", "--tls", "pending", "--server-name", "a.b"],
            "--tls pending: Caddy gets its certificate by itself; use --tls auto",
        ),
        (
            ["cherokee", "--tls", "auto", "--server-name", "a.b"],
            "--tls auto: not supported for Cherokee; use --tls CERT,KEY",
        ),
        (["nginx", "--hsts"], "--hsts: browsers obey it only over HTTPS"),
        (
            ["cherokee", "--hsts", "300", "--tls", "/c,/k", "--server-name", "a.b"],
            "--hsts: not supported for Cherokee",
        ),
        (["nginx", "--hsts", "soon"], "--hsts 'soon' is not a time span, such as 300, 1d or 365d"),
        (["nginx", "--timeout", "9"], "--timeout '9': an application may take 10 s to start"),
        (["nginx", "--max-body", "x"], "--max-body 'x' is not a size in bytes"),
        (["nginx", "--php", "/run/php.sock"], "--php: the application already has every path"),
        (["nginx", "--listen", "127.0.0.1:80"], "--listen 127.0.0.1:80: a front needs a socket"),
        (["nginx", "--listen", "/run/a b"], "--listen '/run/a b' is not an absolute path"),
        (["haproxy", "--static", "/s=/srv"], "--static: HAProxy can't serve files"),
        (["haproxy", "--protected", "/s=/srv"], "--protected: HAProxy can't serve files"),
        (["cherokee", "--protected", "/s=/srv"], "--protected: Cherokee would let the application"),
        (
            ["apache", "--protected", "/s=/srv"],
            "--protected: Apache sends a protected file by a local",
        ),
        (
            ["apache", "--server", "uvicorn", "--protected", "/s=/srv"],
            "which it supports only over SCGI",
        ),
        (
            ["nginx", "--media", "/m=/srv/m", "--protected", "/p=/srv/m/private"],
            "--protected /p/=/srv/m/private/: it is inside --media /srv/m/, from where",
        ),
        (["nginx", "--static", "/s=/srv", "--protected", "/p=/srv"], "it is inside --static /srv/"),
        (
            ["nginx", "--mount", "/a", "--php", "/run/p", "--protected", "/p=/var/www/html/x"],
            "it is inside --php-root /var/www/html/",
        ),
        (
            ["nginx", "--mount", "/a", "--php", "/run/p", "--media", "/m=/var/www/html/m"],
            "--media /m/=/var/www/html/m/: PHP would run uploaded files",
        ),
        (
            ["caddy", "--mount=/a", "--php=/p", "--php-root=/srv/m/php", "--media", "/m=/srv/m"],
            "one of this directory and --php-root /srv/m/php contains the other",
        ),
        (
            [
                "nginx",
                "--mount=/a",
                "--php=/p",
                "--php-root=/srv/p/php",
                "--protected",
                "/m=/srv/p",
            ],
            "--protected /m/=/srv/p/: PHP would run uploaded files",
        ),
        (["nginx", "--media", "/p=/a", "--protected", "/p=/b"], "--media has the same URL"),
        (["haproxy", "--listen", "/run/a.sock"], "use /var/lib/haproxy/mysite.sock"),
        (
            ["haproxy", "--server-name", "a.b", "--tls", "/c.pem,/k.pem"],
            "HAProxy looks for the key in the certificate's own file or in /c.pem.key",
        ),
        (
            ["lighttpd", "--protocol", "http", "--auth-file", "/etc/htpasswd"],
            "--auth-file: lighttpd does not pass the user to an http backend",
        ),
        (["nginx", "--behind", "10.0.0.1/8"], "--behind '10.0.0.1/8' is not an address"),
        (["nginx", "--behind", "lb.example"], "--behind 'lb.example' is not an address"),
        (["nginx", "--behind", "fe80::1%eth0"], "--behind 'fe80::1%eth0' is not an address"),
        (["nginx", "--behind", "proxy:unix"], "--behind 'proxy:unix' is not an address"),
        (
            ["nginx", "--behind", "proxy:10.0.0.1", "--behind", "10.0.0.2"],
            "--behind 10.0.0.2: a front either reads PROXY headers or X-Forwarded-* headers",
        ),
        (["apache", "--behind", "unix"], "--behind unix: Apache can't listen on a unix socket"),
        (["apache", "--behind", "proxy:::1"], "--behind proxy:::1: Apache (RemoteIPProxyProtocol)"),
        (["caddy", "--behind", "unix"], "--behind unix: Caddy 2.6 creates a unix socket"),
        (["caddy", "--behind", "proxy:10.0.0.1"], "--behind proxy:10.0.0.1: Caddy reads a PROXY"),
        (["cherokee", "--behind", "10.0.0.1"], "--behind 10.0.0.1: Cherokee takes the client's"),
        (
            ["lighttpd", "--protocol", "http", "--behind", "10.0.0.1"],
            "--behind: lighttpd passes the load balancer's address to an http backend",
        ),
        (
            ["lighttpd", "--behind", "10.0.0.1", "--trust-headers", "X-Forwarded-Host"],
            "--trust-headers X-Forwarded-Host: lighttpd takes only address and scheme from a load",
        ),
        (["nginx", "--behind", "0.0.0.0/0"], "--behind '0.0.0.0/0': that is every address"),
        (["nginx", "--behind", "::/0"], "--behind '::/0': that is every address"),
        (["nginx", "--behind", "::ffff:0:0/96"], "--behind '::ffff:0:0/96': that is every address"),
        (["nginx", "--behind", "proxy:::/0"], "--behind 'proxy:::/0': that is every address"),
        (
            ["nginx", "--static", "/s=/a", "--static", "/s/=/b"],
            "--static /s/=/b/: --static has the same URL; change one",
        ),
        (
            ["nginx", "--static", "/s=/a", "--media", "/s=/a"],
            "--media /s/=/a/: --static has the same URL",
        ),
        (
            ["apache", "--mount", "/app", "--media", "/app=/a"],
            "--media /app/=/a/: --mount has the same URL",
        ),
        (
            ["nginx", "--stream", "/s", "--static", "/s=/a"],
            "--static /s/=/a/: --stream has the same URL",
        ),
        (["nginx", "--stream", "/a;b"], "--stream '/a;b' is not a URL path"),
        (["nginx", "--stream", "/../x"], "--stream '/../x' is not a URL path"),
        (
            ["caddy", "--auth-file", "/nonexistent"],
            "--auth-file /nonexistent: No such file or directory; gen must read the file",
        ),
    ],
)
def test_what_a_front_cannot_do_is_refused_with_the_reason(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gen", "mysite", "--distribution", "debian", "--kind", *argv]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


@pytest.mark.parametrize(
    ("front", "options", "said"),
    [
        (fronts.CHEROKEE, {}, "no current distribution"),
        (fronts.HAPROXY, {}, "keeps only its primary group, haproxy"),
        (fronts.NGINX, {"distribution": "fedora"}, "SELinux"),
        (fronts.NGINX, {"mount": "/app", "php": "/run/php.sock"}, "PHP-FPM runs as www-data"),
        (fronts.CADDY, {"auth_file": "/etc/htpasswd"}, "can't read an htpasswd file"),
        (fronts.CADDY, {"auth_file": "/etc/htpasswd"}, "--remote-user yes"),
        (fronts.NGINX, {"behind": (behind("unix"),)}, "d /run/mysite-front 0750 root GROUP"),
    ],
)
def test_traps_are_warned_of(front: fronts.Front, options: dict[str, str], said: str) -> None:
    asked = front_request(front, Site("mysite"), **{"distribution": "debian", **options})
    assert any(said in warning for warning in warnings(asked))
    plain = FrontRequest(fronts.NGINX, "mysite", "/run/mysite.sock")
    assert warnings(plain) == []


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp"])
def test_a_socket_in_a_private_tmp_is_warned_of(directory: str) -> None:
    asked = FrontRequest(fronts.APACHE, "mysite", f"{directory}/mysite.sock")
    assert any("PrivateTmp" in warning for warning in warnings(asked))
    assert not warnings(FrontRequest(fronts.NGINX, "mysite", f"{directory}/mysite.sock"))


def test_who_is_in_front_is_named_once_and_as_fronts_name_them() -> None:
    """An IPv4 address within IPv6 is IPv4: of the other spelling nginx and Apache see no peer."""
    said = ("::ffff:192.0.2.1", "::ffff:198.51.100.0/120", "192.0.2.1", "192.0.2.1/32", "unix")
    hops = tuple(map(behind, said))
    assert [hop.peer for hop in hops[:2]] == ["192.0.2.1", "198.51.100.0/24"]
    assert behind("proxy:::ffff:192.0.2.1") == behind("proxy:192.0.2.1")
    asked = FrontRequest(fronts.NGINX, "mysite", "/run/mysite.sock", behind=(*hops, *hops))
    assert asked.hop_addresses == ["192.0.2.1", "198.51.100.0/24"]


def test_a_path_that_is_streamed_is_named_once() -> None:
    site = Site("mysite", settings={"stream": "/a /a/ /b /a"})
    assert front_request(fronts.NGINX, site).stream == ("/a", "/b")
