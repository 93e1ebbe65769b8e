"""What can run here: limits of each GPU alone, imports, binaries, the driver, and torch's own word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from attncheck import doctor
from attncheck.checks.installation import unusable
from attncheck.checks.machine import Machine
from attncheck.checks.runnable import importable, usable_here
from attncheck.doctor import DoctorOptions
from attncheck.environment import Environment
from attncheck.installed.inventory import Build, Inventory
from attncheck.installed.state import TorchState
from attncheck.installed.trial import ImportTrial
from attncheck.semantics.observation import Basis, Crashed
from attncheck.verdicts import Implementation, Status
from tests import builders
from tests.backends.environments import B200, CPU_ONLY, H100, H100_CPU_TORCH, H100_NO_TORCH, MI300, T4, with_libraries

FOR_HOPPER = Build(cuda="13", architectures=("9.0",))
OLD_DRIVER = replace(H100, driver="525.60.13 (CUDA 12.0)")
BESIDE_T4 = replace(H100, gpus=(*H100.gpus, *(replace(T4.gpus[0], index=index) for index in (1, 2))))
RUNNING_ON_H100 = {"eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_4"}


def shown(
    environment: Environment, builds: Mapping[str, Build] | None = None, torch: TorchState | None = None
) -> dict[str, Implementation]:
    facts = Machine(environment, usable_here(environment), Inventory(builds or {}), torch=torch)
    return {entry.name: entry for entry in importable(facts)}


def running(found: Mapping[str, Implementation]) -> set[str]:
    return {name for name, entry in found.items() if entry.status is Status.OK}


def said(entry: Implementation) -> str:
    return "; ".join(f"{reason.text} | {reason.limit} | {reason.actual}" for reason in entry.reasons)


def test_what_fails_at_import_cannot_run() -> None:
    broken = ImportTrial("flash_attn", Crashed("exception", "undefined symbol"))
    facts = Machine(builders.GPU_ENVIRONMENT, usable_here(builders.GPU_ENVIRONMENT), imports={"flash-attn": broken})
    found = {entry.name: entry for entry in importable(facts)}
    assert (found["flash_attention_2"].status, found["flash_attention_2"].basis) == (Status.REJECTED, Basis.MEASURED)
    assert found["flash_attention_2"].reasons[0].text == "flash-attn cannot be imported: undefined symbol"
    others = [entry for entry in facts.implementations if entry.name != "flash_attention_2"]
    assert [entry for entry in found.values() if entry.name != "flash_attention_2"] == others
    sound = replace(facts, imports={"flash-attn": ImportTrial("flash_attn")})
    assert importable(sound) == facts.implementations
    assert unusable(facts) == (), "install-broken says it"


def test_the_recorded_h100_runs_what_it_ran() -> None:
    torch = TorchState("2.11.0+cu130", "13.0", cuda_available=True)
    found = shown(H100, {"torch": FOR_HOPPER, "flash-attn": FOR_HOPPER, "flash-attn-4": Build()}, torch)
    assert running(found) == RUNNING_ON_H100
    assert not any("not on GPU" in said(entry) or "bfloat16" in said(entry) for entry in found.values())


@pytest.mark.parametrize("environment", [CPU_ONLY, MI300, builders.ENVIRONMENT])
def test_machines_whose_gpus_are_not_listed_are_told_by_their_limits_alone(environment: Environment) -> None:
    found = shown(environment, {"torch": FOR_HOPPER}, TorchState("2.11.0"))
    assert tuple(found.values()) == usable_here(environment)
    assert running(found) >= {"eager", "sdpa", "flex_attention"}


@pytest.mark.parametrize("environment", [H100_CPU_TORCH, H100_NO_TORCH])
def test_nothing_runs_on_a_gpu_without_a_torch_for_it(environment: Environment) -> None:
    assert running(shown(environment)) == set()


def test_a_driver_that_is_too_old_for_torch_runs_nothing() -> None:
    found = shown(OLD_DRIVER)
    assert running(found) == set()
    assert found["sdpa"].basis is Basis.STATIC
    assert "a driver for CUDA 13.0 | 525.60.13 (CUDA 12.0)" in said(found["sdpa"])
    started = TorchState("2.11.0+cu130", "13.0", cuda_available=True)
    assert running(shown(OLD_DRIVER, torch=started)) == RUNNING_ON_H100, "a compatibility package"


def test_a_torch_that_cannot_start_cuda_runs_nothing() -> None:
    found = shown(H100, torch=TorchState("2.11.0+cu130", "13.0", cuda_error="CUDA unknown error"))
    assert running(found) == set()
    assert (found["eager"].basis, said(found["eager"])[:43]) == (
        Basis.MEASURED,
        "torch cannot start CUDA: CUDA unknown error",
    )
    assert found["flash_attention_3"].reasons[0].text == "flash-attn-3 is not installed"


def test_a_library_without_code_for_the_gpu_cannot_run() -> None:
    found = shown(B200, {"flash-attn": FOR_HOPPER})
    assert running(found) == RUNNING_ON_H100 - {"flash_attention_2"}
    entry = found["flash_attention_2"]
    assert entry.basis is Basis.STATIC
    assert said(entry) == "flash-attn holds no code for NVIDIA B200 | code for 10.0 | code for 9.0"
    assert running(shown(B200, {"torch": FOR_HOPPER})) == set()
    both = shown(
        replace(B200, gpus=(*H100.gpus, *T4.gpus)), {"flash-attn": replace(FOR_HOPPER, architectures=("7.5",))}
    )
    assert "flash_attention_2" not in running(both), "one GPU is too old for it, and it is not built for the other"


def test_gpus_that_fall_out_are_named() -> None:
    found = shown(BESIDE_T4)
    assert running(found) == RUNNING_ON_H100
    assert said(found["flash_attention_4"]) == (
        "not on GPU 1, 2: the GPU is of the wrong generation | compute capability 8.0 to 12.9 | Tesla T4 7.5"
    )
    assert said(found["sdpa"]) == ""
    without = shown(BESIDE_T4, {"torch": FOR_HOPPER})
    assert said(without["sdpa"]) == "not on GPU 1, 2: torch holds no code for Tesla T4 | code for 7.5 | code for 9.0"


def test_before_ampere_the_question_is_float16() -> None:
    found = shown(with_libraries(T4, {"triton": "3.6.0"}))
    assert running(found) == {"eager", "sdpa", "flex_attention"}
    assert found["sdpa"].kernels == ("efficient", "math")
    assert "not in bfloat16: the GPU is too old for Triton" in said(found["flex_attention"])


def test_the_report_tells_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "read_environment", lambda: OLD_DRIVER)
    report = doctor.examine(DoctorOptions(static=True))
    assert "driver-too-old" in {finding.slug for finding in report.findings}
    assert not any(entry.status is Status.OK for entry in report.implementations)
