"""Throw-away folders with an old transformers and what it needs beside the installed torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[2]

#: What transformers 4.47 to 4.55 pins below the versions a 5.x needs: they run beside torch 2.13 and a numpy of today.
#: requests and its dependencies come along because that huggingface_hub still speaks through them.
COMPANIONS_4_47 = (
    "tokenizers==0.21.4",
    "huggingface_hub==0.34.4",
    "hf_xet==1.8.0",
    "requests==2.32.5",
    "certifi",
    "charset_normalizer",
    "idna",
    "urllib3",
)


@dataclass(frozen=True)
class Release:
    """An old release and its companions, all installed without their dependencies."""

    transformers: str
    companions: tuple[str, ...]


RELEASES = {version: Release(version, COMPANIONS_4_47) for version in ("4.48.3", "4.55.4")}


def installed(release: Release, root: Path) -> tuple[Path, ...]:
    """The folders to put on PYTHONPATH, installed on first use and shared by test processes.

    Raises RuntimeError with pip's words when the install fails: a legacy test that is silently skipped proves nothing.
    """
    return (
        _folder(root, (f"transformers=={release.transformers}",)),
        _folder(root, release.companions),
    )


def _folder(root: Path, requirements: tuple[str, ...]) -> Path:
    key = hashlib.sha256(" ".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    final = root / f"{requirements[0].replace('==', '-')}-{key}"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(str(root / f"{key}.lock")):
        if not final.exists():
            partial = root / f"{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            command += ["--no-deps", "--no-compile", "--target", str(partial), *requirements]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            partial.rename(final)
    return final


def compare(*arguments: str, path: tuple[Path, ...] = ()) -> tuple[int, dict]:
    """`attncheck compare ...` with `path` first on PYTHONPATH, without a network: exit code and the JSON report."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (*path, REPOSITORY)))
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "attncheck", "compare", *arguments, "--device", "cpu", "--format", "json", "--offline"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=600,
    )
    assert done.stdout, f"no report, exit {done.returncode}:\n{done.stderr[-4000:]}"
    return done.returncode, json.loads(done.stdout)


def slugs(report: dict, implementation: str, scenario: str | None = None) -> set[tuple[str, str | None]]:
    """(slug, basis) of the findings about one implementation, of one scenario or of all."""
    return {
        (finding["slug"], finding["basis"])
        for finding in report["findings"]
        if finding["implementation"] == implementation and scenario in (None, finding["scenario"])
    }
