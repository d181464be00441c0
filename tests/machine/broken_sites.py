"""Pairs that need a running system: the example site broken in one way, and the same site fixed.

A row of LIVE breaks the site that `gen` has written, which nothing is found on (test_doctor.py has
the fixture and the tests); its twin is the same site with the fix that the doctor names. A rule
that takes more than a row is in SINGLE, with the test that breaks it. docs/cases.md is made of
both, and of the setups of unit files in tests/doctor/broken.py.
"""

from collections.abc import Callable
from typing import NamedTuple

from tests.machine.machine import Machine

UNITS = "/etc/systemd/system"
NGINX = "/etc/nginx/conf.d/mysite.conf"


def drop_in(machine: Machine, unit: str, text: str) -> None:
    """Change a unit in the file that `systemctl edit` makes, and restart what that takes."""
    machine.write(f"{UNITS}/{unit}.d/override.conf", text)
    machine.run("systemctl", "daemon-reload")
    if unit.endswith(".socket"):
        machine.run("systemctl", "stop", "mysite.service", check=False)
    machine.run("systemctl", "restart", unit)


def ask(machine: Machine, host: str) -> str:
    """The status of a request through the front, which may not listen yet."""
    machine.wait(lambda: not machine.run("curl", "-s", "localhost", check=False).returncode, host)
    argv = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"-HHost: {host}")
    return machine.run(*argv, "http://localhost/environ").stdout


def status(machine: Machine) -> str:
    """The status of a request through nginx."""
    return ask(machine, "localhost")


def missing_group(machine: Machine) -> None:
    machine.run("gpasswd", "-d", "www-data", "web")
    machine.run("systemctl", "restart", "nginx.service")


def owner_only(machine: Machine) -> None:
    drop_in(machine, "mysite.socket", "[Socket]\nSocketMode=0600\n")


def roots_group(machine: Machine) -> None:
    drop_in(machine, "mysite.socket", "[Socket]\nSocketGroup=root\n")


def closed_directory(machine: Machine) -> None:
    text = "[Socket]\nListenStream=\nListenStream=/srv/closed/mysite.sock\n"
    drop_in(machine, "mysite.socket", text)
    machine.run("chmod", "750", "/srv/closed")


def directory_of_its_own(machine: Machine) -> None:
    closed_directory(machine)
    machine.run("sh", "-ec", "chown www-data /srv/closed; chmod 077 /srv/closed")


def named_in_an_acl(machine: Machine) -> None:
    closed_directory(machine)
    machine.run("sh", "-ec", "chmod 755 /srv/closed; setfacl -m u:www-data:r /srv/closed")


def nobodys_group(machine: Machine) -> None:
    drop_in(machine, "mysite.socket", "[Socket]\nSocketGroup=nogroup\n")


def acl_mask(machine: Machine) -> None:
    machine.run("setfacl", "-m", "g:web:rw,m::r", "/run/mysite.sock")


def acl_mask_of_a_directory(machine: Machine) -> None:
    closed_directory(machine)
    machine.run("setfacl", "-m", "g:www-data:x,u:alice:rw,m::rw", "/srv/closed")


def older_than_its_group(machine: Machine) -> None:
    missing_group(machine)
    # systemctl returns before the workers have taken on their groups, and then their user
    find = ("pgrep", "--euid", "www-data", "nginx")
    machine.wait(lambda: not machine.run(*find, check=False).returncode, "a worker")
    machine.run("usermod", "-aG", "web", "www-data")


def front_with_a_tmp_of_its_own(machine: Machine) -> None:
    drop_in(machine, "mysite.socket", "[Socket]\nListenStream=\nListenStream=/tmp/mysite.sock\n")
    machine.run("sed", "-i", "s,unix:/run/,unix:/tmp/,", NGINX)
    drop_in(machine, "nginx.service", "[Service]\nPrivateTmp=yes\n")


