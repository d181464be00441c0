"""What distributions bring in of the fronts' configuration, as trees of files.

Debian's are this system's own in tests/machine. Fedora's and Arch's are here: the files that decide
who answers, shortened, after their documentation; not compared with the packages, and not run.
"""

from pathlib import Path

_SERVER = """
    server {
        listen       80%s;
        listen       [::]:80%s;
        server_name  _;
        root         /usr/share/nginx/html;

        # Load configuration files for the default server block.
        include /etc/nginx/default.d/*.conf;
        location = /40x.html {
        }
    }
"""
_FEDORA = """
user nginx;
include /usr/share/nginx/modules/*.conf;
events {
    worker_connections 1024;
}
http {
    log_format  main  '$remote_addr - $remote_user [$time_local] "$request" '
                      '$status $body_bytes_sent "$http_referer" ';
    include             /etc/nginx/mime.types;

    # Load modular configuration files from the /etc/nginx/conf.d directory.
    include /etc/nginx/conf.d/*.conf;
%s
# Settings for a TLS enabled server.
#
#    server {
#        listen       443 ssl http2 default_server;
#        server_name  _;
#    }
}
"""
_ARCH = """
#user  nobody;
worker_processes  1;
events {
    worker_connections  1024;
}
http {
    include       mime.types;
    default_type  application/octet-stream;
    #gzip  on;
    server {
        listen       80;
        server_name  localhost;
        location / {
            root   /usr/share/nginx/html;
            index  index.html index.htm;
        }
        error_page   500 502 503 504  /50x.html;
    }
    # another virtual host using mix of IP-, name-, and port-based configuration
    #server {
    #    listen       8000;
    #}
%s}
"""
_HTTPD = """
ServerRoot "/etc/httpd"
Listen 80
%s
User apache
DocumentRoot "/var/www/html"
<Directory "/var/www/html">
    Require all granted
</Directory>
%s
"""
_HTTPD_FEDORA = _HTTPD % ("Include conf.modules.d/*.conf", "IncludeOptional conf.d/*.conf")
_DEBIAN_NGINX = """
include /etc/nginx/modules-enabled/*.conf;
http {
	include /etc/nginx/mime.types;
	include /etc/nginx/conf.d/*.conf;
	include /etc/nginx/sites-enabled/*;
}
#mail {
#	server {
#		listen     localhost:110;
#	}
#}
"""

Tree = dict[str, str]
"""Texts by path; one that begins with "-> " is a symbolic link."""

TREES: dict[tuple[str, str], Tree] = {
    ("nginx", "debian"): {
        "/etc/nginx/nginx.conf": _DEBIAN_NGINX,
        "/etc/nginx/sites-available/default": (
            "# Default server configuration\nserver {\n\tlisten 80 default_server;\n"
            "\tlisten [::]:80 default_server;\n\tserver_name _;\n}\n"
        ),
        "/etc/nginx/sites-enabled/default": "-> /etc/nginx/sites-available/default",
    },
    ("nginx", "fedora"): {
        "/etc/nginx/nginx.conf": _FEDORA % (_SERVER % ("", "")),
        "/etc/nginx/mime.types": "types {\n    text/html html htm;\n}\n",
    },
    # RHEL 8 and its like
    ("nginx", "rhel"): {
        "/etc/nginx/nginx.conf": _FEDORA % (_SERVER % (" default_server", " default_server")),
    },
    # The packages of nginx.org, on any of them
    ("nginx", "nginx.org"): {
        "/etc/nginx/nginx.conf": "http {\n    include /etc/nginx/conf.d/*.conf;\n}\n",
        "/etc/nginx/conf.d/default.conf": (
            "server {\n    listen       80;\n    server_name  localhost;\n}\n"
        ),
    },
    ("nginx", "arch"): {"/etc/nginx/nginx.conf": _ARCH % ""},
    ("nginx", "arch with conf.d"): {
        "/etc/nginx/nginx.conf": _ARCH % "    include /etc/nginx/conf.d/*.conf;\n"
    },
    ("apache", "debian"): {
        "/etc/apache2/apache2.conf": (
            "IncludeOptional mods-enabled/*.load\nInclude ports.conf\n"
            "IncludeOptional sites-enabled/*.conf\n"
        ),
        "/etc/apache2/ports.conf": "Listen 80\n<IfModule ssl_module>\n\tListen 443\n</IfModule>\n",
        "/etc/apache2/sites-available/000-default.conf": (
            "<VirtualHost *:80>\n\t#ServerName www.example.com\n\tDocumentRoot /var/www/html\n"
            "</VirtualHost>\n"
        ),
        "/etc/apache2/sites-enabled/000-default.conf": "-> ../sites-available/000-default.conf",
    },
    ("apache", "fedora"): {
        "/etc/httpd/conf/httpd.conf": _HTTPD_FEDORA,
        "/etc/httpd/conf.d/welcome.conf": (
            '<LocationMatch "^/+$">\n    Options -Indexes\n    ErrorDocument 403 /.noindex.html\n'
            "</LocationMatch>\n"
        ),
        "/etc/httpd/conf.d/ssl.conf": (
            "Listen 443 https\n<VirtualHost _default_:443>\nSSLEngine on\n</VirtualHost>\n"
        ),
    },
    ("apache", "arch"): {
        "/etc/httpd/conf/httpd.conf": _HTTPD
        % ("LoadModule mpm_event_module modules/mod_mpm_event.so", "#Include conf/extra/x.conf"),
    },
    ("lighttpd", "fedora"): {
        "/etc/lighttpd/lighttpd.conf": (
            'var.conf_dir    = "/etc/lighttpd"\nserver.port = 80\n'
            'include conf_dir + "/conf.d/mime.conf"\n#include conf_dir + "/vhosts.d/*.conf"\n'
        ),
    },
    ("lighttpd", "fedora with vhosts.d"): {
        "/etc/lighttpd/lighttpd.conf": (
            'var.conf_dir    = "/etc/lighttpd"\nserver.port = 80\n'
            'include conf_dir + "/vhosts.d/*.conf"\n'
        ),
    },
    ("lighttpd", "arch"): {
        "/etc/lighttpd/lighttpd.conf": 'server.port = 80\nserver.document-root = "/srv/http"\n',
    },
    ("caddy", "debian"): {
        "/etc/caddy/Caddyfile": (
            "# The Caddyfile is an easy way to configure your Caddy web server.\n\n"
            ":80 {\n\t# Set this path to your site's directory.\n\troot * /usr/share/caddy\n\n"
            "\tfile_server\n}\n"
        ),
    },
    ("caddy", "fedora"): {
        "/etc/caddy/Caddyfile": (
            "http:// {\n\troot * /usr/share/caddy\n\tfile_server\n}\n\n"
            "# Import additional caddy config files in Caddyfile.d\n"
            "import Caddyfile.d/*.caddyfile\n"
        ),
    },
    ("caddy", "arch"): {
        "/etc/caddy/Caddyfile": (
            "{\n\t# Restrict the admin interface to a local unix file socket\n"
            '\tadmin "unix//run/caddy/admin.socket"\n}\n\n'
            "http:// {\n\troot * /usr/share/caddy\n\tfile_server\n}\n\n"
            "import /etc/caddy/conf.d/*\n"
        ),
    },
}
"""By front and layout."""


def make(root: Path, tree: Tree) -> Path:
    """Make the files of `tree` below `root`, and return it."""
    for path, text in tree.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            file.symlink_to(text.removeprefix("-> "))
        else:
            file.write_text(text)
    return root
