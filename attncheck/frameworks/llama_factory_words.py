"""What to change in LLaMA-Factory's settings, in its own words, as a diff of the user's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attncheck.findings import Recommendation, Setting
from attncheck.frameworks.llama_factory_versions import REFUSED, Packed
from attncheck.frameworks.plugin import Fails, Outcome, Runs
from attncheck.frameworks.settings_diff import Form, change
from attncheck.frameworks.transformers import missing_for

if TYPE_CHECKING:
    from attncheck.frameworks.llama_factory_run import Run

NAME = "llama-factory"
INSTALL = "pip install flash-attn --no-build-isolation"
#: transformers' TrainingArguments.
DEFAULT_BATCH = 8


def recommend(run: Run, implementation: str, outcome: Outcome) -> Recommendation:
    """How to make LLaMA-Factory run an implementation; without a setting where it has none for it."""
    if isinstance(outcome, Runs) and outcome.implementation == implementation and not _fell_back(run, implementation):
        return Recommendation(f"keep the settings: they give {implementation}")
    value = value_for(run, implementation)
    if value is None:
        return Recommendation(f"{run.named} has no setting for {implementation}")
    first = INSTALL if value == "fa2" and missing_for(run.environment, implementation) else ""
    return changed(run, values_for(run, value), f"use {implementation} in LLaMA-Factory", first)


def value_for(run: Run, implementation: str) -> str | None:
    """The value of `flash_attn` for an implementation of transformers; None without one."""
    if dict(run.release.kernels).get(run.facts.model_type):
        return None
    return next((value for value, name in run.release.values if name == implementation), None)


def values_for(run: Run, value: str) -> dict[str, Any]:
    """`flash_attn` and what must change with it: from 0.9.5 on, neat_packing under fa2 takes one row a batch.

    Where it is refused there, nothing may be packed; `packing` alone would mix documents.
    """
    values: dict[str, Any] = {"flash_attn": value}
    by_position = run.release.packed is Packed.POSITIONS and value == "fa2"
    if not by_position or not run.settings.get("neat_packing"):
        return values
    if run.facts.model_type in REFUSED:
        return values | unpacked(run)
    if batch(run) != 1:
        values["per_device_train_batch_size"] = 1
    return values


def unpacked(run: Run) -> dict[str, Any]:
    """What packs nothing at all."""
    return {"neat_packing": False} | ({"packing": False} if run.settings.get("packing") else {})


def batch(run: Run) -> int:
    """Rows of a training batch on one device."""
    size = run.settings.get("per_device_train_batch_size")
    return DEFAULT_BATCH if size is None else int(size)


def changed(run: Run, values: Mapping[str, Any], text: str, first: str = "") -> Recommendation:
    """A change of settings, to paste.

    first: a command that must run before. It stands as a comment above the diff, and by itself where nothing changes.
    """
    key, value = next(iter(values.items()))
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    diff = change(run.asked, values, _form(run))
    if first:
        diff = f"# first: {first}\n{diff}" if diff else f"{first}  # the settings stay as they are"
    return Recommendation(text, (Setting(NAME, key, shown, diff),))


def _form(run: Run) -> Form:
    """How a change is written where the file allows no diff."""
    if run.release.arguments:
        return Form.ARGUMENTS
    return Form.LINES if run.asked.file else Form.FLAGS


def fixes(run: Run, outcome: Outcome) -> tuple[Recommendation, ...]:
    """What to change where the run ends with an error, by the setting; () where the implementation must change."""
    if not isinstance(outcome, Fails) or outcome.setting == "flash_attn":
        return ()
    if outcome.setting == "per_device_train_batch_size":
        return (changed(run, {"per_device_train_batch_size": 1}, "One packed row a batch."),)
    if outcome.setting == "neat_packing":
        return (changed(run, unpacked(run), "Do not pack."),)
    if outcome.setting == "use_unsloth":
        install = Recommendation("pip install unsloth")
        return (install, changed(run, {"use_unsloth": False}, "Or load with transformers."))
    return (changed(run, {outcome.setting: False}, "Switch it off."),)


def without_flash(run: Run) -> tuple[Recommendation, ...]:
    """What helps where flash-attn is missing: install it, or say what runs anyway."""
    found = [Recommendation(f"install flash-attn (a GPU is needed): {INSTALL}")]
    default = run.facts.support.default
    value = value_for(run, default) if default else None
    if value is not None:
        found.append(changed(run, {"flash_attn": value}, f"ask for what runs anyway, {default}"))
    return tuple(found)


def _fell_back(run: Run, runs: str) -> bool:
    """True where the settings name another implementation than the one that runs."""
    return run.release.implementation(run.text("flash_attn") or "auto") not in ("", runs)
