"""The reader of shared objects: architectures in fat binaries, needed libraries, C++ ABI; damaged files are empty."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from attncheck.installed.binaries import Binary, covers, ordered, read_binary
from tests.fake_installs import ARCH_SPECIFIC, CUBIN, FAMILY, PTX, elf, fat_binary

OLD_ABI = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
NEW_ABI = "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"


def write(folder: Path, content: bytes) -> Path:
    path = folder / "library.so"
    path.write_bytes(content)
    return path


def test_every_target_of_every_group_is_read(tmp_path: Path) -> None:
    section = (
        fat_binary((CUBIN, 80, 0x11), (PTX, 80, 0x2011))
        + bytes(24)  # padding between the groups of two object files
        + fat_binary((CUBIN, 90, 0x11 | ARCH_SPECIFIC), (CUBIN, 120, 0x11 | FAMILY), (CUBIN, 75, 0x8011))
    )
    relocatable = fat_binary((CUBIN, 100, 0x11))
    found = read_binary(write(tmp_path, elf({".nv_fatbin": section, "__nv_relfatbin": relocatable})))
    assert found.architectures == ("7.5", "8.0", "8.0+PTX", "9.0a", "10.0", "12.0f")


def test_needed_libraries_and_abi(tmp_path: Path) -> None:
    needed = ("libc10.so", "libcudart.so.12")
    assert read_binary(write(tmp_path, elf({}, needed, (NEW_ABI,)))) == Binary((), needed, "TRUE")
    assert read_binary(write(tmp_path, elf({}, needed, ("other", OLD_ABI)))).cxx11abi == "FALSE"
    neither = read_binary(write(tmp_path, elf({}, needed, ("_ZN3c106detail14torchCheckFailEPKcS2_jS2_",))))
    assert neither.cxx11abi == ""


@pytest.mark.parametrize("keep", [0, 3, 16, 64, 70, 200, 500])
def test_a_file_that_is_cut_off_gives_nothing_or_less(tmp_path: Path, keep: int) -> None:
    whole = elf({".nv_fatbin": fat_binary((CUBIN, 90, 0))}, ("libc10.so",))
    assert len(whole) > 500
    assert read_binary(write(tmp_path, whole[:keep])) in (Binary(), Binary(("9.0",)))


def test_what_is_no_elf_file_gives_nothing(tmp_path: Path) -> None:
    assert read_binary(write(tmp_path, b"MZ" + bytes(400))) == Binary()
    assert read_binary(tmp_path / "absent.so") == Binary()
    assert read_binary(tmp_path) == Binary()


def test_lengths_that_lie_do_not_keep_the_reader_busy(tmp_path: Path) -> None:
    group = bytearray(fat_binary((CUBIN, 90, 0)))
    group[16 + 4 : 16 + 16] = bytes(12)  # the entry's header and payload are zero bytes long
    assert read_binary(write(tmp_path, elf({".nv_fatbin": bytes(group)}))).architectures == ("9.0",)


@pytest.mark.parametrize(
    ("architecture", "capability", "runs"),
    [
        ("8.0", (8, 0), True),
        ("8.0", (8, 9), True),
        ("8.9", (8, 0), False),
        ("8.0", (9, 0), False),
        ("9.0", (9, 0), True),
        ("8.0+PTX", (9, 0), True),
        ("8.0+PTX", (12, 0), True),
        ("9.0+PTX", (8, 9), False),
        ("9.0a", (9, 0), True),
        ("9.0a", (10, 0), False),
        ("9.0a+PTX", (10, 0), False),
        ("10.0a", (10, 3), False),
        ("10.0f", (10, 3), True),
        ("10.0f", (12, 0), False),
        ("12.0", (12, 1), True),
        ("nonsense", (9, 0), False),
    ],
)
def test_what_runs_where(architecture: str, capability: tuple[int, int], runs: bool) -> None:
    assert covers(architecture, capability) is runs


def test_targets_are_put_in_order_of_their_numbers() -> None:
    assert ordered(["10.0", "9.0a", "8.0+PTX", "9.0", "8.0", "9.0"]) == ("8.0", "8.0+PTX", "9.0", "9.0a", "10.0")


def test_the_installed_torch_says_its_abi() -> None:
    spec = importlib.util.find_spec("torch")
    library = Path(str(spec.origin)).parent / "lib" / "libc10.so" if spec is not None else Path("absent")
    if not library.exists():
        pytest.skip("no torch with an ELF library is installed")
    assert read_binary(library).cxx11abi in ("TRUE", "FALSE")
