"""php-fpm as Debian packages it, beside nginx and as the same user."""

import pytest

from tests.machine.machine import Machine, asked_for

_SBIN = asked_for() / "usr/sbin"
FPM = next(iter(sorted(_SBIN.glob("php-fpm[0-9]*"))), None)
VERSION = FPM.name.removeprefix("php-fpm") if FPM else ""
UNIT = f"php{VERSION}-fpm.service"

needs_php = pytest.mark.skipif(FPM is None, reason="php-fpm is what is tried; script/setup has it")

_SCRIPT = r"""<?php
$s = @stream_socket_client("unix:///run/mysite.sock", $errno, $error, 5);
if (!$s) { echo "refused: $error"; exit; }
$header = "CONTENT_LENGTH\x000\x00SCGI\x001\x00REQUEST_METHOD\x00GET\x00PATH_INFO\x00/environ\x00";
fwrite($s, strlen($header) . ":$header,");
$answer = @fgets($s);
echo $answer === false ? "closed" : "answered: $answer";
"""
_NGINX = f"""
server {{
    listen 81;
    location / {{
        fastcgi_pass unix:/run/php/php{VERSION}-fpm.sock;
        fastcgi_param SCRIPT_FILENAME /srv/php/connect.php;
        fastcgi_param REQUEST_METHOD GET;
    }}
}}
"""


def start(machine: Machine) -> None:
    """Start php-fpm; port 81 of nginx is then a page that connects to /run/mysite.sock itself."""
    machine.write("/srv/php/connect.php", _SCRIPT)
    machine.write("/etc/nginx/conf.d/php.conf", _NGINX)
    machine.run("systemctl", "start", UNIT)


def connect(machine: Machine) -> str:
    """Let PHP connect; what it says: refused, closed, or answered."""
    return machine.run("curl", "-sS", "http://localhost:81/").stdout
