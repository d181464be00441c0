"""A site's owner gets nothing of root's from `sdactivate install`, which root calls."""

from tests.machine.machine import Machine

# An interpreter and a virtual environment's packages that tell who runs them.
SITE = """
mkdir -p /srv/owned/app /srv/victim
python3 -m venv --without-pip /srv/owned/venv
packages=$(echo /srv/owned/venv/lib/python3*/site-packages)
echo "import os; os.system('id -un >>/srv/owned/ran')" >$packages/it.pth
rm /srv/owned/venv/bin/python
cat >/srv/owned/venv/bin/python <<'END'
#!/bin/bash
case "$*" in *"-c "*)
    ls /srv/owned/app >/dev/null && id -u | systemd-cat -t asked
    touch /srv/owned/app/written || echo cannot write | systemd-cat -t asked
esac
exec -a /srv/owned/venv/bin/python /usr/bin/python3 "$@"
END
chmod +x /srv/owned/venv/bin/python
cp /srv/mysite/mysite/wsgi.py /srv/victim/theirs.py
cat >/srv/owned/app/site_app.py <<'END'
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
END
mkdir /srv/owned/app/below
echo 1 >/srv/owned/app/below/it.py
ln -s /srv/victim /srv/owned/app/below/__pycache__
ln -s /srv/victim/theirs.py /srv/owned/app/link.py
chown -R -h alice /srv/owned
chmod -R a+rwX /srv/owned
"""


def test_root_runs_nothing_of_the_sites_owner(machine: Machine) -> None:
    machine.run("sh", "-ec", SITE)
    done = machine.run(
        *("sdactivate", "install", "owned", "--group=www-data", "--app=site_app:application"),
        *("--chdir=/srv/owned/app", "--python=/srv/owned/venv/bin/python", "--no-comments"),
        check=False,  # the interpreter has no sdactivate: what is compiled is what counts
    )
    assert "below/it.py: Not a directory" in done.stderr, done.stderr
    asked = machine.run("journalctl", "-t", "asked", "-o", "cat", "-q").stdout.split("\n")
    assert "cannot write" in asked
    uids = [int(line) for line in asked if line.isdigit()]
    assert uids
    assert all(61184 <= uid < 65520 for uid in uids)  # dynamic users
    assert machine.run("sh", "-c", "cat /srv/owned/ran", check=False).stdout == ""
    assert machine.run("ls", "/srv/victim").stdout.split() == ["theirs.py"]
    made = machine.run("find", "/srv/owned/app", "-name", "*.pyc", "-printf", "%f %u\n").stdout
    (line,) = made.splitlines()
    assert line.startswith("site_app.cpython-")
    assert line.endswith(".pyc alice")
