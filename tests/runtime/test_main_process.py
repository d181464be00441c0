"""What moves a serving process on, for one worker and for several, with a supervisor and without.

Under a real systemd, and under load: tests/machine/test_lifecycle.py.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdactivate.cli import main
from sdactivate.runtime.recycling import Recycling
from sdactivate.runtime.reload_result import ask
from sdactivate.servers.api import Figures
from sdactivate.settings import resolve
from tests.runtime.life import ONE_AND_MORE, SUPERVISED, Lives, answer
from tests.servers.service import eventually

# The table of signals in docs/lifecycle.md, row by row


@ONE_AND_MORE
@SUPERVISED
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_was_accepted(
    life: Lives, number: signal.Signals, supervised: bool, workers: int
) -> None:
    service = life(supervised=supervised, workers=workers)
    slow = service.slow()
    service.signal(number)
    if supervised:
        service.told("STOPPING=1")
    assert answer(slow).startswith(b"HTTP/1.1 200")
    assert service.process.wait(60) == 0


@ONE_AND_MORE
@SUPERVISED
def test_a_second_stop_cuts(life: Lives, supervised: bool, workers: int) -> None:
    service = life(supervised=supervised, workers=workers, graceful_timeout=600)
    hanging = service.send("/hang")
    service.logged("hanging")
    service.signal(signal.SIGTERM)
    service.logged("exiting")
    service.signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    service.logged("cut off 1 request")
    with contextlib.suppress(ConnectionResetError):
        assert answer(hanging) == b""


@ONE_AND_MORE
@SUPERVISED
def test_some_signals_mean_nothing(life: Lives, supervised: bool, workers: int) -> None:
    service = life(supervised=supervised, workers=workers)
    service.pid()
    numbers = {signal.SIGUSR1, signal.SIGWINCH} | ({signal.SIGUSR2} if supervised else set())
    before = service.processes()
    for number in numbers:
        service.signal(number)
    assert service.ask().startswith(b"HTTP/1.1 200")
    assert service.processes() == before
    service.signal(signal.SIGTERM)
    assert service.process.wait(60) == 0


@ONE_AND_MORE
def test_a_hangup_reloads_by_a_successor(life: Lives, workers: int) -> None:
    service = life(workers=workers).ready()
    slow = service.slow()
    before = service.processes()
    service.signal(signal.SIGHUP)
    assert service.main() not in before
    assert answer(slow).startswith(b"HTTP/1.1 200")
    assert service.process.wait(60) == 0
    assert service.pid() not in before


def test_who_connects_after_a_reload_meets_the_new_code(life: Lives) -> None:
    service = life().ready()
    main = service.process.pid
    for _ in range(10):
        assert ask(main, 60)
        found = [service.pid() for _ in range(20)]
        main = service.main()
        assert found == [main] * 20


@ONE_AND_MORE
def test_a_hangup_where_nobody_listens_starts_afresh(life: Lives, workers: int) -> None:
    service = life(supervised=False, workers=workers)
    slow = service.slow()
    service.release("print('afresh', file=sys.stderr)")
    service.signal(signal.SIGHUP)
    assert answer(slow).startswith(b"HTTP/1.1 200")
    service.logged("afresh")
    assert service.ask().startswith(b"HTTP/1.1 200")
    assert service.process.poll() is None


@ONE_AND_MORE
def test_a_signal_that_comes_while_the_interpreter_starts_is_kept(
    life: Lives, workers: int
) -> None:
    service = life(supervised=False, workers=workers)
    service.pid()
    slowly = "import sys, time; print('early', file=sys.stderr, flush=True); time.sleep(1)"
    (service.directory / "sitecustomize.py").write_text(slowly)
    service.signal(signal.SIGHUP)
    service.logged("early")
    for number in (signal.SIGUSR1, signal.SIGHUP):  # nobody is there to take them
        service.signal(number)
    service.logged("early", 2)
    assert service.ask().startswith(b"HTTP/1.1 200")
    assert service.process.poll() is None


@ONE_AND_MORE
def test_who_asks_for_a_reload_where_nobody_listens_is_answered(life: Lives, workers: int) -> None:
    service = life(supervised=False, workers=workers)
    service.pid()
    reload = [sys.executable, "-m", "sdactivate", "reload", str(service.process.pid)]
    assert subprocess.run(reload, timeout=60).returncode == 0
    service.release("import no_such_thing")
    failed = subprocess.run(reload, timeout=60, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "the new code failed, and the old code still serves" in failed.stderr
    assert service.process.wait(60) == 1


def test_a_reload_signals_nothing_that_does_not_serve(capfd: pytest.CaptureFixture[str]) -> None:
    """The signals would end it; of PID 1, systemd, they are commands."""
    with subprocess.Popen(["sleep", "60"]) as other:
        assert main(["reload", str(other.pid)]) == 1
        assert f"process {other.pid} is not an `sdactivate serve` process" in capfd.readouterr().err
        assert other.poll() is None
        other.kill()
    for pid in ("0", "-1", "1" * 30):
        assert main(["reload", "--", pid]) == 2
        assert f"{pid}: not a process's PID or a site's name" in capfd.readouterr().err
    for name in ("", "a b", "a/b"):
        assert main(["reload", "--", name]) == 2
        assert f"NAME {name!r}" in capfd.readouterr().err
    assert main(["reload", "mysite", "--timeout", "5"]) == 2
    assert "--timeout is only for a PID" in capfd.readouterr().err
    assert main(["reload", str(2**22 + 1)]) == 1
    assert "there is no process" in capfd.readouterr().err
    for text in ("nan", "-1", "x"):
        assert main(["reload", "1", f"--timeout={text}"]) == 2
        assert f"--timeout {text!r} is not a time span" in capfd.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may signal what may not signal it")
def test_root_is_told_that_another_users_process_can_not_answer(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It reloaded, and was reported as gone."""
    awaits = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN}); "
        "signal.signal(signal.SIGHUP, print); print(flush=True); signal.pause()"
    )
    command = ["/usr/bin/python3", "-c", awaits]
    with subprocess.Popen(command, user=65534, stdout=subprocess.PIPE, cwd="/") as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        assert main(["reload", str(other.pid)]) == 1
        assert f"process {other.pid} belongs to another user" in capfd.readouterr().err
        assert other.poll() is None
        other.kill()


