"""transformers: what `attn_implementation=` really leads to on this machine, and the settings to paste."""

from __future__ import annotations

import json

from packaging.version import Version

from attncheck.environment import Environment
from attncheck.findings import Recommendation, Setting
from attncheck.frameworks.flash_kernels import CONTRACTS, KNOWN_SINCE, Fallback, fallback, first_for, parsed
from attncheck.frameworks.interface import ClassSupport, Decision, Redirected, Unavailable, Usable
from attncheck.semantics.observation import Reason, Rejected

NAME = "transformers"

#: Distribution behind each flash name, and the oldest version transformers takes (`is_flash_attn_2_available`, 5.23).
FLASH_PACKAGES = {
    "flash_attention_2": ("flash-attn", "2.3.3"),
    "flash_attention_3": ("flash-attn-3", ""),
    "flash_attention_4": ("flash-attn-4", ""),
}

#: The auto class that loads each kind of model, for settings to paste.
AUTO_CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "masked-lm": "AutoModelForMaskedLM",
    "text": "AutoModelForImageTextToText",
    "base": "AutoModel",
}

_DISPATCH = "PreTrainedModel._check_and_adjust_attn_implementation"


def implementations() -> tuple[str, ...]:
    """Every implementation name of transformers that attncheck knows, `eager` first."""
    return ("eager", *sorted(KNOWN_SINCE, key=lambda name: Version(KNOWN_SINCE[name])))


def default_implementations(support: ClassSupport, environment: Environment) -> tuple[str, ...]:
    """What to probe when nobody named an implementation: every one the version knows that a user is likely to meet.

    flash_attention_2 (or the flash name that the class insists on) always; 3 and 4 only where installed.
    Names the class refuses stay in: the refusal and its reason belong into the report.
    """
    names = [name for name in ("eager", "sdpa", "flex_attention") if _known(name, support.version)]
    insisted = [name for name in support.compatible_flash or () if name in FLASH_PACKAGES]
    if support.compatible_flash is None or "flash_attention_2" in insisted:
        names.append("flash_attention_2")
    installed = [name for name, (package, _) in FLASH_PACKAGES.items() if environment.version(package) is not None]
    names += [name for name in (*insisted, *installed) if _known(name, support.version)]
    return tuple(dict.fromkeys(names))


def decide(support: ClassSupport, environment: Environment, implementation: str) -> Decision:
    """What transformers does when this implementation is asked for here, read from its dispatch code, nothing imported.

    Names it does not know are taken to be registered by a plug-in: whether they are shows when they run.
    """
    if implementation == "eager":
        return Usable(implementation)
    if not _known(implementation, support.version):
        return _too_old(support, implementation)
    if support.supports.get(implementation) is False:
        return _refused(support, implementation)
    if implementation not in FLASH_PACKAGES:
        return Usable(implementation)
    if support.compatible_flash is not None and implementation not in support.compatible_flash:
        return _insisted(support, environment, implementation)
    return _flash(support, environment, implementation)


def _known(implementation: str, version: str) -> bool:
    since = KNOWN_SINCE.get(implementation)
    return since is None or parsed(version) >= Version(since)


def _too_old(support: ClassSupport, implementation: str) -> Rejected:
    since = KNOWN_SINCE[implementation]
    return Rejected(
        (
            Reason(
                f"transformers {support.version} does not know {implementation}",
                limit=f"transformers >= {since}",
                actual=f"transformers {support.version}",
                source="transformers release history",
            ),
        )
    )


def _refused(support: ClassSupport, implementation: str) -> Rejected:
    flag = {"sdpa": "_supports_sdpa", "flex_attention": "_supports_flex_attn"}.get(
        implementation, "_supports_flash_attn"
    )
    return Rejected(
        (
            Reason(
                f"{support.model_class} does not declare support for {implementation}; transformers raises ValueError",
                limit=f"{flag} = True",
                actual=f"{flag} = False",
                source=f"{support.model_class}, transformers {support.version}",
            ),
        )
    )


def _insisted(support: ClassSupport, environment: Environment, implementation: str) -> Decision:
    """The class accepts some flash implementations only, and transformers silently takes the first of them."""
    compatible = support.compatible_flash or ()
    actual = first_for("cuda" if environment.gpus else "cpu", compatible)
    reason = Reason(
        f"{support.model_class} accepts only {', '.join(compatible)}; transformers takes {actual} "
        f"instead of {implementation}, with one line in the log",
        limit="_compatible_flash_implementations",
        actual=implementation,
        source=f"{support.model_class}; {_DISPATCH}",
    )
    contract = actual if actual in FLASH_PACKAGES else CONTRACTS.get(actual)
    if actual in FLASH_PACKAGES:
        missing = missing_for(environment, actual)
    else:
        missing = _no_kernels(environment, actual, fallback(support.version)) or _no_gpu(environment)
    return Redirected(implementation, actual, (reason, *missing), available=not missing, contract=contract)


