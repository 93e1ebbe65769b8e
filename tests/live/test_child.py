"""A child process behind `attncheck run`: its streams, exit code and signals are as if it were started alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


#: Starts the witness late, as a busy machine may: Ctrl-C comes while the child is there and the witness is not.
LATE = """
import time
from attncheck.live import witness
started = witness.started
witness.started = lambda *told: (time.sleep(1), started(*told))[1]
"""


@pytest.mark.parametrize("through", [THROUGH, LATE + THROUGH], ids=["", "before there is a witness"])
def test_ctrl_c_in_a_terminal_reaches_the_child_once(tmp_path: Path, through: str) -> None:
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
time.sleep(3)
open({str(counted)!r}, "w").write(str(len(seen)))
"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", through, sys.executable, "-c", code])
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 100)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert counted.read_text() == "1"


COUNTING = """
import os, signal, sys, time
seen = []
for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
    signal.signal(getattr(signal, name), lambda number, _: seen.append(number))
if "leave" in sys.argv:
    os.setpgid(0, 0)
print("ready", flush=True)
end = time.time() + 30
while time.time() < end and not seen:
    time.sleep(0.02)
time.sleep(0.7)
print(*seen)
"""


def _session(process: subprocess.Popen[str]) -> list[int]:
    """Numbers of the process, its child and the witness."""
    listed = subprocess.run(["ps", "-o", "pid=", "-g", str(process.pid)], capture_output=True, text=True, check=True)
    return sorted(map(int, listed.stdout.split()))


def _to_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGTERM)


def _to_all_one_by_one(process: subprocess.Popen[str]) -> None:
    """As a control group is told: each of its processes by its number, here the slow way."""
    for number in _session(process):
        os.kill(number, signal.SIGTERM)
        time.sleep(0.01)


def _to_it_then_to_group(process: subprocess.Popen[str]) -> None:
    """As `timeout` does."""
    os.kill(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)


def _two_kinds_to_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGUSR1)


def _to_it_alone(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGTERM)


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="this system cannot tell who sent a signal")
@pytest.mark.parametrize(
    ("send", "more", "got"),
    [
        (_to_group, (), {signal.SIGTERM}),
        (_to_all_one_by_one, (), {signal.SIGTERM}),
        (_to_it_then_to_group, (), {signal.SIGTERM}),
        (_two_kinds_to_group, (), {signal.SIGTERM, signal.SIGUSR1}),
        (_to_it_alone, (), {signal.SIGTERM}),
        (_to_group, ("leave",), {signal.SIGTERM}),  # it has left the group: what was sent there is passed on
    ],
)
def test_a_signal_reaches_the_child_once(
    send: Callable[[subprocess.Popen[str]], None], more: tuple[str, ...], got: set[int]
) -> None:
    process = start(sys.executable, "-c", COUNTING, *more, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while len(_session(process)) < 3:
        time.sleep(0.02)
    time.sleep(0.3)
    send(process)
    seen = [int(word) for word in process.communicate(timeout=60)[0].split()]
    assert (len(seen), set(seen)) == (len(got), got)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no handles of processes")
def test_killing_it_kills_the_child_and_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    through = THROUGH.replace("os.environ)", f"os.environ, {str(folder)!r})")
    command = [
        sys.executable,
        "-c",
        through,
        sys.executable,
        "-c",
        "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    number = int(process.stdout.readline())
    time.sleep(0.3)
    process.kill()
    process.stdout.read()  # until nobody holds it: the child has ended
    process.wait()
    end = time.monotonic() + 30
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not folder.exists()
    state = Path(f"/proc/{number}/stat")
    assert not state.exists() or ") Z " in state.read_text()


SIBLINGS = """
import os, pathlib, sys, time
time.sleep(0.5)
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        words = (process / "cmdline").read_text()
    except OSError:
        continue
    if parent == os.getppid() and int(process.name) != os.getpid():
        print(ascii(words))
"""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="this system does not list processes in /proc")
def test_the_witness_is_found_by_the_childs_name_and_not_by_attnchecks() -> None:
    """`pkill -f train.py` names all three and `pkill -f "attncheck run"` one: the child gets the signal once."""
    process = start(sys.executable, "-c", SIBLINGS, "train.py")
    (words,) = process.communicate(timeout=60)[0].splitlines()
    assert "train.py" in words
    assert "attncheck" not in words.replace(sys.executable, "").replace(ascii(SIBLINGS)[1:-1], "")


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
