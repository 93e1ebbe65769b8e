"""The minimal doctor: what runs here with reasons, imports tried elsewhere, and the obvious findings."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attncheck import doctor
from attncheck.checks.hardware import driver_too_old
from attncheck.checks.installation import broken_installs, unusable
from attncheck.checks.machine import Machine
from attncheck.checks.runnable import usable_here
from attncheck.doctor import DoctorOptions
from attncheck.environment import Environment, Gpu, Library
from attncheck.errors import UsageError
from attncheck.findings import Severity
from attncheck.installed.inventory import Inventory
from attncheck.installed.state import TorchState
from attncheck.installed.trial import ImportTrial
from attncheck.probe import machine as probing
from attncheck.probe.imports import try_import
from attncheck.semantics.observation import Crashed
from attncheck.verdicts import Status
from tests import builders

IMPORT_TRIALS = probing.import_trials
T4 = Gpu(0, "Tesla T4", (7, 5), 16 << 30)


def torch(version: str) -> tuple[Library, ...]:
    return (Library("torch", version), *builders.GPU_ENVIRONMENT.libraries[1:])


def statuses(environment: Environment) -> dict[str, Status]:
    return {entry.name: entry.status for entry in usable_here(environment)}


def machine(environment: Environment) -> Machine:
    """A machine of which only the environment and what could run there is known."""
    return Machine(environment, usable_here(environment))


def test_every_implementation_has_a_verdict_with_reasons() -> None:
    for entry in usable_here(builders.ENVIRONMENT):
        assert entry.status in (Status.OK, Status.REJECTED)
        assert entry.reasons or entry.status is Status.OK
    assert statuses(builders.ENVIRONMENT)["eager"] is Status.OK
    assert statuses(builders.ENVIRONMENT)["flash_attention_2"] is Status.REJECTED
    assert statuses(builders.GPU_ENVIRONMENT)["flash_attention_2"] is Status.OK


def test_a_healthy_machine_has_no_finding() -> None:
    for environment in (builders.ENVIRONMENT, builders.GPU_ENVIRONMENT):
        assert unusable(machine(environment)) == ()
        assert tuple(driver_too_old(machine(environment))) == ()


def test_a_cpu_build_of_torch_beside_a_gpu_is_a_warning() -> None:
    environment = replace(builders.GPU_ENVIRONMENT, libraries=torch("2.13.0+cpu"), torch_cuda="")
    (finding,) = unusable(Machine(environment))
    assert finding.slug == "gpu-not-used"
    assert finding.severity is Severity.WARNING
    assert "NVIDIA H100" in finding.message


def test_a_card_whose_driver_is_silent_counts_as_a_gpu() -> None:
    note = "1 NVIDIA card(s) on the PCI bus, but the driver does not answer: no library"
    assert unusable(Machine(replace(builders.ENVIRONMENT, gpu_note=note)))
    assert not unusable(Machine(builders.ENVIRONMENT))


@pytest.mark.parametrize(
    ("built_for", "driver", "found"),
    [
        ("13.0", "570.1 (CUDA 12.8)", True),
        ("12.8", "525.1 (CUDA 12.0)", False),
        ("12.8", "580.1 (CUDA 13.0)", False),
        (None, "580.1 (CUDA 13.0)", False),
        ("13.0", "", False),
    ],
)
def test_a_driver_older_than_the_cuda_of_torch(built_for: str | None, driver: str, found: bool) -> None:
    environment = replace(builders.GPU_ENVIRONMENT, torch_cuda=built_for, driver=driver)
    findings = tuple(driver_too_old(Machine(environment)))
    assert bool(findings) is found
    assert {finding.slug for finding in findings} <= {"driver-too-old"}


def test_checks_about_gpus_say_that_there_is_none() -> None:
    about_gpus = {
        *("gpu-not-used", "no-kernel-image", "driver-too-old", "cuda-not-started"),
        *("torch-without-flash", "silent-fallback"),
    }
    state = TorchState("2.13.0+cpu")
    for environment, idle in ((builders.ENVIRONMENT, about_gpus), (builders.GPU_ENVIRONMENT, set())):
        facts = Machine(environment, inventory=Inventory(), torch=state)
        refusals = {check.rule.slug: check.refusal(facts) for check in doctor.machine_checks()}
        assert {slug for slug in about_gpus if refusals[slug]} == idle
    silent = replace(
        builders.ENVIRONMENT, gpu_note="1 NVIDIA card(s) on the PCI bus, but the driver does not answer: no"
    )
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == "gpu-not-used")
    assert check.refusal(Machine(silent)) == ""
    assert "no NVIDIA driver" in check.refusal(Machine(builders.ENVIRONMENT))


def test_imports_that_nobody_tried_are_not_called_sound() -> None:
    for slug in ("install-broken", "operators-missing"):
        (check,) = (check for check in doctor.machine_checks() if check.rule.slug == slug)
        assert "no library" in check.refusal(Machine(builders.ENVIRONMENT, imports={}))
        assert check.refusal(Machine(builders.ENVIRONMENT, imports={"torch": ImportTrial("torch")})) == ""


def test_a_cuda_that_nobody_could_tell_is_not_called_a_cpu_build() -> None:
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == "driver-too-old")
    unknown = Machine(replace(builders.GPU_ENVIRONMENT, torch_cuda=None))
    assert check.refusal(unknown) == "torch/version.py, which names its CUDA, could not be read"
    assert check.refusal(Machine(builders.ENVIRONMENT)) == "torch is built without CUDA"


def test_without_torch_nothing_is_said_of_a_gpu_that_goes_unused() -> None:
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == "gpu-not-used")
    bare = replace(builders.GPU_ENVIRONMENT, libraries=(Library("torch", None), Library("flash-attn", "2.8.3")))
    assert check.refusal(machine(bare)) == "torch is not installed"
    assert check.refusal(machine(builders.GPU_ENVIRONMENT)) == ""


def test_flash_attn_on_a_gpu_it_does_not_support() -> None:
    environment = replace(builders.GPU_ENVIRONMENT, gpus=(T4,))
    (finding,) = unusable(machine(environment))
    assert "flash-attn 2.8.3 is installed but cannot run on this GPU" in finding.message
    assert "7.5" in finding.message


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("raise ImportError('undefined symbol: _ZN3c10')", "exception", "undefined symbol"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal", "SIGSEGV"),
        ("import time; time.sleep(600)", "timeout", "did not finish importing"),
        ("raise SystemExit(7)", "exit", "exited with 7"),
    ],
)
def test_an_import_that_breaks_is_a_result(
    body: str, kind: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    failure = try_import("fragile", limit=2.0 if kind == "timeout" else 60.0).failure
    assert failure is not None
    assert failure.kind == kind
    assert words in failure.reason
    assert "fragile" not in sys.modules


def test_a_good_import_is_none_and_its_chatter_goes_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sound.py").write_text("print('welcome'); import sys; print('hello', file=sys.stderr)")
    monkeypatch.syspath_prepend(tmp_path)
    assert try_import("sound").failure is None
    assert capfd.readouterr() == ("", "")


def test_a_broken_install_is_an_error() -> None:
    trial = ImportTrial("flash_attn", Crashed("exception", "undefined symbol"))
    (finding,) = broken_installs(Machine(builders.GPU_ENVIRONMENT, imports={"flash-attn": trial}))
    assert (finding.slug, finding.severity) == ("install-broken", Severity.ERROR)
    assert "flash-attn 2.8.3 is installed but cannot be imported: undefined symbol" in finding.message


def test_a_broken_package_is_found_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "xformers-0.0.99.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xformers\nVersion: 0.0.99\n")
    (tmp_path / "xformers.py").write_text("raise ImportError('built for another torch')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(probing, "import_trials", lambda environment, **_: IMPORT_TRIALS(environment, ("xformers",)))
    report = doctor.examine(DoctorOptions(only=("install-broken",)))
    assert [(check.code, check.status) for check in report.checks] == [("ATC801", "finding")]
    assert "built for another torch" in report.findings[0].message
    assert report.exit_code == 1


def test_static_imports_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "try_import", lambda *_, **__: pytest.fail("imported"))
    report = doctor.examine(DoctorOptions(static=True))
    assert {check.code: check.status for check in report.checks}["ATC801"] == "not_run"


def test_what_reads_kernels_is_refused_beside_static() -> None:
    for options in (DoctorOptions(static=True, thorough=True), DoctorOptions(static=True, apis=("sdpa-math",))):
        with pytest.raises(UsageError, match="--static runs none"):
            doctor.examine(options)


def test_an_unknown_check_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="ATC999"):
        doctor.examine(DoctorOptions(static=True, only=("ATC999",)))
