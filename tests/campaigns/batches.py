"""Works through many model types in child processes, one batch a child; a dead or hanging child costs one type only."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def sweep(command: Sequence[str], names: Sequence[str], batch: int, limit: float) -> Iterator[dict[str, Any]]:
    """The rows of all types, one JSON line each, as the children append them to the file named by `--child FILE`.

    A child announces each type by a row with `started`. limit: seconds without a new row after which a child is
    killed; the type it was at gets a row with `lost`, saying why.
    """
    waiting = list(names)
    while waiting:
        now = waiting[:batch]
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "rows"
            result.touch()
            process = subprocess.Popen([*command, "--child", str(result), *now])
            size, seen, slow = -1, time.monotonic(), False
            while process.poll() is None:
                time.sleep(0.2)
                if result.stat().st_size != size:
                    size, seen = result.stat().st_size, time.monotonic()
                elif time.monotonic() - seen > limit:
                    process.kill()
                    process.wait()
                    slow = True
            lines = [json.loads(line) for line in result.read_text().splitlines() if line.endswith("}")]
        done = [line for line in lines if "started" not in line]
        yield from done
        finished = {str(row["type"]) for row in done}
        lost = next((name for name in now if name not in finished), None)
        if lost is not None:
            why = f"longer than {limit:.0f} s" if slow else f"the process died with status {process.returncode}"
            yield {"type": lost, "lost": why, "reasons": [why]}
            finished.add(lost)
        waiting = [name for name in waiting if name not in finished]


def appender(result: Path) -> Callable[[Mapping[str, Any]], None]:
    """How a child announces a type and gives its row: one JSON line, on disk when the call returns."""

    def emit(row: Mapping[str, Any]) -> None:
        with result.open("a") as sink:
            sink.write(json.dumps(row) + "\n")

    return emit
