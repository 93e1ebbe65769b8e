"""What native loaders say is understood, and C++ symbols become readable with and without c++filt."""

from __future__ import annotations

import shutil

import pytest

from attncheck.installed import symbols
from attncheck.installed.symbols import Complaint, complaint, demangled, home, qualified_name
from attncheck.installed.trial import Cause

SYMBOL = "_ZN3c105ErrorC1ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"ImportError: /a/b/x.so: undefined symbol: {SYMBOL}", (Cause.UNDEFINED_SYMBOL, SYMBOL, "/a/b/x.so")),
        ("symbol lookup error: /a/x.so: undefined symbol: f, version V1", (Cause.UNDEFINED_SYMBOL, "f", "/a/x.so")),
        (
            "dlopen(/a/x.so, 2): Symbol not found: __ZN2at5emptyE",
            (Cause.UNDEFINED_SYMBOL, "__ZN2at5emptyE", ""),
        ),
        (
            "OSError: libcudart.so.12: cannot open shared object file: No such file or directory",
            (Cause.MISSING_LIBRARY, "libcudart.so.12", ""),
        ),
        (
            "ImportError: DLL load failed while importing flash_attn_2_cuda: The specified module could not be found.",
            (Cause.MISSING_LIBRARY, "", "flash_attn_2_cuda"),
        ),
        (
            "/lib/libc.so.6: version `GLIBC_2.38' not found (required by /a/x.so)",
            (Cause.OLD_SYSTEM_LIBRARY, "GLIBC_2.38", "/a/x.so"),
        ),
        ("ImportError: /a/x.so: file too short", (Cause.DAMAGED_LIBRARY, "/a/x.so", "")),
        ("ValueError: nothing of the kind", None),
    ],
)
def test_complaints_of_loaders(text: str, found: tuple[Cause, str, str] | None) -> None:
    assert complaint(text) == (None if found is None else Complaint(*found))


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        (SYMBOL, "c10::Error::Error"),
        ("_ZNK2at6Tensor4sizeEl", "at::Tensor::size"),
        ("_ZN5torch8autogradD0Ev", "torch::autograd::~autograd"),
        ("cudaMalloc", "cudaMalloc"),
        ("_Z", "_Z"),
    ],
)
def test_qualified_names_without_any_program(symbol: str, name: str) -> None:
    assert qualified_name(symbol) == name


def test_demangling_falls_back_to_the_qualified_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert demangled(SYMBOL) == "c10::Error::Error"
    monkeypatch.setattr(shutil, "which", lambda _: "/no/such/program")
    assert demangled(SYMBOL) == "c10::Error::Error"


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="c++filt is not installed")
def test_demangling_keeps_the_namespace_that_tells_the_abi() -> None:
    assert demangled(SYMBOL) == "c10::Error::Error(c10::SourceLocation, std::__cxx11::string)"
    assert "std::string" in demangled("_ZN3c105ErrorC1ENS_14SourceLocationESs")
    assert symbols.demangled("plain_c_name") == "plain_c_name"


def test_where_symbols_come_from() -> None:
    assert home("c10::Error::Error") == "torch"
    assert home("typeinfo for at::Tensor") == "torch"
    assert home("cudaLaunchKernelExC") == "the CUDA runtime"
    assert home("my::function") == ""
