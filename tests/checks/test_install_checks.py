"""Checks of what is installed: for each a fault that fires, a machine where it is quiet, and facts that nobody got."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from attncheck import doctor
from attncheck.checks.installation import broken_installs
from attncheck.checks.machine import Machine
from attncheck.checks.mending import wheel_tag
from attncheck.checks.runnable import importable, usable_here
from attncheck.environment import Environment, Gpu, Library
from attncheck.findings import Finding, Severity
from attncheck.installed.inventory import Build, Clobbered, Copies, Incomplete, Inventory, Unmet
from attncheck.installed.state import TorchState
from attncheck.installed.trial import Cause, ImportTrial
from attncheck.semantics.observation import Basis, Crashed
from attncheck.verdicts import Status
from tests import builders

H100 = Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0), 80 << 30)
T4 = Gpu(1, "Tesla T4", (7, 5), 16 << 30)
L4 = Gpu(1, "NVIDIA L4", (8, 9), 23 << 30)
RTX = Gpu(1, "NVIDIA GeForce RTX 5090", (12, 0), 32 << 30)
TORCH = Build(cuda="13.0", cxx11abi="TRUE", python="cp312", architectures=("7.5", "8.0", "9.0", "10.0", "12.0"))
FLASH = Build(cuda="13", cxx11abi="TRUE", python="cp312", architectures=("9.0",), needed=("libc10.so",))
XFORMERS = Build(torch="2.10.0+cu128", cuda="12.8", needed=("libtorch.so",), source="xformers/cpp_lib.json")
SYMBOL = "_ZN3c105ErrorC1ENS_14SourceLocationESs"


def environment(*gpus: Gpu, torch: str = "2.11.0+cu130", cuda: str = "13.0", **versions: str) -> Environment:
    libraries = (Library("torch", torch), Library("transformers", "5.23.0"))
    named = tuple(Library(name.replace("_", "-"), version) for name, version in versions.items())
    return replace(builders.GPU_ENVIRONMENT, libraries=(*libraries, *named), gpus=gpus or (H100,), torch_cuda=cuda)


def machine(
    found: Environment | None = None,
    *,
    builds: Mapping[str, Build] | None = None,
    imports: Mapping[str, ImportTrial] | None = None,
    torch: TorchState | None = None,
    **inventory: object,
) -> Machine:
    every = {"torch": TORCH, **(builds or {})}
    lying = Inventory(every, **inventory)  # type: ignore[arg-type]
    return Machine(found or environment(), (), lying, imports, torch)


def judged(slug: str, facts: Machine) -> tuple[Finding, ...]:
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == slug)
    assert check.refusal(facts) == ""
    found = tuple(check.judge(facts))
    for finding in found:
        assert (finding.code, finding.slug) == (check.rule.code, slug)
        assert finding.evidence.effective
        assert finding.reproduction
        assert finding.recommendations
    return found


def one(slug: str, facts: Machine) -> Finding:
    (finding,) = judged(slug, facts)
    return finding


def paste(finding: Finding) -> str:
    return finding.recommendations[0].settings[0].paste


def failed(module: str, cause: Cause, subject: str = "", why: str = "it broke", where: str = "") -> ImportTrial:
    return ImportTrial(module, Crashed("exception", why), cause, subject, subject, where)


SLUGS = [
    "install-broken",
    "files-clobbered",
    "several-copies",
    "built-for-another-torch",
    "no-kernel-image",
    "driver-too-old",
    "operators-missing",
    "foreign-module",
    "requirement-unmet",
    "files-missing",
    "gpu-not-used",
    "silent-fallback",
]


@pytest.mark.parametrize("slug", SLUGS)
def test_a_healthy_machine_is_quiet(slug: str) -> None:
    fine = environment(flash_attn="2.8.3", flash_attn_4="4.0.0", xformers="0.0.36")
    here = Build(torch="2.11.0+cu130", cuda="13.0", needed=("libtorch.so",), architectures=("8.0+PTX", "9.0a"))
    imports = {name: ImportTrial(name, operation=name) for name in ("torch", "flash-attn", "xformers")}
    packages = {"flash_attn": ("flash-attn", "flash-attn-4"), "flash_attn.cute": ("flash-attn", "flash-attn-4")}
    facts = machine(fine, builds={"flash-attn": FLASH, "xformers": here}, imports=imports, packages=packages)
    assert judged(slug, facts) == ()


@pytest.mark.parametrize("slug", SLUGS)
def test_a_crashed_reader_is_not_run_and_never_ok(slug: str) -> None:
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == slug)
    blind = Machine(environment(), missing={"inventory": "the reader broke", "imports": "nobody tried"})
    if check.needs:
        assert check.refusal(blind) in ("the reader broke", "nobody tried")
    else:
        assert tuple(check.judge(blind)) == ()


@pytest.mark.parametrize("slug", SLUGS)
def test_imports_that_all_crashed_break_no_check(slug: str) -> None:
    fine = environment(flash_attn="2.8.3", xformers="0.0.36")
    imports = {name: ImportTrial(name, Crashed("signal", "it died of SIGSEGV")) for name in ("torch", "flash-attn")}
    found = judged(slug, machine(fine, builds={"flash-attn": FLASH}, imports=imports))
    assert bool(found) is (slug == "install-broken")


def test_an_undefined_symbol_of_torch_says_what_it_is_built_for() -> None:
    trial = replace(failed("flash_attn", Cause.UNDEFINED_SYMBOL, SYMBOL, "undefined symbol: x"), readable="c10::Error")
    facts = machine(environment(flash_attn="2.8.3"), imports={"flash-attn": trial})
    finding = one("install-broken", facts)
    assert (finding.severity, finding.basis) == (Severity.ERROR, Basis.MEASURED)
    assert "torch 2.11.0+cu130 does not have it: the library is built for another torch" in finding.message
    assert "cu13torch2.11cxx11abiTRUE-cp312" in finding.recommendations[0].text
    assert paste(finding).startswith(
        "pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation flash-attn=="
    )
    old = replace(FLASH, torch="2.5", cuda="12", cxx11abi="FALSE")
    message = one("install-broken", replace(facts, inventory=Inventory({"torch": TORCH, "flash-attn": old}))).message
    assert "built for torch 2.5, here runs torch 2.11.0+cu130" in message
    assert "built with the C++11 ABI off, torch here with it on" in message


def test_a_missing_cuda_library_names_both_versions() -> None:
    trial = failed("flash_attn", Cause.MISSING_LIBRARY, "libcudart.so.12", "libcudart.so.12 cannot be found")
    finding = one("install-broken", machine(environment(flash_attn="2.8.3"), imports={"flash-attn": trial}))
    assert "it is built for CUDA 12, torch here for CUDA 13.0" in finding.message


def test_a_missing_module_names_the_package_and_the_version_that_is_required() -> None:
    trial = failed("flash_attn.cute", Cause.MISSING_MODULE, "cutlass.cute", "No module named 'cutlass.cute'")
    unmet = (Unmet("nvidia-cutlass-dsl-libs-base", "4.8.1", "nvidia-cutlass-dsl-libs-core==4.8.1"),)
    facts = machine(environment(flash_attn_4="4.0.0"), imports={"flash-attn-4": trial}, unmet=unmet)
    assert paste(one("install-broken", facts)) == 'pip install "nvidia-cutlass-dsl-libs-core==4.8.1"'
    unknown = replace(facts, imports={"flash-attn-4": replace(trial, subject="who_knows")})
    assert paste(one("install-broken", unknown)).endswith("flash-attn-4==4.0.0")


def test_a_clobbered_library_that_fails_is_told_why_and_mended_by_order() -> None:
    owners = (("flash-attn", "2.8.3+cu13"), ("flash-attn-4", "4.0.0b36"))
    lying = Clobbered(owners, 20, "flash-attn", "flash_attn/cute/__init__.py", (20, 0))
    trial = failed("flash_attn.cute", Cause.MISSING_NAME, "ThrMma", "AttributeError: no attribute 'ThrMma'")
    here = environment(flash_attn="2.8.3+cu13", flash_attn_4="4.0.0b36")
    facts = machine(here, clobbered=(lying,), imports={"flash-attn": ImportTrial("flash_attn"), "flash-attn-4": trial})
    mend = "pip install --force-reinstall --no-deps flash-attn-4==4.0.0b36"
    broken = one("install-broken", facts)
    assert "its files were overwritten by flash-attn 2.8.3+cu13" in broken.message
    assert paste(broken) == mend
    clobbered = one("files-clobbered", facts)
    assert (clobbered.severity, paste(clobbered)) == (Severity.ERROR, mend)
    assert "ThrMma" in clobbered.message


def test_an_import_that_takes_too_long_is_given_time_before_it_is_reinstalled() -> None:
    trial = failed("triton", Cause.SLOW, why="did not finish importing within 2 s (it was in triton/a.py:3)")
    finding = one("install-broken", machine(environment(triton="3.6.0"), imports={"triton": trial}))
    assert finding.severity is Severity.WARNING
    assert finding.message == "triton 3.6.0 did not finish importing within 2 s (it was in triton/a.py:3)"
    assert "broken" not in finding.message + finding.headline
    stuck = machine(environment(triton="3.6.0"), imports={"triton": replace(trial, cause=Cause.HANG)})
    assert one("install-broken", stuck).severity is Severity.ERROR
    (advice,) = finding.recommendations
    assert advice.settings[0].paste == "attncheck doctor --check install-broken --timeout 600"
    assert "triton==3.6.0" in advice.settings[1].paste


def test_a_version_that_nobody_could_read_is_not_pinned() -> None:
    trial = failed("triton", Cause.OTHER)
    here = environment(triton="unknown")
    assert paste(one("install-broken", machine(here, imports={"triton": trial}))).endswith("--no-cache-dir triton")


def test_a_library_that_fails_inside_another_one_is_mended_there() -> None:
    """TransformerEngine imports flash-attn-4 when it is installed: reinstalling TransformerEngine mends nothing."""
    owners = (("flash-attn", "2.8.3+cu13"), ("flash-attn-4", "4.0.0b36"))
    lying = Clobbered(owners, 20, "flash-attn", "flash_attn/cute/__init__.py", (20, 0))
    where = "flash_attn/cute/utils.py:44"
    trials = {
        "flash-attn-4": failed("flash_attn.cute", Cause.MISSING_NAME, "ThrMma", where=where),
        "transformer-engine": failed("transformer_engine", Cause.MISSING_NAME, "ThrMma", where=where),
    }
    here = environment(flash_attn="2.8.3+cu13", flash_attn_4="4.0.0b36", transformer_engine="2.20.2")
    own, other = judged("install-broken", machine(here, clobbered=(lying,), imports=trials))
    mend = "pip install --force-reinstall --no-deps flash-attn-4==4.0.0b36"
    assert (paste(own), paste(other)) == (mend, mend)
    assert "flash-attn-4 fails, and its package is imported first" in other.message
    elsewhere = {
        **trials,
        "transformer-engine": replace(trials["transformer-engine"], where="transformer_engine/a.py:1"),
    }
    _, alone = judged("install-broken", machine(here, imports=elsewhere))
    assert "transformer-engine[pytorch]" in paste(alone)


@pytest.mark.parametrize(
    ("intact", "matches", "severity", "reinstalled"),
    [
        ("flash-attn", (20, 0), Severity.ERROR, "flash-attn-4"),
        ("flash-attn-4", (0, 20), Severity.NOTE, "flash-attn-4"),
        ("", (3, 17), Severity.ERROR, "flash-attn-4"),
    ],
)
def test_who_overwrote_whom(intact: str, matches: tuple[int, int], severity: Severity, reinstalled: str) -> None:
    owners = (("flash-attn", "2.8.3"), ("flash-attn-4", "4.0.0"))
    facts = machine(clobbered=(Clobbered(owners, 20, intact, "flash_attn/cute/mask.py", matches),))
    finding = one("files-clobbered", facts)
    assert (finding.severity, finding.basis) == (severity, Basis.STATIC)
    assert f" {reinstalled}==4.0.0" in paste(finding)


def test_overwritten_files_that_import_all_the_same_are_a_warning() -> None:
    lying = Clobbered((("triton", "3.6.0"), ("pytorch-triton", "3.5.0")), 9, "pytorch-triton", "triton/x.py", (0, 9))
    facts = machine(clobbered=(lying,), imports={"triton": ImportTrial("triton")})
    finding = one("files-clobbered", facts)
    assert finding.severity is Severity.WARNING
    assert paste(finding).endswith("triton==3.6.0")


def test_a_parent_package_that_fails_is_named() -> None:
    trial = failed("flash_attn", Cause.UNDEFINED_SYMBOL, SYMBOL, "undefined symbol", "a.so")
    imports = {"flash-attn": trial, "flash-attn-4": replace(trial, module="flash_attn.cute")}
    facts = machine(environment(flash_attn="2.8.3", flash_attn_4="4.0.0"), imports=imports)
    _, second = broken_installs(facts)
    assert "flash-attn fails, and its package is imported first" in second.message
    assert "flash-attn==2.8.3" in paste(second)


def test_several_copies_say_which_is_used() -> None:
    finding = one("several-copies", machine(copies=(Copies("xformers", (("/a", "0.0.30"), ("/b", "0.0.35"))),)))
    assert finding.severity is Severity.WARNING
    assert "0.0.30 in /a is used, hidden are 0.0.35 in /b" in finding.message
    assert paste(finding).startswith("pip uninstall -y xformers && pip uninstall -y xformers && pip install")
    same = one("several-copies", machine(copies=(Copies("xformers", (("/a", "1"), ("/b", "1"))),)))
    assert same.severity is Severity.NOTE
    left = one("several-copies", machine(copies=(Copies("xformers", (("/a", "1"), ("/a", "2"))),)))
    assert "2 versions of xformers are recorded in one folder" in left.message


def test_a_build_for_another_torch_is_judged_by_what_was_tried() -> None:
    here = environment(xformers="0.0.35")
    facts = machine(here, builds={"xformers": XFORMERS}, versions={"xformers": "0.0.35"})
    finding = one("built-for-another-torch", facts)
    assert finding.severity is Severity.WARNING
    assert "built for torch 2.10.0+cu128, here runs torch 2.11.0+cu130" in finding.message
    assert "built for CUDA 12.8, torch here is built for CUDA 13.0" in finding.message
    assert paste(finding).endswith("xformers --index-url https://download.pytorch.org/whl/cu130")
    sound = one("built-for-another-torch", replace(facts, imports={"xformers": ImportTrial("xformers")}))
    assert sound.severity is Severity.NOTE
    told = {"xformers": ImportTrial("xformers", complaints=("can't load C++/CUDA extensions",))}
    assert judged("built-for-another-torch", replace(facts, imports=told)) == ()


def test_a_library_for_another_python() -> None:
    facts = machine(builds={"flash-attn": replace(FLASH, python="cp311")})
    assert "built for Python cp311, here runs cp312" in one("built-for-another-torch", facts).message


def test_libraries_of_cuda_itself_are_not_measured_by_torch() -> None:
    facts = machine(builds={"nvidia-cudnn-cu12": Build(cuda="12"), "bitsandbytes": Build(cuda="12")})
    assert judged("built-for-another-torch", facts) == ()


def test_operators_that_are_missing() -> None:
    complaint = ImportTrial("xformers", complaints=("xFormers can't load C++/CUDA extensions",))
    facts = machine(environment(xformers="0.0.35"), builds={"xformers": XFORMERS}, imports={"xformers": complaint})
    finding = one("operators-missing", facts)
    assert (finding.severity, finding.basis) == (Severity.ERROR, Basis.MEASURED)
    assert "xformers 0.0.35 is installed but without operators" in finding.message
    assert "built for torch 2.10.0+cu128" in finding.message
    called = ImportTrial("xformers", operation="xformers", operation_failure=Crashed("exception", "No operator found"))
    silent = one("operators-missing", replace(facts, imports={"xformers": called}))
    assert "No operator found" in silent.evidence.effective
    works = replace(complaint, operation="xformers.ops.memory_efficient_attention")
    assert one("operators-missing", replace(facts, imports={"xformers": works})).severity is Severity.WARNING
    on_cpu = replace(facts, environment=replace(facts.environment, gpus=()))
    assert one("operators-missing", on_cpu).severity is Severity.WARNING


def test_what_torch_could_not_say_of_itself_is_no_missing_operator() -> None:
    trial = ImportTrial("torch", operation="torch-state", operation_failure=Crashed("exception", "odd"))
    assert judged("operators-missing", machine(imports={"torch": trial})) == ()


def test_every_gpu_without_code_is_named() -> None:
    here = environment(H100, T4, flash_attn="2.8.3")
    finding = one("no-kernel-image", machine(here, builds={"flash-attn": FLASH}))
    assert finding.severity is Severity.WARNING
    assert "holds no code for GPU 1 (Tesla T4, 7.5): it is built for 9.0" in finding.message
    (only,) = finding.recommendations
    assert "would not help, it needs compute capability 8.0 or newer" in only.text
    assert not only.settings
    ptx = replace(FLASH, architectures=("7.0+PTX", "9.0"))
    assert judged("no-kernel-image", machine(here, builds={"flash-attn": ptx})) == ()


def test_a_library_is_compiled_for_every_gpu_that_it_supports() -> None:
    others = (L4, replace(T4, index=2))
    here = environment(H100, *others, flash_attn="2.8.3", xformers="0.0.35")
    facts = machine(here, builds={"flash-attn": FLASH, "xformers": replace(FLASH, torch="2.11")})
    flash, xformers = judged("no-kernel-image", facts)
    assert "GPU 1 (NVIDIA L4, 8.9), GPU 2 (Tesla T4, 7.5)" in flash.message
    assert paste(flash).startswith('FLASH_ATTENTION_FORCE_BUILD=TRUE FLASH_ATTN_CUDA_ARCHS="90;80" pip install')
    assert paste(xformers).startswith('TORCH_CUDA_ARCH_LIST="9.0;8.9;7.5" pip install')
    cpu = judged("no-kernel-image", machine(replace(here, torch_cuda=""), builds={"flash-attn": FLASH}))
    assert not any(advice.settings for finding in cpu for advice in finding.recommendations)


def test_a_torch_without_code_for_the_gpu_is_an_error() -> None:
    old = replace(TORCH, architectures=("8.0", "9.0"))
    assert one("no-kernel-image", machine(environment(RTX), builds={"torch": old})).severity is Severity.ERROR
    said = TorchState("2.5.0", architectures=("sm_80", "sm_90a"))
    unread = machine(environment(RTX), builds={"torch": Build()}, torch=said)
    assert "it is built for 8.0, 9.0a" in one("no-kernel-image", unread).message
    jit = replace(said, architectures=("sm_80", "compute_90"))
    assert judged("no-kernel-image", machine(environment(RTX), builds={"torch": Build()}, torch=jit)) == ()


def test_a_driver_that_is_too_old_offers_the_build_it_can_run() -> None:
    old = replace(environment(), driver="550.1 (CUDA 12.4)")
    finding = one("driver-too-old", machine(old))
    assert (finding.severity, finding.basis) == (Severity.WARNING, Basis.STATIC)
    assert paste(finding).endswith("/whl/cu124")
    broken = TorchState("2.11.0+cu130", cuda="13.0", cuda_error="The NVIDIA driver on your system is too old")
    measured = one("driver-too-old", machine(old, torch=broken))
    assert (measured.severity, measured.basis) == (Severity.ERROR, Basis.MEASURED)
    assert "too old" in measured.message
    assert judged("driver-too-old", machine(old, torch=replace(broken, cuda_available=True))) == ()


def test_a_stand_in_package_is_not_the_library() -> None:
    facts = machine(packages={"flash_attn": ("fake-flash-attention",)}, versions={"fake-flash-attention": "0.1"})
    finding = one("foreign-module", facts)
    assert finding.severity is Severity.WARNING
    assert "flash_attn comes from fake-flash-attention 0.1, and flash-attn is not installed" in finding.message
    assert paste(finding) == "pip uninstall -y fake-flash-attention"


def test_the_cute_of_flash_attn_2_is_not_flash_attn_4() -> None:
    packages = {"flash_attn": ("flash-attn",), "flash_attn.cute": ("flash-attn",)}
    finding = one("foreign-module", machine(environment(flash_attn="2.8.3"), packages=packages))
    assert finding.severity is Severity.NOTE
    assert "flash_attn.cute comes from flash-attn, and flash-attn-4 is not installed" in finding.message


def test_a_module_without_any_package() -> None:
    for origin, advice in (
        ("/proj/flash_attn", "Remove that folder unless it is meant, and install flash-attn."),
        ("/proj/flash_attn.py", "Rename or remove that file unless it is meant, and install flash-attn."),
    ):
        stray = Library("flash-attn", None, "no package metadata", origin)
        here = replace(environment(), libraries=(*environment().libraries, stray))
        finding = one("foreign-module", machine(here))
        assert f"`import flash_attn` would load {origin})" in finding.message
        assert finding.recommendations[0].text == advice


@pytest.mark.parametrize(
    ("library", "severity", "mend"),
    [
        (Library("torch", "2.11.0", origin="/proj/torch.py"), Severity.ERROR, "mv /proj/torch.py /proj/my_torch.py"),
        (Library("transformers", "5.23.0", origin="/proj/transformers"), Severity.ERROR, "mv /proj/transformers "),
        (
            Library("transformers", "5.23.0", origin="/src/transformers", copy=True),
            Severity.WARNING,
            "unset PYTHONPATH",
        ),
        (Library("flash-attn-4", "4.0.0", origin="/proj/flash_attn.py"), Severity.WARNING, "mv /proj/flash_attn.py "),
    ],
)
def test_what_stands_before_an_installed_library(library: Library, severity: Severity, mend: str) -> None:
    others = (Library("torch", "2.11.0"), Library("transformers", "5.23.0"))
    libraries = (*(entry for entry in others if entry.name != library.name), library)
    finding = one("foreign-module", machine(replace(environment(), libraries=libraries)))
    assert finding.severity is severity
    assert library.origin in finding.message
    assert paste(finding).startswith(mend)


def test_a_torch_that_cannot_say_what_it_is_is_broken() -> None:
    said = Crashed("exception", "AttributeError: module 'torch' has no attribute '__version__'")
    facts = machine(imports={"torch": ImportTrial("torch", operation="torch-state", operation_failure=said)})
    finding = one("install-broken", facts)
    assert (finding.severity, paste(finding)[:28]) == (Severity.ERROR, "pip install --force-reinstal")
    assert "cannot be asked for its own state: AttributeError" in finding.message
    usable = replace(facts, implementations=usable_here(facts.environment))
    assert not any(entry.status is Status.OK for entry in importable(usable))
    stray = replace(facts.environment, libraries=(Library("torch", "2.11.0", origin="/proj/torch.py"),))
    shadowed = one("install-broken", replace(facts, environment=stray))
    assert "`import torch` loads /proj/torch.py" in shadowed.message
    assert paste(shadowed) == "mv /proj/torch.py /proj/my_torch.py"
    slow = ImportTrial("torch", operation="torch-state", operation_failure=Crashed("timeout", "did not finish"))
    assert one("install-broken", replace(facts, imports={"torch": slow})).severity is Severity.WARNING


def test_operators_that_nobody_called_are_not_run() -> None:
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == "operators-missing")
    facts = machine(environment(xformers="0.0.35"), imports={"xformers": ImportTrial("xformers")})
    assert check.refusal(facts) == "xformers imports, but torch can use no GPU here: its operators were not called"
    broken = ImportTrial("xformers", Crashed("exception", "it broke"), Cause.OTHER)
    assert "was not imported" in check.refusal(replace(facts, imports={"xformers": broken}))
    assert check.refusal(replace(facts, imports={"torch": ImportTrial("torch")})) == ""
    loud = ImportTrial("bitsandbytes", complaints=("library load error",))
    both = replace(facts, imports={"xformers": ImportTrial("xformers"), "bitsandbytes": loud})
    assert check.refusal(both) == "", "what is found is told"


def test_what_mends_transformer_engine_names_what_is_installed() -> None:
    def mend(versions: Mapping[str, str], **here: str) -> str:
        trial = {"transformer-engine": failed("transformer_engine", Cause.OTHER)}
        alone = environment(transformer_engine="2.20.2", **here)
        return paste(one("install-broken", machine(alone, imports=trial, versions=versions)))

    assert mend({}, cuda="") == "pip uninstall transformer-engine"
    parts = {"transformer-engine-torch": "2.20.2", "transformer-engine-cu13": "2.20.2"}
    assert mend(parts, cuda="") == f"pip uninstall transformer-engine {' '.join(parts)}"
    assert mend({}) == 'pip install --no-build-isolation "transformer-engine[pytorch]==2.20.2"'
    assert mend(parts).endswith("--no-build-isolation transformer-engine-torch==2.20.2")


def test_unmet_requirements_are_listed_once_a_package() -> None:
    unmet = (Unmet("flash-attn-4", "4.0", "einops"), Unmet("flash-attn-4", "4.0", "quack-kernels>=0.5", "0.1"))
    finding = one("requirement-unmet", machine(unmet=unmet))
    assert paste(finding) == 'pip install "einops" "quack-kernels>=0.5"'
    assert "quack-kernels>=0.5: 0.1" in finding.evidence.effective
    assert finding.message.endswith("einops (not installed), quack-kernels>=0.5 (0.1 is installed)")


def test_files_that_are_gone() -> None:
    gone = Incomplete("flash-attn-4", "4.0.0", 20, "flash_attn/cute/mask.py")
    finding = one("files-missing", machine(incomplete=(gone,)))
    assert finding.severity is Severity.ERROR
    assert paste(finding).endswith("flash-attn-4==4.0.0")
    works = machine(incomplete=(gone,), imports={"flash-attn-4": ImportTrial("flash_attn.cute")})
    assert one("files-missing", works).severity is Severity.WARNING


def test_kernels_that_would_be_fetched_instead() -> None:
    here = environment(kernels="0.18.3")
    finding = one("silent-fallback", machine(here))
    assert finding.severity is Severity.NOTE
    assert "kernels-community/flash-attn2" in finding.message
    assert judged("silent-fallback", machine(environment(kernels="0.10.0"))) == ()
    (check,) = (check for check in doctor.machine_checks() if check.rule.slug == "silent-fallback")
    assert check.refusal(machine(replace(here, gpus=()))) == "no GPU here"


def test_the_wheel_that_fits() -> None:
    assert wheel_tag(machine(environment(torch="2.8.0+cu129", cuda="12.9"))) == "cu12torch2.8cxx11abiTRUE-cp312"