@ONE_AND_MORE
def test_a_stop_while_it_is_to_start_afresh_is_a_stop(life: Lives, workers: int) -> None:
    service = life(supervised=False, workers=workers)
    slow = service.slow()
    service.release("print('afresh', file=sys.stderr)")
    service.signal(signal.SIGHUP)
    service.logged("exiting")
    service.signal(signal.SIGTERM)
    assert answer(slow).startswith(b"HTTP/1.1 200")
    assert service.process.wait(60) == 0
    assert "afresh" not in service.log


@ONE_AND_MORE
@SUPERVISED
def test_an_abort_shows_the_stacks(life: Lives, supervised: bool, workers: int) -> None:
    service = life(supervised=supervised, workers=workers)
    service.pid()
    service.signal(signal.SIGABRT)
    assert service.process.wait(60) == -signal.SIGABRT
    service.logged("main_process.py.* in run")
    service.all_leave()  # workers see that their parent has died


@ONE_AND_MORE
@SUPERVISED
def test_quit_is_the_end(life: Lives, supervised: bool, workers: int) -> None:
    service = life(supervised=supervised, workers=workers)
    service.pid()
    service.signal(signal.SIGQUIT)
    assert service.process.wait(60) == -signal.SIGQUIT
    service.all_leave()


# Reloads, and what comes between


@ONE_AND_MORE
def test_a_stop_after_a_reload_waits_for_the_process_before(life: Lives, workers: int) -> None:
    # systemd kills all that is left of a service when its main process has ended
    service = life(workers=workers).ready()
    slow = service.slow()
    service.signal(signal.SIGHUP)
    main = service.main()
    watched = os.pidfd_open(main)
    service.logged("exiting: a successor serves")
    os.kill(main, signal.SIGTERM)
    assert select.select([watched], [], [], 60)[0]
    os.close(watched)
    assert service.process.poll() == 0  # not still at work
    assert answer(slow).startswith(b"HTTP/1.1 200")


@ONE_AND_MORE
def test_a_stop_that_reaches_the_process_before_cuts_nothing(life: Lives, workers: int) -> None:
    service = life(workers=workers).ready()
    slow = service.slow()
    service.signal(signal.SIGHUP)
    service.main()
    service.logged("exiting: a successor serves")
    service.signal(signal.SIGTERM)
    assert answer(slow).startswith(b"HTTP/1.1 200")


