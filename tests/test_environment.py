"""What is installed, read without importing it: metadata, and torch/version.py as text."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from attncheck.environment import read_environment, read_library, torch_build


def distribution(folder: Path, name: str, version: str, module: str = "") -> None:
    """A package as pip leaves it in a folder: metadata and, if asked for, a module."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if module:
        (folder / module).mkdir()
        (folder / module / "__init__.py").write_text("raise RuntimeError('nobody may import this')")


def test_versions_are_those_of_the_running_environment() -> None:
    found = read_environment()
    for name in ("torch", "transformers"):
        assert found.version(name) == importlib.metadata.version(name)
    assert found.version("no-such-distribution") is None
    assert found.python == ".".join(map(str, sys.version_info[:3]))


def test_nothing_that_is_reported_on_is_imported() -> None:
    code = (
        "import sys; from attncheck.environment import LIBRARIES, read_environment; read_environment();"
        "print(sorted({m.split('.')[0] for m in LIBRARIES.values()} & set(sys.modules) - {'pynvml'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_library_first_on_the_path_is_the_one_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "flash-attn", "9.9.9", "flash_attn")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_library("flash-attn", "flash_attn").version == "9.9.9"


def test_code_that_does_not_belong_to_the_metadata_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path / "site", "transformers", "9.9.9")
    (tmp_path / "copy" / "transformers").mkdir(parents=True)
    (tmp_path / "copy" / "transformers" / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "copy")
    library = read_library("transformers", "transformers")
    assert f"the code comes from {tmp_path / 'copy' / 'transformers'}," in library.note
    assert (library.origin, library.copy) == (str(tmp_path / "copy" / "transformers"), False)
    (tmp_path / "copy" / "transformers" / "modeling_utils.py").write_text("")
    assert read_library("transformers", "transformers").copy


@pytest.mark.parametrize("name", ["torch", "transformers", "xformers", "kernels"])
def test_a_file_called_like_an_installed_library_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path / "site", name, "9.9.9", name)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert read_library(name, name).origin == ""
    (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    library = read_library(name, name)
    assert (library.version, library.origin, library.copy) == ("9.9.9", str(tmp_path / f"{name}.py"), False)


def test_a_module_without_metadata_is_absent_but_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    library = read_library("flash-attn", "flash_attn")
    assert library.version is None
    assert "no package metadata" in library.note
    assert library.origin == str(tmp_path / "flash_attn")


@pytest.mark.parametrize("damage", ["directory", "no text", "link to itself", "no version", "absent"])
def test_damaged_metadata_is_an_unknown_version(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "xformers-0.0.35.dist-info"
    info.mkdir()
    metadata = info / "METADATA"
    if damage == "directory":
        metadata.mkdir()
    elif damage == "link to itself":
        metadata.symlink_to(metadata)
    elif damage != "absent":
        metadata.write_bytes(b"\xff\xfe\x00" if damage == "no text" else b"Name: xformers\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_library("xformers", "xformers").version == "unknown"


def test_leftover_metadata_of_another_version_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "xformers", "0.0.1")
    distribution(tmp_path, "xformers", "0.0.2")
    monkeypatch.syspath_prepend(tmp_path)
    assert "2 versions lies there: 0.0.1, 0.0.2" in read_library("xformers", "xformers").note


@pytest.mark.parametrize(
    ("text", "cuda", "words"),
    [
        ("__version__ = '2.9'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n", "", "built for CPU only"),
        ("cuda: Optional[str] = '13.0'\n", "13.0", "built for CUDA 13.0"),
        ("cuda = '12.4'\n", "12.4", "built for CUDA 12.4"),
        ("cuda = None\nhip = '6.2'\n", "", "built for ROCm 6.2"),
    ],
)
def test_the_torch_build_is_read_as_text(
    text: str, cuda: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "torch", "9.9.9", "torch")
    (tmp_path / "torch" / "version.py").write_text("raise_if_run = 1 / 0\n" + text)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    build = torch_build()
    assert build is not None
    assert build["cuda"] == cuda
    assert read_library("torch", "torch", build).note == words


def test_a_torch_whose_version_file_is_broken_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "torch", "9.9.9", "torch")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch_build() is None
    (tmp_path / "torch" / "version.py").write_text("cuda = (")
    assert torch_build() is None


def test_only_variables_that_act_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVTE_FLASH_ATTN", "0")
    monkeypatch.setenv("USE_FLASH_ATTENTION", "1")
    variables = read_environment().variables
    assert variables["NVTE_FLASH_ATTN"] == "0"
    assert "USE_FLASH_ATTENTION" not in variables
