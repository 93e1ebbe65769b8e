"""torch's own state: switched-off kernels, flags that an import changed, CUDA that does not start; and quiet cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attncheck.checks.machine import Machine, MachineCheck
from attncheck.checks.runnable import importable, usable_here
from attncheck.checks.settings import (
    GROUP,
    all_off,
    changed_flags,
    disabled_kernels,
    uncompiled,
    unstarted,
    without_flash,
)
from attncheck.checks.variables import FLEX_SWITCHES
from attncheck.findings import Severity
from attncheck.gpus import Gpu
from attncheck.installed.state import TorchState
from attncheck.probe.torch_trial import FLAGS
from attncheck.render import interface
from attncheck.verdicts import Status
from tests import sample_machines
from tests.backends.environments import CPU_ONLY, H100

FLASH, EFFICIENT, CUDNN, MATH = (
    f"torch.backends.cuda.{name}_sdp_enabled()" for name in ("flash", "mem_efficient", "cudnn", "math")
)
BUILT = "torch.backends.cuda.is_flash_attention_available()"
TF32 = "torch.backends.cuda.matmul.allow_tf32"
DEFAULTS = {**dict.fromkeys((FLASH, EFFICIENT, CUDNN, MATH, BUILT), "True"), TF32: "False"}
ON_H100 = TorchState(
    "2.11.0+cu130",
    "13.0",
    "9.19.0",
    ("sm_90",),
    cuda_available=True,
    flags=DEFAULTS,
    devices=(("NVIDIA H100 80GB HBM3", "9.0"),),
)
ON_CPU = TorchState("2.13.0+cpu", cuda_error="torch is built without CUDA", flags={**DEFAULTS, BUILT: "False"})


def on_h100(**changes: str) -> Machine:
    return Machine(H100, torch=replace(ON_H100, flags={**DEFAULTS, **changes}))


def imported(*changes: tuple[str, str, str, str]) -> Machine:
    return Machine(H100, torch=replace(ON_H100, changed_by_import=changes))


def test_the_flags_judged_here_are_those_that_are_read() -> None:
    assert set(DEFAULTS) <= set(FLAGS)


@pytest.mark.parametrize("check", GROUP.machine, ids=lambda check: check.rule.slug)
def test_healthy_machines_are_quiet_and_static_runs_say_why_not(check: MachineCheck) -> None:
    needs_cuda = check.rule.slug in ("cuda-not-started", "torch-without-flash")
    for machine in (Machine(H100, torch=ON_H100), Machine(CPU_ONLY, torch=ON_CPU)):
        assert bool(check.refusal(machine)) is (needs_cuda and not machine.environment.gpus)
        assert list(check.judge(machine)) == []
    blind = Machine(H100, missing={"torch": "--static: nothing is imported, no kernel is run"})
    assert check.refusal(blind).startswith("--static") is ("torch" in check.needs)


@pytest.mark.parametrize(
    ("off", "severity", "words"),
    [
        ((FLASH,), Severity.WARNING, "SDPA's flash kernel is switched off from the start of Python"),
        ((FLASH, EFFICIENT), Severity.WARNING, "flash, memory-efficient kernels are switched off"),
        ((MATH,), Severity.WARNING, "calls that flash, memory-efficient, cudnn cannot take fail with 'No available"),
        ((FLASH, EFFICIENT, MATH), Severity.WARNING, "calls that cudnn cannot take fail"),
    ],
)
def test_a_kernel_that_is_off_from_the_start(off: tuple[str, ...], severity: Severity, words: str) -> None:
    (finding,) = disabled_kernels(on_h100(**dict.fromkeys(off, "False")))
    assert finding.severity is severity
    assert words in finding.message
    pastes = finding.recommendations[0].paste.splitlines()
    assert pastes == [flag.replace("cuda.", "cuda.enable_").replace("_enabled()", "(True)") for flag in off]
    assert off[0] in finding.reproduction


@pytest.mark.parametrize("off", [(FLASH, MATH), (MATH,)])
def test_pages_tell_what_it_leads_to_and_all_that_mends_it(off: tuple[str, ...]) -> None:
    """Also where two causes, each with kernels of its own, make one group."""
    flags = {**DEFAULTS, **dict.fromkeys(off, "False")}
    changed = (("deepspeed", EFFICIENT, "True", "False"),)
    findings = tuple(disabled_kernels(Machine(H100, torch=replace(ON_H100, flags=flags, changed_by_import=changed))))
    assert len(findings) == 2
    report = replace(sample_machines.h100_report(), findings=findings)
    for form in ("terminal", "markdown", "html"):
        text = " ".join(interface.render(report, form).replace("&#x27;", "'").replace("&#39;", "'").split())
        assert "cannot take fail with 'No available kernel. Aborting execution.'" in text, form
        for flag in (*off, EFFICIENT):
            assert flag.replace("cuda.", "cuda.enable_").replace("_enabled()", "(True)") in text, form


def test_no_kernel_left_is_an_error() -> None:
    (finding,) = disabled_kernels(on_h100(**dict.fromkeys((FLASH, EFFICIENT, CUDNN, MATH), "False")))
    assert finding.severity is Severity.ERROR
    assert "every SDPA call fails with 'No viable backend'" in finding.message
    assert not finding.headline, "pages would tell the headline alone"
    assert "if you need" not in finding.recommendations[0].text
    # A CPU has the flash and the math kernel only: what is left on is of no use there.
    flags = {**ON_CPU.flags, FLASH: "False", MATH: "False"}
    (finding,) = disabled_kernels(Machine(CPU_ONLY, torch=replace(ON_CPU, flags=flags)))
    assert finding.severity is Severity.ERROR


def test_sdpa_cannot_run_without_any_kernel() -> None:
    def runs(**off: str) -> bool:
        state = replace(ON_H100, flags={**DEFAULTS, **off})
        found = importable(Machine(H100, usable_here(H100), torch=state))
        return next(entry.status is Status.OK for entry in found if entry.name == "sdpa")

    every = dict.fromkeys((FLASH, EFFICIENT, CUDNN, MATH), "False")
    assert not runs(**every)
    assert runs(**{**every, EFFICIENT: "True"})
    assert not all_off(replace(ON_H100, flags={})), "nothing was read"


def test_a_cudnn_kernel_that_is_off_by_default_says_nothing() -> None:
    assert list(disabled_kernels(on_h100(**{CUDNN: "False"}))) == []


def test_an_import_that_switches_kernels_off_is_named() -> None:
    machine = imported(("deepspeed", FLASH, "True", "False"), ("deepspeed", MATH, "True", "False"))
    (finding,) = disabled_kernels(machine)
    assert "flash, math kernels are switched off by importing deepspeed" in finding.message
    assert finding.reproduction.startswith('python -c "import deepspeed, torch;')
    (finding,) = disabled_kernels(imported(("unsloth", CUDNN, "True", "False")))
    assert finding.severity is Severity.NOTE
    assert list(changed_flags(machine)) == []


def test_a_kernel_that_an_import_switches_on_is_no_loss() -> None:
    machine = imported(("unsloth", FLASH, "False", "True"))
    assert list(disabled_kernels(machine)) == []


def test_other_flags_that_an_import_changes_are_notes() -> None:
    (finding,) = changed_flags(imported(("deepspeed", TF32, "False", "True")))
    assert finding.severity is Severity.NOTE
    assert finding.message == f"importing deepspeed changes {TF32} from False to True"
    assert finding.recommendations[0].settings[0].paste == f"{TF32} = False"
    assert list(disabled_kernels(imported(("deepspeed", TF32, "False", "True")))) == []


def test_cuda_that_cannot_start_is_told_in_torchs_words() -> None:
    reason = "CUDA initialization: CUDA unknown error - this may be due to an incorrectly set up environment"
    state = replace(ON_H100, cuda_available=False, cuda_error=reason, devices=())
    (finding,) = unstarted(Machine(H100, torch=state))
    assert finding.severity is Severity.ERROR
    assert reason in finding.message
    assert "NVIDIA H100 80GB HBM3" in finding.message
    too_old = replace(state, cuda_error="The NVIDIA driver on your system is too old (found version 12020).")
    assert list(unstarted(Machine(H100, torch=too_old))) == [], "another rule's"
    assert list(unstarted(Machine(CPU_ONLY, torch=state))) == [], "no GPU, nothing amiss"
    assert list(unstarted(Machine(H100, torch=ON_CPU))) == [], "a build without CUDA is another rule's"
    (finding,) = unstarted(Machine(H100, torch=replace(state, cuda_error="")))
    assert "torch gives no reason" in finding.message


def test_torch_that_sees_fewer_gpus_than_the_driver() -> None:
    two = replace(H100, gpus=(*H100.gpus, Gpu(1, "NVIDIA H100 80GB HBM3", (9, 0), 1 << 36)))
    (finding,) = unstarted(Machine(two, torch=ON_H100))
    assert finding.severity is Severity.WARNING
    assert "2 GPUs to this process, torch sees 1" in finding.message
    mig = replace(two, gpu_note="CUDA_VISIBLE_DEVICES names MIG slices; whole GPUs are listed")
    assert list(unstarted(Machine(mig, torch=ON_H100))) == []


def test_a_cuda_build_without_flash_costs_speed_only() -> None:
    windows = replace(H100, platform="Windows AMD64")
    state = replace(ON_H100, flags={**DEFAULTS, BUILT: "False"})
    (finding,) = without_flash(Machine(windows, torch=state))
    assert finding.severity is Severity.NOTE
    assert "as is usual on Windows" in finding.message
    assert "speed only" in finding.message
    flags = {name: value for name, value in DEFAULTS.items() if name != BUILT}
    assert list(without_flash(Machine(H100, torch=replace(ON_H100, flags=flags)))) == [], "torch could not tell"


@pytest.mark.parametrize("names", [FLEX_SWITCHES[:1], FLEX_SWITCHES[1:], FLEX_SWITCHES])
@pytest.mark.parametrize(("value", "found"), [("1", True), ("0", False), ("", False)])
def test_flex_attention_without_a_compiler(value: str, found: bool, names: tuple[str, ...]) -> None:
    machine = Machine(replace(H100, variables=dict.fromkeys(names, value)))
    findings = list(uncompiled(machine))
    assert bool(findings) is found
    assert all(finding.severity is Severity.WARNING for finding in findings)
    assert all(finding.recommendations[0].paste == f"unset {' '.join(names)}" for finding in findings)
    cpu = Machine(replace(CPU_ONLY, variables=dict.fromkeys(names, value)))
    assert all(finding.severity is Severity.NOTE for finding in uncompiled(cpu))


def test_unknown_flags_of_a_newer_torch_break_nothing() -> None:
    state = replace(
        ON_H100, flags={"torch.new_flag()": "odd"}, changed_by_import=(("x", "torch.new_flag()", "a", "b"),)
    )
    machine = Machine(H100, torch=state)
    assert [finding.slug for check in GROUP.machine for finding in check.judge(machine)] == ["flag-changed"]