def test_a_successor_whose_predecessor_dies_leaves(life: Lives) -> None:
    service = life().ready()
    service.release("print('importing', file=sys.stderr); time.sleep(1)")
    service.signal(signal.SIGHUP)
    service.logged("importing")
    service.signal(signal.SIGKILL)
    service.all_leave()
    service.logged("the old process has aborted this reload, or died")


def test_a_successor_that_is_killed_changes_nothing(life: Lives) -> None:
    service = life().ready()
    before = service.pid()
    service.release("print('importing', file=sys.stderr); time.sleep(600)")
    service.signal(signal.SIGHUP)
    service.logged("importing")
    (successor,) = service.processes() - {before}
    os.kill(successor, signal.SIGKILL)
    service.logged("reload failed, the old code still serves")
    service.told_by(lambda line: "reload failed (1)" in line, "STATUS= of it")
    assert service.pid() == before
    service.told_by(
        lambda line: "reload failed (1)" in line and ", 2 served" in line, "it after a request"
    )


@ONE_AND_MORE
def test_many_reloads_at_once_and_a_stop(life: Lives, workers: int) -> None:
    service = life(workers=workers).ready()
    for _ in range(20):
        service.signal(signal.SIGHUP)
        time.sleep(0.02)
    service.main()
    assert service.process.wait(60) == 0
    (main,) = {int(line) for line in [*_parents(service.processes())]}
    os.kill(main, signal.SIGHUP)
    os.kill(main, signal.SIGHUP)
    os.kill(main, signal.SIGTERM)
    service.all_leave()


def _parents(pids: set[int]) -> set[int]:
    """Those that are nobody's children among them."""
    stat = {pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids}
    return {pid for pid in pids if int(stat[pid][1]) not in pids}


def test_a_hangup_for_a_successor_waits_until_it_is_the_main_process(life: Lives) -> None:
    service = life().ready()
    service.release("print('importing', file=sys.stderr); time.sleep(1)")
    service.signal(signal.SIGHUP)
    service.logged("importing")
    (successor,) = service.processes() - {service.process.pid}
    os.kill(successor, signal.SIGHUP)
    assert service.main() == successor
    assert service.main() != successor


# Replacing


@ONE_AND_MORE
def test_a_process_that_has_grown_is_replaced(life: Lives, workers: int) -> None:
    service = life(workers=workers, max_memory="48M").ready()
    first = service.processes()
    before = int(service.ask("/grow").rpartition(b"\r\n")[2])
    service.logged("max_memory")
    eventually(lambda: before not in service.processes(), "the end of the process that has grown")
    assert service.ask().startswith(b"HTTP/1.1 200")
    assert len(service.processes()) == len(first)


def test_workers_share_what_was_imported(life: Lives) -> None:
    # An application of a hundred MiB; the collector writes to each object that it looks at
    service = life("ballast = [[n] for n in range(1_000_000)]", workers=2)
    worker = int(service.ask("/collect").rpartition(b"\r\n")[2])
    rollup = Path(f"/proc/{worker}/smaps_rollup").read_text()
    own = next(line for line in rollup.splitlines() if line.startswith("Private_Dirty:"))
    assert int(own.split()[1]) < 30 << 10


def test_the_number_of_requests_varies() -> None:
    settings = resolve({"max_requests": 100, "max_requests_jitter": 50}, {}, {})
    limits = set()
    for _ in range(200):
        recycling = Recycling(settings)
        assert recycling.reason(Figures(requests=99)) is None
        assert recycling.reason(Figures(requests=150)) is not None
        limits.add(next(n for n in range(151) if recycling.reason(Figures(requests=n))))
    assert len(limits) > 10


def test_a_worker_that_hangs_where_no_python_runs_is_shown_and_replaced(life: Lives) -> None:
    service = life(workers=2, worker_timeout=1).ready()
    before = service.processes()
    spinning = service.send("/spin")
    service.logged("hangs; aborting it")
    service.logged(r"in application")
    with contextlib.suppress(ConnectionResetError):
        assert answer(spinning) == b""
    eventually(lambda: len(service.processes()) == 3, "two workers again")
    assert len(service.processes() - before) == 1
    assert service.ask().startswith(b"HTTP/1.1 200")


