"""What is put into a script's processes: it runs first, hides and breaks nothing, and costs nothing without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import attncheck
from attncheck.live import records
from attncheck.watching import hooks

INJECTED = Path(attncheck.__file__).parent / "watching" / "inject"


def run(code: str, spool: Path, *path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python as `attncheck run` does."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ATTNCHECK")}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, (INJECTED, *path))), "ATTNCHECK_WATCH": str(spool)}
    return subprocess.run(
        [sys.executable, "-c", code], env={**environment, **variables}, capture_output=True, text=True, check=False
    )


def test_the_users_own_sitecustomize_runs(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import sys\nsys.mine = __file__\n")
    done = run("import sys, sitecustomize; print(sys.mine, sitecustomize.__file__)", tmp_path, own)
    assert done.stderr == ""
    assert done.stdout.split() == [str(own / "sitecustomize.py")] * 2


def test_an_error_in_the_users_own_sitecustomize_is_shown_as_ever(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise ValueError('mine')\n")
    watched = run("print(1)", tmp_path, tmp_path)
    plain = subprocess.run(
        [sys.executable, "-c", "print(1)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ValueError: mine" in plain.stderr
    assert (watched.returncode, watched.stdout) == (plain.returncode, plain.stdout)
    assert watched.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


def test_the_path_is_the_scripts_own(tmp_path: Path) -> None:
    code = "import json, sys; print(json.dumps(sys.path))"
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    plain = subprocess.run([sys.executable, "-c", code], env=alone, capture_output=True, text=True, check=True)
    watched = run(code, tmp_path)
    assert str(INJECTED) not in json.loads(watched.stdout)
    assert {*json.loads(plain.stdout)} == {*json.loads(watched.stdout)}


def test_without_torch_nothing_is_loaded_and_nothing_written(tmp_path: Path) -> None:
    done = run("import sys, json, decimal; print(sorted(m for m in sys.modules if 'attncheck' in m))", tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_watch_that_cannot_start_does_not_stop_the_script(tmp_path: Path) -> None:
    fake = tmp_path / "torch"
    fake.mkdir()
    (fake / "__init__.py").write_text("VALUE = 5\n")  # no torch that the watch could use
    spool = tmp_path / "spool"
    spool.mkdir()
    done = run("import torch; print(torch.VALUE)", spool, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")
    (process,) = records.read(str(spool))
    assert "could not be attached" in process.failures[0]


def test_no_folder_for_the_records_is_the_watchs_own_matter(tmp_path: Path) -> None:
    code = "import torch; torch.nn.functional.scaled_dot_product_attention(*[torch.ones(1, 1, 2, 4)] * 3); print(1)"
    done = run(code, tmp_path / "gone")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_forks_write_files_of_their_own(tmp_path: Path) -> None:
    code = """
import os, torch
def attend():
    torch.nn.functional.scaled_dot_product_attention(*[torch.ones(1, 1, 2, 4)] * 3)
attend()
if os.fork() == 0:
    attend()
    os._exit(0)
os.wait()
"""
    done = run(code, tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert sorted(len(process.calls) for process in records.read(str(tmp_path))) == [1, 1]


def test_a_record_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    code = "import torch; torch.nn.functional.scaled_dot_product_attention(*[torch.ones(1, 1, 2, 4)] * 3)"
    run(code, tmp_path)
    (path,) = tmp_path.glob("*.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], '{"call": {"api": 7}}', '{"call": []}', "[1]", lines[-1][:20]]))
    (process,) = records.read(str(tmp_path))
    assert len(process.calls) == 1
    assert not process.ended
    assert all("could not be read back" in text for text in process.failures)
    assert len(process.failures) == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch", True),
        ("torch.nn", False),
        ("xformers.ops.fmha", True),
        ("transformers.models.llama.modeling_llama", True),
        ("transformers_modules.a.b.modeling_own", True),
        ("transformers.models.llama.configuration_llama", False),
        ("my.modeling_llama", False),
    ],
)
def test_only_modules_with_attention_are_watched(name: str, expected: bool) -> None:
    assert hooks.is_watched(name) is expected
