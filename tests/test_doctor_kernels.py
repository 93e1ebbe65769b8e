"""doctor and the kernels: what is read, and why not where it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from attncheck import cli, doctor
from attncheck.environment import Library
from attncheck.probe import conventions
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.observation import Basis
from tests import builders

RIGHT = Convention("sdpa-math", "is_causal=True", "causal", 64, 64, Outcome.READ, Basis.MEASURED, None, 0, agrees=True)
WRONG = Ability("sdpa-math", "head_dim", "8; wrong: 80", Outcome.READ, Basis.MEASURED, False, figures={"wrong": "80"})


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that the table was read on; the reading itself is replaced."""
    asked: list[str] = []

    def read(_: Any, __: Any, device: str, ___: Any, *, only: tuple[str, ...], thorough: bool) -> Any:
        asked.append(" ".join((device, *only, *(["thorough"] if thorough else []))))
        return (RIGHT,), (WRONG,)

    monkeypatch.setattr(conventions, "read", read)
    monkeypatch.setattr(doctor, "read_environment", lambda: builders.ENVIRONMENT)
    return asked


def statuses(report: Any) -> dict[str, str]:
    return {check.code: check.status for check in report.checks}


def test_a_wrong_kernel_becomes_a_finding(devices: list[str]) -> None:
    report = doctor.examine(doctor.DoctorOptions(only=("kernel-output-wrong", "window-conventions-differ")))
    assert devices == ["cpu"]
    assert [finding.slug for finding in report.findings] == ["kernel-output-wrong"]
    assert statuses(report) == {"ATC823": "not_run", "ATC824": "finding"}, "no two windows to compare is no praise"
    assert report.conventions == (RIGHT,)
    assert report.exit_code == 1


def test_static_runs_no_kernel(devices: list[str]) -> None:
    report = doctor.examine(doctor.DoctorOptions(static=True, only=("kernel-output-wrong",)))
    assert devices == []
    (check,) = report.checks
    assert (check.status, check.reason) == ("not_run", "--static: nothing is imported, no kernel is run")


def test_other_checks_read_no_kernel(devices: list[str]) -> None:
    doctor.examine(doctor.DoctorOptions(only=("files-clobbered",)))
    assert devices == []


def test_without_torch(devices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(builders.ENVIRONMENT, libraries=(Library("torch", None),))
    monkeypatch.setattr(doctor, "read_environment", lambda: bare)
    report = doctor.examine(doctor.DoctorOptions(only=("kernel-contract-broken",)))
    assert devices == []
    assert [(check.status, check.reason) for check in report.checks] == [("not_run", "torch is not installed")]


def test_only_the_named_apis_are_read(devices: list[str]) -> None:
    only = ("kernel-contract-broken",)
    doctor.examine(doctor.DoctorOptions(only=only, apis=("flashinfer", "sdpa-math")))
    doctor.examine(doctor.DoctorOptions(only=only, thorough=True))
    assert devices == ["cpu flashinfer sdpa-math", "cpu thorough"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--api", "flash-attn-9"], ("--api 'flash-attn-9' is no kernel API", "flash-attn-2, flash-attn-2-varlen")),
        (["--api", "sdpa-math", "--static"], ("--api reads kernels, and --static runs none",)),
        (["--api", ","], ("--api ',' names nothing",)),
        (["--api", "sdpa-math", "--reproduce", "te-window"], ("--api cannot go with it",)),
    ],
)
def test_apis_that_cannot_be_read_are_wrong_usage(options: list[str], words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.app, ["doctor", *options])
    assert result.exit_code == 2
    assert all(word in result.stderr for word in words)
    assert result.stderr.count("\n") == 2, "what, and what helps"
