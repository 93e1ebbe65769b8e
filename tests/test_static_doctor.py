"""`doctor --static` imports no library, not even in another process; proved with libraries that betray their import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Module -> distribution, of libraries that doctor imports when it may.
LIBRARIES = {"torch": "torch", "transformers": "transformers", "flash_attn": "flash-attn", "xformers": "xformers"}


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    """A folder with packages that leave a file behind when they are imported."""
    folder = tmp_path / "site"
    for module, distribution in LIBRARIES.items():
        package = folder / module
        package.mkdir(parents=True)
        marker = f"import pathlib\n(pathlib.Path({str(tmp_path)!r}) / 'imported-{module}').touch()\n"
        (package / "__init__.py").write_text(marker)
        info = folder / f"{module}-9.9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.9\n")
    (folder / "torch" / "version.py").write_text("__version__ = '9.9'\ncuda = None\n")
    return folder


def run(traps: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """attncheck (or code that runs it) in a process that finds the traps before everything else."""
    return subprocess.run(
        [sys.executable, *(("-c", code) if code else ("-m", "attncheck")), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(traps), *filter(None, sys.path)])},
        check=False,
    )


def imported(traps: Path) -> set[str]:
    return {path.name.removeprefix("imported-") for path in traps.parent.glob("imported-*")}


def test_static_imports_no_library_anywhere(traps: Path) -> None:
    done = run(traps, "doctor", "--static", "--format", "json", "--fail-on", "never")
    assert done.returncode == 0, done.stderr
    assert imported(traps) == set()
    report = json.loads(done.stdout)
    versions = {library["name"]: library["version"] for library in report["environment"]["libraries"]}
    assert {versions[name] for name in LIBRARIES.values()} == {"9.9"}  # they were seen, not merely missed
    unrun = {check["code"]: check["reason"] for check in report["checks"] if check["status"] == "not_run"}
    assert "--static" in unrun["ATC801"]


def test_the_traps_work(traps: Path) -> None:
    """The counterpart: without --static the same folder is imported, in other processes."""
    run(traps, "doctor", "--check", "install-broken", "--fail-on", "never")
    assert {"torch", "transformers"} <= imported(traps)


@pytest.mark.parametrize("arguments", [("--static",), ("--check", "install-broken"), ("--list-checks",)])
def test_the_parent_imports_neither_torch_nor_transformers(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from attncheck.cli import app\n"
        f"app(['doctor', *{list(arguments)!r}, '--fail-on', 'never'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert done.returncode == 0, done.stderr
