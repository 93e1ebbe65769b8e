"""One worker process as the parent sees it: start it, send requests, receive answers, and notice its end."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from typing import IO

from attncheck.probe.protocol import PREAMBLE, Answer, Done, Failed, Ready, Request

#: Importing torch and transformers from a cold disk takes tens of seconds; silence for this long is a hang.
START_LIMIT = 300.0
#: Seconds in which a process that is asked to end must be gone; then it is killed.
GRACE = 5.0
_STDERR_LINES = 40
_STDERR_WIDTH = 4096
#: Imports nothing but the built-in `sys` before the path is set: a `json.py` in the current folder must not get in.
_BOOTSTRAP = "import sys; sys.path[:] = sys.argv[1:]; from attncheck.probe.worker import main; main()"


class WorkerDied(Exception):
    """The worker exited or had to be killed. kind: "signal", "exit" or "timeout"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Worker:
    """One child process that serves requests. Not thread-safe; `close` ends it and waits for it.

    ready: True once its imports are done. closed: True once it was ended. stderr: the last lines written there.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.ready = False
        self.closed = False
        self.stderr: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        self._answers: queue.Queue[Answer | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._write, args=(self._process.stdin,), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def memory(self) -> int:
        """Bytes of memory that the child holds by itself; 0 once it ended, and where the system does not say."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                resident, shared = (int(field) for field in file.read().split()[1:3])
        except (OSError, ValueError):
            return 0
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """End the child at once, from any thread; whoever waits for its answers gets WorkerDied."""
        self._process.kill()

    def wait(self, seconds: float) -> bool:
        """True once its imports are done; False when it ends before, or they take longer. It goes on in either case.

        Only for a worker that was not asked anything yet.
        """
        if not self.ready and not self.closed:
            try:
                answer = self._answers.get(timeout=seconds)
            except queue.Empty:
                return False
            self.ready = isinstance(answer, Ready)
            if not self.ready:
                self._answers.put(answer)  # its end: whoever asks next shall hear of it
        return self.ready

    def ask(self, request: Request, limit: float) -> Generator[Answer, None, None]:
        """Send a request and yield its answers up to, not including, `Done`; `Failed` is yielded and is the last.

        limit: seconds of silence allowed before each answer, once the worker is ready (START_LIMIT before). Raises
        WorkerDied. A worker is ended when it says that it is spent, and when its answers are not read to the end: the
        rest would answer the next request.
        """
        self._requests.put(pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL))
        finished = False
        try:
            while not finished:
                answer = self._next(limit)
                finished = isinstance(answer, Done) or (isinstance(answer, Failed) and not answer.spent)
                if not isinstance(answer, Done):
                    yield answer
                if isinstance(answer, Failed):
                    return
        finally:
            if not finished:
                self.close(kill=True)

    def close(self, kill: bool = False) -> None:
        """End the process and wait for it: at once with `kill`, else after GRACE seconds at the latest."""
        self.closed = True
        self._requests.put(None)  # closes its standard input, which ends it
        if kill:
            self._process.kill()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # nobody can end what hangs inside a driver
                self._process.wait(GRACE)
        for thread in self._threads:
            thread.join(timeout=1)  # a process of its own that it left behind may hold the pipes open

    def _next(self, limit: float) -> Answer:
        while True:
            patience = limit if self.ready else max(limit, START_LIMIT)
            try:
                answer = self._answers.get(timeout=patience)
            except queue.Empty:
                self.close(kill=True)
                raise WorkerDied("timeout", f"no answer within {patience:g} s") from None
            if answer is None:
                raise self._death()
            if not isinstance(answer, Ready):
                return answer
            self.ready = True

    def _death(self) -> WorkerDied:
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.close(kill=True)
            return WorkerDied("exit", "the process broke its connection to attncheck")
        self.close()
        if code < 0:
            return WorkerDied("signal", f"the process died of {signal_name(-code)}{self._last_words(-code)}")
        last = next((line for line in reversed(self.stderr) if line.strip()), "")
        return WorkerDied("exit", f"the process ended with status {code}" + (f": {last}" if last else ""))

    def _last_words(self, number: int) -> str:
        """What is known of the reason of a death by signal."""
        if number == signal.SIGKILL:
            return " (often: out of memory)"
        lines = list(self.stderr)
        fatal = next((index for index, line in enumerate(lines) if line.startswith("Fatal Python error")), 0)
        said = lines[fatal - 1].strip() if number == signal.SIGABRT and fatal else ""
        return f": {said}" if said else ""

    def _write(self, stream: IO[bytes]) -> None:
        """A thread of its own: a worker that does not read must not stop the parent."""
        with contextlib.suppress(OSError), stream:
            while (data := self._requests.get()) is not None:
                stream.write(data)
                stream.flush()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            before = b""
            while not before.endswith(PREAMBLE) and (byte := stream.read(1)):
                before = before[1 - len(PREAMBLE) :] + byte
            while True:
                try:
                    answer = pickle.load(stream)
                except Exception:  # the end of the pipe, or bytes that are no answer: nothing after them can be read
                    answer = None
                self._answers.put(answer)
                if answer is None:
                    return

    def _drain(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_STDERR_WIDTH):
                self.stderr.append(line.decode(errors="replace").rstrip())


def signal_name(number: int) -> str:
    """`SIGSEGV` for 11; real-time signals have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
