"""Throw-away folders with a pinned old release and its companions, put in front of what is installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]
#: Names the folder that keeps installed releases between runs; without it each run installs what it needs anew.
CACHE_VARIABLE = "ATTNCHECK_LEGACY_CACHE"


@dataclass(frozen=True)
class Companions:
    """What runs beside transformers from version `since` on (up to the next row).

    pins: installed as written. alone: without their dependencies, which are named here or come with the environment.
    """

    since: str
    pins: tuple[str, ...]
    alone: bool = True


#: huggingface_hub before 1.0 speaks through requests, and so do the candidates of 5.0; today's brings none along.
_REQUESTS = ("requests==2.32.5", "certifi", "charset_normalizer", "idna", "urllib3")
#: numpy 1.26 has no wheels for Python 3.13; the releases beside it also run with a numpy of today.
_NUMPY_1 = 'numpy==1.26.4; python_version < "3.13"'

#: Each row was used as written beside torch 2.13.0; the newest row needs nothing but what attncheck itself installs.
COMPANIONS = (
    Companions("4.36", ("tokenizers==0.15.2", "huggingface_hub==0.25.2", _NUMPY_1, "accelerate==0.34.2", *_REQUESTS)),
    Companions("4.40", ("tokenizers==0.19.1", "huggingface_hub==0.25.2", _NUMPY_1, "accelerate==0.34.2", *_REQUESTS)),
    Companions("4.45", ("tokenizers==0.20.3", "huggingface_hub==0.30.2", _NUMPY_1, "accelerate==1.6.0", *_REQUESTS)),
    Companions(
        "4.47",
        (
            "tokenizers==0.21.4",
            "huggingface_hub==0.34.4",
            "hf_xet==1.8.0",
            _NUMPY_1,
            "accelerate==1.6.0",
            *_REQUESTS,
        ),
    ),
    Companions(
        "4.56",
        (
            "tokenizers==0.22.1",
            "huggingface_hub==0.35.3",
            "hf_xet==1.8.0",
            "numpy==2.3.5",
            "accelerate==1.10.1",
            *_REQUESTS,
        ),
    ),
    Companions("5.0.0rc0", ("huggingface_hub==1.33.0", "tokenizers==0.22.2", "numpy==2.4.6", *_REQUESTS), alone=False),
    Companions("5.0", ("tokenizers==0.22.2", "huggingface_hub==1.33.0", "numpy==2.4.6"), alone=False),
    Companions("5.16", ("tokenizers==0.23.3", "huggingface_hub==1.33.0", "numpy==2.4.6"), alone=False),
    Companions("5.18", ("tokenizers==0.23.3", "huggingface_hub==2.4.0", "numpy==2.4.6"), alone=False),
)


def companions(version: str) -> Companions:
    """The row for a transformers version. Raises ValueError for one older than the table."""
    fitting = [row for row in COMPANIONS if Version(version) >= Version(row.since)]
    if not fitting:
        raise ValueError(f"transformers {version}: the oldest release with known companions is {COMPANIONS[0].since}")
    return fitting[-1]


def transformers_release(version: str, root: Path) -> tuple[Path, ...]:
    """The folders to put on PYTHONPATH for a transformers version, installed below `root` on first use.

    Processes may share `root`. Raises RuntimeError with pip's words when the install fails: a legacy test that is
    quietly skipped proves nothing.
    """
    row = companions(version)
    return _folder(root, (f"transformers=={version}",), True), _folder(root, row.pins, row.alone)


def torch_release(version: str, root: Path) -> tuple[Path, ...]:
    """The same for an old torch with what it depends on: gigabytes where only builds for CUDA are offered."""
    return (_folder(root, (f"torch=={version}", _NUMPY_1), False),)


@contextmanager
def cache(folder: Path | None = None) -> Iterator[Path]:
    """Where releases are installed: the folder given or named by the variable, else one that ends with the block."""
    named = os.environ.get(CACHE_VARIABLE)
    if folder is not None or named:
        yield folder or Path(str(named))
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="attncheck-legacy-") as passing:
        yield Path(passing)


def _folder(root: Path, requirements: tuple[str, ...], alone: bool) -> Path:
    key = hashlib.sha256(" ".join((sys.version, str(alone), *requirements)).encode()).hexdigest()[:12]
    final = root / f"{requirements[0].replace('==', '-')}-{key}"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(str(root / f"{key}.lock")):
        if not final.exists():
            partial = root / f"{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
            command += [*(["--no-deps"] if alone else []), "--target", str(partial), *requirements]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            partial.rename(final)
    return final


def variables(path: tuple[Path, ...], root: Path | None = None) -> Mapping[str, str]:
    """The environment of a process with `path` first, then this repository; without a network for libraries.

    root: keeps compiled bytecode there, so that neither the repository nor a shared folder is written to.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
    environment |= {
        "PYTHONPATH": os.pathsep.join(map(str, (*path, REPOSITORY))),
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if root is None:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    else:
        environment["PYTHONPYCACHEPREFIX"] = str(root / "bytecode")
    return environment