def removed(machine: Machine) -> None:
    machine.run("rm", "/run/mysite.sock")


def replaced(machine: Machine) -> None:
    script = "import socket, os; os.unlink('/run/mysite.sock'); "
    script += "socket.socket(socket.AF_UNIX).bind('/run/mysite.sock')"
    machine.run(machine.python, "-c", script)
    machine.run("chown", "root:web", "/run/mysite.sock")
    machine.run("chmod", "660", "/run/mysite.sock")


def taken_over(machine: Machine) -> None:
    script = "import grp, os, socket, time; os.unlink('/run/mysite.sock'); "
    script += "s = socket.socket(socket.AF_UNIX); s.bind('/run/mysite.sock'); s.listen(4096); "
    script += "os.chown('/run/mysite.sock', 0, grp.getgrnam('web').gr_gid); "
    script += "os.chmod('/run/mysite.sock', 0o660); os.fork() and os._exit(0); "
    script += "os.closerange(0, 3); time.sleep(600)"
    machine.run(machine.python, "-c", script)


def opened_by_hand(machine: Machine) -> None:
    machine.run("chmod", "666", "/run/mysite.sock")


# What a hijacked service can do to the socket that it shares with systemd
_HIJACK = """
import ctypes, os, socket
rows = [it.split() for it in open('/proc/net/unix') if it.endswith(' /run/mysite.sock\\n')]
ours = {f'socket:[{row[6]}]' for row in rows if row[3] == '00010000'}  # others are connections
fd = next(int(it) for it in os.listdir('/proc/1/fd') if os.readlink(f'/proc/1/fd/{it}') in ours)
shared = socket.socket(fileno=ctypes.CDLL(None).syscall(438, os.pidfd_open(1), fd, 0))
"""  # pidfd_getfd(2)


def no_backlog(machine: Machine) -> None:
    machine.run(machine.python, "-c", f"{_HIJACK}shared.listen(0)")


def shut_down(machine: Machine) -> None:
    assert status(machine) == "200"  # while the service runs, systemd doesn't look at it
    machine.run(machine.python, "-c", f"{_HIJACK}shared.shutdown(socket.SHUT_RD)")
    said = machine.run(*machine.sdactivate, "who", "mysite").stdout
    assert "it was shut down" in said
    assert "systemctl restart" in said


def stopped(machine: Machine) -> None:
    machine.run("systemctl", "stop", "mysite.socket", "mysite.service")


def never_compiled(machine: Machine) -> None:
    machine.run("sh", "-c", "find /srv/mysite -name __pycache__ | xargs rm -rf")


def never_compiled_beside_a_template(machine: Machine) -> None:
    """Which no command could compile: it is left out of both the count and the command."""
    never_compiled(machine)
    machine.write("/srv/mysite/mysite/conf/page.py", "from {{ app_name }} import views\n")


def not_reloaded(machine: Machine) -> None:
    # systemd notices a changed file, but no new directory of drop-ins
    machine.run("sed", "-i", "/^.Socket/a Backlog=3000", f"{UNITS}/mysite.socket")


def service_not_reloaded(machine: Machine) -> None:
    machine.run("sh", "-c", f"echo Nice=5 >>{UNITS}/mysite.service")


def an_old_backlog(machine: Machine) -> None:
    drop_in(machine, "mysite.socket", "[Socket]\nBacklog=512\n")
    machine.run("rm", f"{UNITS}/mysite.socket.d/override.conf")
    machine.run("systemctl", "daemon-reload")


class Live(NamedTuple):
    """A site that is broken, and what the doctor says of it."""

    rule: str
    breaks: Callable[[Machine], None]
    setup: str
    """What is wrong, in words."""
    because: str
    """What the finding says of it."""
    fix: str
    """What its fix begins with."""
    sees: str = ""
    """What nginx can't connect with (missing, forbidden, refused), or words of systemctl status."""
    safe: bool = False
    """Whether `doctor --fix --yes` fixes it."""

    @property
    def id(self) -> str:
        """What to call the row in a test."""
        return f"{self.rule}-{self.breaks.__name__}"