# What applications do


@ONE_AND_MORE
def test_an_application_that_takes_the_signals(life: Lives, workers: int) -> None:
    service = life(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})\n"
        "signal.set_wakeup_fd(-1)",
        workers=workers,
    ).ready()
    service.signal(signal.SIGHUP)
    main = service.main()
    assert service.process.wait(60) == 0
    os.kill(main, signal.SIGTERM)
    service.all_leave()


@ONE_AND_MORE
def test_an_application_whose_threads_do_not_end(life: Lives, workers: int) -> None:
    service = life(
        "threading.Thread(target=time.sleep, args=(600,), name='poller').start()",
        workers=workers,
        graceful_timeout=1,
        preload="no",
    ).ready()
    service.signal(signal.SIGTERM)
    service.logged("waiting for the application's threads to end: poller")
    service.all_leave()
    if workers == 1:  # otherwise it is the parent who does not wait
        service.logged("exited while the application was still running: poller")


def test_threads_that_workers_will_not_have_are_told_of(life: Lives) -> None:
    service = life(
        "threading.Thread(target=time.sleep, args=(600,), name='poller', daemon=True).start()",
        workers=2,
    )
    service.logged(r"started threads while it was imported \(poller\)")


def test_an_application_that_leaves_while_it_is_imported(life: Lives) -> None:
    service = life("sys.exit(0)")
    assert service.process.wait(60) == 1
    service.logged("importing life failed")


@ONE_AND_MORE
def test_who_can_not_start_answers_for_a_while_and_a_stop_ends_that(
    life: Lives, workers: int
) -> None:
    """Without a pause here, and with RestartSec=100ms, a crash loop would cost a processor."""
    service = life("import no_such_thing", workers=workers, preload="yes")
    service.told_by(lambda line: line.startswith("STATUS=failed to start: "), "the failure")
    time.sleep(0.5)  # more than the clients that waited already need
    assert service.ask().startswith(b"HTTP/1.1 503")
    service.signal(signal.SIGTERM)
    assert service.process.wait(60) == -signal.SIGTERM


@ONE_AND_MORE
def test_a_stop_while_the_application_is_imported(life: Lives, workers: int) -> None:
    service = life("print('importing', file=sys.stderr); time.sleep(600)", workers=workers)
    service.logged("importing")
    service.signal(signal.SIGTERM)
    assert service.process.wait(60) == -signal.SIGTERM


def test_a_worker_that_leaves_on_its_own_is_replaced(life: Lives) -> None:
    service = life(workers=2).ready()
    with contextlib.suppress(ConnectionResetError):
        assert service.ask("/exit") == b""
    service.logged("exited with code 0; starting another")
    eventually(lambda: len(service.processes()) == 3, "two workers again")
    assert service.ask().startswith(b"HTTP/1.1 200")


@ONE_AND_MORE
@pytest.mark.usefixtures("children_not_counted")
@pytest.mark.parametrize("path", ["/close", "/closerange"])
def test_an_application_that_closes_the_socket(life: Lives, workers: int, path: str) -> None:
    service = life(workers=workers).ready()
    with contextlib.suppress(ConnectionResetError):
        service.ask(path)
    if workers == 1:
        with service.send():
            assert service.process.wait(60) == 1  # and the supervisor starts it again
    else:
        assert service.ask().startswith(b"HTTP/1.1 200")
        service.logged("exited with code 1; starting another")
        eventually(lambda: len(service.processes()) == 3, "two workers again")


@ONE_AND_MORE
def test_a_child_of_the_application_that_keeps_everything_open(life: Lives, workers: int) -> None:
    service = life(workers=workers).ready()
    with service.send("/daemon") as peer:
        assert peer.recv(4096).startswith(b"HTTP/1.1 200")
    service.signal(signal.SIGHUP)
    main = service.main()
    assert service.process.wait(60) == 0
    watched = os.pidfd_open(main)
    for _ in range(10):
        assert service.ask().startswith(b"HTTP/1.1 200")
    os.kill(main, signal.SIGTERM)
    assert select.select([watched], [], [], 60)[0]
    os.close(watched)
