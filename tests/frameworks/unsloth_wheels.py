"""Sources of released Unsloth wheels: fetched and unpacked on first use, never imported."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from functools import lru_cache
from pathlib import Path

from filelock import FileLock


class Source:
    """The Python sources of one release."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version = version
        self.folder = folder

    def text(self, name: str) -> str:
        """A file of the package, "" where this release has none of that name."""
        path = self.folder / "unsloth" / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def function(self, name: str, function: str) -> str:
        """The source of a top-level function, "" where there is none."""
        found = re.search(rf"^def {function}\(.*?(?=^def |^class |\Z)", self.text(name), re.S | re.M)
        return found[0] if found else ""

    def anywhere(self, word: str) -> bool:
        """True where some file reads the word from the environment or names it in code."""
        return any(
            re.search(rf"""["']{word}["']""", path.read_text(encoding="utf-8"))
            for path in sorted((self.folder / "unsloth").rglob("*.py"))
        )

    @property
    def requires(self) -> str:
        """What its metadata asks of transformers."""
        (path,) = self.folder.glob("*.dist-info/METADATA")
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "extra ==" not in line]
        return next((line for line in lines if re.match(r"Requires-Dist: transformers\b", line)), "")


@lru_cache(maxsize=8)
def source(version: str, root: Path) -> Source:
    """The sources of a release, kept below `root`. Raises RuntimeError with pip's words where it cannot be fetched."""
    final = root / f"unsloth-source-{version}"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(str(root / f"unsloth-source-{version}.lock")):
        if not final.exists():
            wheels = root / f"unsloth-wheel-{version}"
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            # They are read and never run: a Python that they were not made for does as well.
            command += ["--only-binary=:all:", "--ignore-requires-python"]
            command += ["--dest", str(wheels), f"unsloth=={version}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            (wheel,) = wheels.glob("*.whl")
            partial = root / f"unsloth-source-{version}.partial"
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if (name.startswith("unsloth/") and name.endswith(".py")) or name.endswith("/METADATA"):
                        archive.extract(name, partial)
            wheel.unlink()
            wheels.rmdir()
            partial.rename(final)
    return Source(version, final)