_OTHERS = "others have ---, which lacks w"
LIVE: tuple[Live, ...] = (
    Live("SDA102", missing_group, "nginx's user is not in the socket's group",
         _OTHERS, "usermod -aG web www-data", "forbidden"),
    Live("SDA102", owner_only, "SocketMode=0600: the owner alone may connect",
         "group web has ---, which lacks w", "in [Socket] of mysite.socket: SocketMode=0660",
         "forbidden"),
    Live("SDA102", roots_group, "SocketGroup=root, which no front should join",
         _OTHERS, "in [Socket] of mysite.socket: SocketGroup=www-data", "forbidden"),
    Live("SDA102", nobodys_group, "SocketGroup=nogroup, which no front should join",
         _OTHERS, "in [Socket] of mysite.socket: SocketGroup=www-data", "forbidden"),
    Live("SDA102", closed_directory, "the socket's directory has mode 0750",
         "/srv/closed: others have ---, which lacks x", "setfacl -m g:www-data:x /srv/closed"),
    Live("SDA102", directory_of_its_own, "the socket's directory is the front's own, mode 0077",
         "owner www-data has ---", "chmod u+x /srv/closed"),
    Live("SDA102", named_in_an_acl, "an ACL gives the front r alone on the socket's directory",
         "ACL user www-data has r--", "setfacl -m u:www-data:rx /srv/closed"),
    Live("SDA103", acl_mask, "chmod or setfacl has set the mask of the socket's ACL to r",
         "its mask leaves r--, which lacks w", "setfacl -m m::rw /run/mysite.sock", "forbidden"),
    Live("SDA103", acl_mask_of_a_directory, "the mask of the directory's ACL is rw",
         "its mask leaves", "setfacl -m m::rwx /srv/closed"),
    Live("SDA104", older_than_its_group, "usermod -aG web www-data, and nginx was not restarted",
         "processes were started before that", "systemctl restart nginx.service", "forbidden",
         safe=True),
    Live("SDA106", front_with_a_tmp_of_its_own, "the socket is in /tmp, nginx has PrivateTmp=yes",
         "don't see /tmp/mysite.sock", "set ListenStream=/run/mysite.sock in the socket unit",
         "missing"),
    Live("SDA101", removed, "rm /run/mysite.sock",
         "is gone: no client can connect", "systemctl ", "missing", safe=True),
    Live("SDA101", replaced, "a program has bound a socket of its own there, and has left",
         "is not the file that it created: no client can connect", "systemctl ", "refused",
         safe=True),
    Live("SDA101", taken_over, "a program has bound a socket of its own there, and listens",
         "is another process's socket: clients connect to that one", "systemctl ", safe=True),
    Live("SDA112", never_compiled, "no __pycache__, and the service may write none",
         "modules in /srv/mysite have ", "sdactivate compile /srv/mysite", safe=True),
    Live("SDA112", never_compiled_beside_a_template,
         "the same, beside a template that is no Python",
         "modules in /srv/mysite have ", "sdactivate compile /srv/mysite",
         safe=True),
    Live("SDA114", opened_by_hand, "chmod 666 /run/mysite.sock",
         "mode 0666 instead of 0660: it was changed by hand", "systemctl ", safe=True),
    Live("SDA114", not_reloaded, "mysite.socket was edited, without a daemon-reload",
         "was changed on disk, but systemd has not reloaded it", "systemctl daemon-reload",
         safe=True),
    Live("SDA114", service_not_reloaded, "mysite.service was edited, without a daemon-reload",
         "was changed on disk, but systemd has not reloaded it", "systemctl daemon-reload",
         "changed on disk. Run 'systemctl daemon-reload' to reload units.", safe=True),
    Live("SDA114", an_old_backlog, "Backlog= was changed, and the socket was not restarted",
         "has a backlog of ", "systemctl ", safe=True),
    Live("SDA116", stopped, "systemctl stop mysite.socket",
         "the socket unit is not active: nothing listens", "systemctl enable --now mysite.socket",
         "Active: inactive (dead)", safe=True),
    Live("SDA117", no_backlog, "a process has called listen(fd, 0)",
         "A process that inherited the socket did this", "systemctl ", safe=True),
    Live("SDA117", shut_down, "a process has called shutdown(fd, SHUT_RD)",
         "A process that inherited the socket did this", "systemctl ",
         "refused", safe=True),
)  # fmt: skip


