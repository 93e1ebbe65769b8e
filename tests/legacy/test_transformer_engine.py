"""The real `get_attention_backend` of old and new TransformerEngine releases, against attncheck's rows."""

from __future__ import annotations

import logging
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.te_selection import compare

pytestmark = [pytest.mark.legacy, pytest.mark.slow]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Each selection warns of what it drops."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def sources(version: str, folder: Path) -> Path:
    """The Python sources of a release, out of its core wheel (120 to 300 MB, deleted again)."""
    wheels = folder / "wheels"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(wheels),
    ]
    target = ["--python-version", "3.12", "--platform", "manylinux_2_28_x86_64"]
    subprocess.run([*command, *target, f"transformer-engine-cu12=={version}"], check=True, timeout=900)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("transformer_engine/pytorch/attention") and name.endswith(".py"):
                archive.extract(name, folder / version)
    wheel.unlink()
    return folder / version


@pytest.mark.parametrize("version", ["1.9.0", "1.11.0", "1.12.0", "2.1.0", "2.11.0"])
def test_the_same_backend_is_selected(version: str, tmp_path: Path) -> None:
    compared, wrong, counts = compare(sources(version, tmp_path))
    assert compared > 1000
    assert wrong == []
    assert len(counts) > 3
