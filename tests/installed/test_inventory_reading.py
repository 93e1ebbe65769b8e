"""The inventory out of hand-made folders: owners of files, copies, builds, requirements, files that are gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attncheck.environment import Environment, Library
from attncheck.installed.inventory import Build, Inventory
from attncheck.installed.reading import read_inventory
from tests import builders
from tests.fake_installs import CUBIN, distribution, elf, fat_binary

OLD = {"flash_attn/__init__.py": "", "flash_attn/cute/__init__.py": "old = 1\n", "flash_attn/cute/mask.py": "x = 1\n"}
NEW = {"flash_attn/cute/__init__.py": "new = True\n", "flash_attn/cute/mask.py": "y = 2\n"}


def environment(*names: str) -> Environment:
    return replace(builders.ENVIRONMENT, libraries=tuple(Library(name, "0") for name in names))


def read(*folders: Path, names: tuple[str, ...] = ("flash-attn", "flash-attn-4", "xformers", "torch")) -> Inventory:
    return read_inventory(environment(*names), [str(folder) for folder in folders])


def test_the_later_of_two_owners_lies_on_disk(tmp_path: Path) -> None:
    distribution(tmp_path, "flash-attn-4", "4.0.0", NEW)
    distribution(tmp_path, "flash-attn", "2.8.3", OLD)
    (found,) = read(tmp_path).clobbered
    assert dict(found.owners) == {"flash-attn": "2.8.3", "flash-attn-4": "4.0.0"}
    assert (found.files, found.intact, found.example) == (2, "flash-attn", "flash_attn/cute/__init__.py")
    distribution(tmp_path, "flash-attn-4", "4.0.0", NEW)
    assert read(tmp_path).clobbered[0].intact == "flash-attn-4"


def test_half_overwritten_files_belong_to_neither(tmp_path: Path) -> None:
    distribution(tmp_path, "flash-attn-4", "4.0.0", NEW)
    distribution(tmp_path, "flash-attn", "2.8.3", OLD)
    (tmp_path / "flash_attn/cute/mask.py").write_text(NEW["flash_attn/cute/mask.py"])
    (found,) = read(tmp_path).clobbered
    assert (found.intact, sorted(found.matches)) == ("", [1, 1])
    for name in OLD:
        (tmp_path / name).write_text("edited by hand")
    assert read(tmp_path).clobbered[0].matches == (0, 0)


def test_a_package_nobody_looks_for_is_compared_too(tmp_path: Path) -> None:
    distribution(tmp_path, "flash-attn", "2.8.3", OLD)
    distribution(tmp_path, "fake-flash-attention", "0.1", {"flash_attn/__init__.py": "pretend = True\n"})
    found = read(tmp_path)
    assert [sorted(dict(entry.owners)) for entry in found.clobbered] == [["fake-flash-attention", "flash-attn"]]
    assert found.packages["flash_attn"] == ("fake-flash-attention", "flash-attn")


def test_the_same_file_in_two_wheels_is_no_conflict(tmp_path: Path) -> None:
    same = {"transformer_engine/__init__.py": "shared = 1\n"}
    distribution(tmp_path, "transformer-engine", "2.0", same)
    distribution(tmp_path, "transformer-engine-cu13", "2.0", {**same, "transformer_engine/lib.py": ""})
    assert read(tmp_path, names=("transformer-engine",)).clobbered == ()


def test_other_packages_may_share_what_attention_does_not_come_from(tmp_path: Path) -> None:
    distribution(tmp_path, "flash-attn", "2.8.3", {**OLD, "tests/test_it.py": "1"})
    distribution(tmp_path, "one", "1", {"tests/test_it.py": "2", "one/a.py": "1"})
    distribution(tmp_path, "two", "1", {"one/a.py": "22"})
    assert read(tmp_path).clobbered == ()


def test_which_of_several_copies_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    distribution(first, "xformers", "0.0.30")
    distribution(second, "xformers", "0.0.35")
    (found,) = read(first, second, first).copies
    assert found.places == ((str(first), "0.0.30"), (str(second), "0.0.35"))
    assert read(first).copies == ()


def test_metadata_left_behind_counts_as_a_copy(tmp_path: Path) -> None:
    distribution(tmp_path, "xformers", "0.0.30")
    distribution(tmp_path, "xformers", "0.0.35")
    assert [version for _, version in read(tmp_path).copies[0].places] == ["0.0.30", "0.0.35"]
    (tmp_path / "~formers-0.0.1.dist-info").mkdir()
    assert len(read(tmp_path).copies[0].places) == 2


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.8.3+cu12torch2.5cxx11abifalse", Build(torch="2.5", cuda="12", cxx11abi="FALSE", python="cp312")),
        ("2.8.3+cu128torch2.7", Build(torch="2.7", cuda="12.8", python="cp312")),
        ("2.8.3", Build(python="cp312")),
    ],
)
def test_tags_of_the_version(tmp_path: Path, version: str, expected: Build) -> None:
    distribution(tmp_path, "flash-attn", version, tag="cp312-cp312-linux_x86_64")
    assert replace(read(tmp_path).builds["flash-attn"], source="") == expected


def test_tags_that_only_the_wheel_had(tmp_path: Path) -> None:
    info = distribution(tmp_path, "flash-attn", "2.8.3")
    url = "https://host/v2.8.3/flash_attn-2.8.3%2Bcu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    (info / "direct_url.json").write_text(f'{{"url": "{url}"}}')
    build = read(tmp_path).builds["flash-attn"]
    assert (build.torch, build.cuda, build.cxx11abi) == ("2.8", "12", "TRUE")
    (info / "direct_url.json").write_text("[not json")
    assert read(tmp_path).builds["flash-attn"].torch == ""


def test_what_xformers_says_of_its_build(tmp_path: Path) -> None:
    text = '{"version": {"cuda": 1208, "torch": "2.10.0+cu128", "python": "3.10.19"}}'
    distribution(tmp_path, "xformers", "0.0.35", {"xformers/cpp_lib.json": text})
    build = read(tmp_path).builds["xformers"]
    assert (build.torch, build.cuda) == ("2.10.0+cu128", "12.8")
    (tmp_path / "xformers/cpp_lib.json").write_text("null")
    assert read(tmp_path).builds["xformers"].torch == ""


def test_binaries_tell_what_tags_do_not(tmp_path: Path) -> None:
    name = "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so"
    content = elf({".nv_fatbin": fat_binary((CUBIN, 90, 0x11))}, ("libc10.so", "libcudart.so.13"))
    (tmp_path / name).write_bytes(content)
    distribution(tmp_path, "flash-attn", "2.8.3", recorded=(name,))
    build = read(tmp_path).builds["flash-attn"]
    assert (build.cuda, build.python, build.architectures) == ("13", "cp312", ("9.0",))
    assert build.needed == ("libc10.so", "libcudart.so.13")


def test_requirements_that_are_not_met(tmp_path: Path) -> None:
    requires = (
        "einops",
        "nvidia-cutlass-dsl>=4.6",
        'win32api; sys_platform == "win32"',
        'pytest; extra == "dev"',
        "<bad",
    )
    distribution(tmp_path, "flash-attn-4", "4.0", requires=requires)
    distribution(tmp_path, "nvidia-cutlass-dsl", "4.5", requires=("nvidia-cutlass-dsl-libs-core==4.5",))
    found = [(entry.name, entry.requirement, entry.found) for entry in read(tmp_path).unmet]
    assert found == [
        ("flash-attn-4", "einops", ""),
        ("flash-attn-4", "nvidia-cutlass-dsl>=4.6", "4.5"),
        ("nvidia-cutlass-dsl", "nvidia-cutlass-dsl-libs-core==4.5", ""),
    ]


def test_the_same_library_for_another_cuda_meets_a_requirement(tmp_path: Path) -> None:
    """nvidia-cutlass-dsl requires the part for CUDA 12, and runs with that for CUDA 13 alone."""
    distribution(tmp_path, "nvidia-cutlass-dsl", "4.8.1", requires=("nvidia-cutlass-dsl-libs-cu12==4.8.1",))
    distribution(tmp_path, "nvidia-cutlass-dsl-libs-core", "4.8.1")
    (unmet,) = read(tmp_path).unmet
    assert (unmet.requirement, unmet.found) == ("nvidia-cutlass-dsl-libs-cu12==4.8.1", "")
    info = distribution(tmp_path, "nvidia-cutlass-dsl-libs-cu13", "4.8.0")
    assert len(read(tmp_path).unmet) == 1, "another version of it is no replacement"
    info.rename(tmp_path / "nvidia_cutlass_dsl_libs_cu13-4.8.1.dist-info")
    assert read(tmp_path).unmet == ()


def test_files_that_went_with_another_package(tmp_path: Path) -> None:
    distribution(tmp_path, "flash-attn-4", "4.0", NEW)
    assert read(tmp_path).incomplete == ()
    (tmp_path / "flash_attn/cute/mask.py").unlink()
    (found,) = read(tmp_path).incomplete
    assert (found.name, found.files, found.example) == ("flash-attn-4", 1, "flash_attn/cute/mask.py")


def test_a_part_that_looks_like_another_library(tmp_path: Path) -> None:
    distribution(tmp_path, "flash-attn", "2.8.3", OLD)
    assert read(tmp_path).packages["flash_attn.cute"] == ("flash-attn",)


def test_damaged_metadata_breaks_nothing(tmp_path: Path) -> None:
    info = distribution(tmp_path, "flash-attn", "2.8.3", OLD)
    (info / "RECORD").write_bytes(b'\xff\xfe,,\n,\nno commas at all\n"a,b",sha256=x,1\n')
    (info / "METADATA").write_bytes(b"\x00\xff")
    (tmp_path / "xformers-.dist-info").mkdir()
    (tmp_path / "torch-2.0.dist-info").write_text("a file, not a folder")
    found = read(tmp_path, tmp_path / "absent")
    assert found.versions["flash-attn"] == "2.8.3"
    assert found.clobbered == ()