class Single(NamedTuple):
    """A rule that is broken in a test of its own."""

    setup: str
    test: str = ""


SINGLE: dict[str, Single] = {
    "SDA105": Single("php-fpm runs as www-data, as packaged, beside the site",
                     "test_php_as_the_front_s_user_is_found_and_the_rule_for_peers_fixes_it"),
    "SDA107": Single("clients come faster than they are served",
                     "test_a_queue_that_fills_up_is_seen"),
    "SDA108": Single("net.core.somaxconn is below Backlog=",
                     "test_a_kernel_that_shortens_the_backlog"),
    "SDA109": Single("SocketGroup= names a group that is not there",
                     "test_a_socket_for_a_group_that_isn_t_there_says_which"),
    "SDA110": Single("the application can't be imported, or a step before it fails",
                     "test_an_application_that_can_t_be_imported_is_seen_while_it_answers_503"),
    "SDA111": Single("the front was refused a moment ago", "test_the_front_s_log_is_understood"),
    "SDA113": Single("the site's directory is closed to the service's user",
                     "test_a_program_that_its_user_can_t_reach"),
    "SDA115": Single("AppArmor or SELinux is on, and its policy does not know the socket"),
    "SDA118": Single("a front that was written by hand sets X-Forwarded-Host",
                     "test_a_header_that_is_not_believed_by_default"),
    "SDA119": Single("the file of EnvironmentFile= was edited, and the service was not restarted",
                     "test_variables_that_have_changed_since_the_start"),
    "SDA120": Single("a worker is enabled, and was stopped or fails",
                     "test_a_background_worker_that_does_not_run"),
    "SDA121": Single("the packaged default server is still enabled, and answers for names that "
                     "the site's server does not list",
                     "test_the_packaged_default_server_answers_instead"),
    "SDA122": Single("the service is masked, or was never installed",
                     "test_a_masked_service_is_what_is_wrong_with_its_socket"),
    "SDA123": Single("the server calls listen(fd, 100), as asyncio does",
                     "test_what_a_server_does_to_its_backlog_is_no_change_by_hand"),
    "SDA124": Single("a page opens a TCP connection, or writes into the site's directory",
                     "test_what_the_sandbox_refuses_is_named_and_what_is_silent_counted"),
    "SDA125": Single("a page raises an exception, and LOGGING writes it nowhere",
                     "test_what_the_sandbox_refuses_is_named_and_what_is_silent_counted"),
    "SDA126": Single("the front asks for /run/my-site.sock, the unit listens at /run/mysite.sock",
                     "test_a_front_that_asks_for_another_socket"),
    "SDA129": Single("the site asks for its user's name, and NSS knows files alone",
                     "test_a_dynamic_user_without_a_name_is_found_and_given_one"),
    "SDA130": Single("ReadWritePaths= names a directory of root's, or of an earlier dynamic user's",
                     "test_what_a_dynamic_user_is_to_write_elsewhere"),
    "SDA146": Single("a directory that the unit names is FUSE's, whose program is stopped",
                     "test_a_mount_that_does_not_answer"),
    "SDA147": Single("ExecStart= has no absolute path",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA148": Single("a client sends two megabytes, and nginx's configuration says nothing of it",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA149": Single("nginx's server has proxy_pass, and no proxy_set_header Host",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA150": Single("the front's server_name is not in ALLOWED_HOSTS",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA151": Single("a service without a socket unit and without [Install], after a boot",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA152": Single("an ASGI application has WebSockets, and nginx sends no Upgrade",
                     "test_the_first_finding_is_the_cause"),
    "SDA153": Single("the server needs 2.5 s, and nginx waits one; cookies of 9 kB",
                     "test_the_first_finding_is_the_cause"),
    "SDA154": Single("Apache has RewriteRule [P] to http://, and mod_proxy_http is not enabled",
                     "test_the_first_finding_is_the_cause"),
    "SDA155": Single("nginx sends X-Forwarded-Proto, and uvicorn on a unix socket believes nobody",
                     "test_the_first_finding_is_the_cause"),
    "SDA156": Single("nginx's alias names another directory than STATIC_ROOT",
                     "test_the_first_finding_is_the_cause"),
    "SDA157": Single("nginx passes /forum/ on to /, and gunicorn has no SCRIPT_NAME",
                     "test_the_first_finding_is_the_cause"),
    "SDA158": Single("nginx includes fastcgi_params, and sends the path as PATH_INFO too",
                     "test_the_first_finding_is_the_cause"),
    "SDA159": Single("an ASGI application reads remote_user, behind nginx",
                     "test_the_first_finding_is_the_cause"),
    "SDA160": Single("an application sends text/event-stream, and nginx buffers",
                     "test_the_first_finding_is_the_cause"),
    "SDA161": Single("proxy_pass has no http://, and nginx does not start",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA162": Single("HAProxy's check has no Host that is in ALLOWED_HOSTS",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA163": Single("ProxyPass / has an address without a slash at its end",
                     "test_the_first_finding_is_the_cause"),
    "SDA164": Single("an ASGI application redirects, behind nginx with TLS and a unix socket",
                     "test_the_first_finding_is_the_cause"),
    "SDA165": Single("DEBUG is False, and Apache passes /static/ on to Django",
                     "test_the_first_finding_is_the_cause"),
    "SDA166": Single("Apache's virtual host does not say AllowEncodedSlashes",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA167": Single("the server closes each connection without a response",
                     "test_a_rule_s_own_setup_is_found_and_its_twin_is_not"),
    "SDA168": Single("ProxyPass / passes on what an Alias is for",
                     "test_the_first_finding_is_the_cause"),
    "SDA169": Single("proxy_set_header Host is there twice",
                     "test_the_first_finding_is_the_cause"),
    "SDA170": Single('proxy_set_header Authorization ""; before an application with tokens',
                     "test_the_first_finding_is_the_cause"),
    "SDA171": Single("nginx passes nothing on for the page's path",
                     "test_the_first_finding_is_the_cause"),
    "SDA172": Single("two services have the same RuntimeDirectory=",
                     "test_the_first_finding_is_the_cause"),
    "SDA127": Single("mysite-migrate.service has failed", "test_a_command_that_has_failed"),
    "SDA128": Single("EnvironmentFile= names a file that is not there",
                     "test_a_file_that_is_missing_before_the_start"),
    "SDA140": Single("nginx says uwsgi_pass, and the server speaks HTTP",
                     "test_the_first_finding_is_the_cause"),
    "SDA141": Single("uWSGI or gunicorn can't load the application, and runs all the same",
                     "test_the_first_finding_is_the_cause"),
    "SDA142": Single("a request's header is longer than uWSGI's buffer-size",
                     "test_the_first_finding_is_the_cause"),
    "SDA143": Single("static files lie in a home directory that nginx can't search",
                     "test_the_first_finding_is_the_cause"),
    "SDA144": Single("nginx ends TLS and sends no X-Forwarded-Proto",
                     "test_the_first_finding_is_the_cause"),
    "SDA145": Single("a page runs a program that is not on the service's PATH",
                     "test_the_first_finding_is_the_cause"),
}  # fmt: skip
