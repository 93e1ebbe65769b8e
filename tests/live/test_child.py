"""A child process behind `attncheck run`: its streams, exit code and signals are as if it were started alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attncheck.errors import UsageError
from attncheck.live import child

#: Runs a command through `child`, and ends like it.
THROUGH = """
import os, sys
from attncheck.live import child
ended = child.wait(sys.argv[1:], os.environ)
child.end_like(ended if ended >= 0 else 128 - ended, -ended if ended < 0 else None)
"""
WAITING = """
import signal, sys, time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
"""


def start(*command: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", THROUGH, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def run(code: str, given: str = "") -> tuple[int, str, str]:
    process = start(sys.executable, "-c", code)
    out, err = process.communicate(given, timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_childs(code: int) -> None:
    assert run(f"raise SystemExit({code})")[0] == code


def test_streams_pass_through() -> None:
    code = "import sys; print(sys.stdin.read().upper()); print('aside', file=sys.stderr)"
    assert run(code, "hello") == (0, "HELLO\n", "aside\n")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGABRT", "SIGSEGV"])
def test_the_signal_that_ends_it_is_the_childs(name: str) -> None:
    number = getattr(signal, name)
    assert run(f"import os; os.kill(os.getpid(), {int(number)})")[0] == -number


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 7), ("SIGTERM", -signal.SIGTERM), ("SIGUSR1", -signal.SIGUSR1)])
def test_a_signal_sent_to_it_alone_is_passed_on(name: str, code: int) -> None:
    process = start(sys.executable, "-c", WAITING)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ("interrupted\n" if name == "SIGINT" else "")


def test_ctrl_c_in_a_terminal_reaches_the_child_once(tmp_path: Path) -> None:
    """The terminal sends it to both; the child counts how often it comes."""
    pty = pytest.importorskip("pty")
    counted = tmp_path / "counted"
    code = f"""
import signal, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
print("ready", flush=True)
end = time.time() + 30
while time.time() < end and not seen:
    time.sleep(0.05)
time.sleep(1)
open({str(counted)!r}, "w").write(str(len(seen)))
"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", THROUGH, sys.executable, "-c", code])
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 100)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert counted.read_text() == "1"


def test_open_files_are_inherited(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as log:
        os.set_inheritable(log.fileno(), True)
        code = f"import os; os.write({log.fileno()}, b'said')"
        process = start(sys.executable, "-c", code, close_fds=False)
        process.communicate(timeout=60)
    assert (tmp_path / "log").read_text() == "said"


def test_ignored_signals_stay_ignored() -> None:
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    process = start(sys.executable, "-c", code, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert process.communicate(timeout=60)[0] == "True\n"


def test_the_childs_signal_mask_is_not_that_of_the_waiting_parent() -> None:
    code = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    assert run(code)[1] == "0\n"


def test_a_command_that_cannot_be_run_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "plain"
    file.write_text("no program")
    with pytest.raises(UsageError, match="cannot be started"):
        child.wait([str(file)], os.environ)


def test_a_quick_child_is_not_waited_for_long() -> None:
    begun = time.monotonic()
    child.wait([sys.executable, "-c", "pass"], os.environ)
    assert time.monotonic() - begun < 30  # it would be for ever if its end were missed


LEFT_OVER = """
import os, signal, sys
from attncheck.live import child

usual = os.waitpid

def late(pid, options):
    found = usual(pid, options)
    if found[0]:
        os.kill(os.getpid(), signal.SIGINT)
    return found

os.waitpid = late
print(child.wait([sys.executable, "-c", "raise SystemExit(3)"], os.environ))
"""


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="this system cannot tell who sent a signal")
def test_a_signal_left_over_at_the_end_does_not_end_the_report() -> None:
    """The second of two Ctrl-C, say: the child is gone already. Tried in a process of its own."""
    command = [sys.executable, "-c", LEFT_OVER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