def _flash(support: ClassSupport, environment: Environment, implementation: str) -> Decision:
    missing = missing_for(environment, implementation)
    if not missing:
        return Usable(implementation)
    rules = fallback(support.version)
    repository = rules.repository(implementation) if rules is not None else None
    kernels = rules is not None and rules.accepts(environment.version("kernels"))
    # Without a GPU the hub kernel cannot be loaded either, and transformers raises the error for the missing package.
    if repository is None or not kernels or _no_gpu(environment):
        return Unavailable(implementation, missing)
    replaced = Reason(
        f"{missing[0].text.partition(';')[0]}, so transformers downloads and runs {repository} instead, "
        "with one line in the log",
        limit=missing[0].limit,
        actual=missing[0].actual,
        source=_DISPATCH,
    )
    return Redirected(implementation, repository, (replaced,), contract=CONTRACTS.get(repository))


def missing_for(environment: Environment, implementation: str) -> tuple[Reason, ...]:
    """What this machine lacks for a flash name; transformers raises ImportError for each. Empty: it is available."""
    package, oldest = FLASH_PACKAGES[implementation]
    version = environment.version(package)
    reasons: list[Reason] = []
    if version is None:
        reasons.append(
            Reason(
                f"the package {package} is not installed; transformers raises ImportError",
                limit=f"{package} installed",
                actual="not installed",
                source="package metadata; PreTrainedModel._flash_attn_can_dispatch",
            )
        )
    elif oldest and parsed(version) < Version(oldest):
        reasons.append(
            Reason(
                f"{package} {version} is too old; transformers raises ImportError",
                limit=f"{package} >= {oldest}",
                actual=version,
                source="transformers.utils.is_flash_attn_2_available",
            )
        )
    return (*reasons, *_no_gpu(environment))


def _no_gpu(environment: Environment) -> tuple[Reason, ...]:
    if not environment.gpus:
        note = environment.gpu_note or "no GPU is visible"
        return (Reason("flash attention needs a GPU", limit="a visible CUDA GPU", actual=note, source="NVML"),)
    if environment.torch_cuda == "":
        text = "flash attention needs a torch that is built for CUDA"
        return (Reason(text, limit="torch built for CUDA", actual="built without CUDA", source="torch/version.py"),)
    return ()


def _no_kernels(environment: Environment, repository: str, rules: Fallback | None) -> tuple[Reason, ...]:
    version = environment.version("kernels")
    if rules is None or rules.accepts(version):
        return ()
    bounds = " and ".join(
        text
        for text in (
            f">= {rules.kernels_min}" if rules.kernels_min else "",
            f"< {rules.kernels_below}" if rules.kernels_below else "",
        )
        if text
    )
    return (
        Reason(
            f"{repository} comes through the package kernels, which is not usable here",
            limit=f"kernels {bounds}".strip(),
            actual=version or "not installed",
            source=f"is_kernels_available, transformers {rules.since}",
        ),
    )


def settings(
    implementation: str,
    *,
    kind: str = "causal-lm",
    target: str = "",
    sub_config: str = "",
    version: str = "",
) -> Recommendation:
    """How to make transformers use an implementation, ready to paste.

    kind: as in `ClassFacts.kind`. target: model id or path for the snippet ("" leaves a placeholder). sub_config: key
    of the only part that is meant; the others keep theirs ("" means the whole model). version: of transformers, ""
    unknown; `set_attn_implementation` is offered from 4.54 on.
    """
    value = f'{{"{sub_config}": "{implementation}"}}' if sub_config else f'"{implementation}"'
    auto = AUTO_CLASSES.get(kind, "AutoModel")
    model = json.dumps(target, ensure_ascii=False) if target else "model_id"  # a path may hold quotes, backslashes
    found = [
        Setting(
            NAME,
            "attn_implementation",
            value,
            f"model = {auto}.from_pretrained({model}, attn_implementation={value})",
        )
    ]
    if not version or parsed(version) >= Version("4.54"):
        found.append(Setting(NAME, "set_attn_implementation", value, f"model.set_attn_implementation({value})"))
    return Recommendation(f"use {implementation} in transformers", tuple(found))
