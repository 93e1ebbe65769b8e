"""`packing` and `neat_packing` of LLaMA-Factory: which masks reach which implementation, by version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attncheck.findings import Recommendation, Severity
from attncheck.frameworks import llama_factory_words
from attncheck.frameworks.llama_factory_versions import REFUSED, Packed
from attncheck.frameworks.plugin import Fails, Outcome, Remark, Runs

if TYPE_CHECKING:
    from attncheck.frameworks.llama_factory_run import Chain, Run

COLLATOR = "data/collator.py, SFTDataCollatorWith4DAttentionMask"
PATCH = "model/model_utils/packing.py, configure_packing"
PROCESSOR = "data/processor/supervised.py, PackedSupervisedDatasetProcessor"
PARSER = "hparams/parser.py, get_train_args"
FLASH = "flash_attention_2"


@dataclass(frozen=True, slots=True)
class Packing:
    """Scenarios that such a run meets: `scenarios` count as used, `beside` do not. remedies: what to change there."""

    scenarios: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    remedies: Mapping[str, tuple[Recommendation, ...]] = field(default_factory=dict)


def resolve(chain: Chain, outcome: Runs) -> tuple[Outcome, Packing]:
    """What packing adds to an implementation that runs."""
    run = chain.run
    stage = run.text("stage") or "sft"
    neat = bool(run.settings.get("neat_packing"))
    if not run.trainable:
        for key in [name for name in ("packing", "neat_packing") if run.settings.get(name)]:
            chain.step("not judged: without do_train: true nothing trains (--use train judges it)", PARSER, key)
        return outcome, Packing()
    if neat and stage != "sft":
        chain.step(f"refused in stage {stage}", PARSER, "neat_packing")
        return Fails("ValueError", "`neat_packing` cannot be set as True except SFT.", "neat_packing"), Packing()
    if neat:
        return _neat(chain, outcome)
    if run.settings.get("packing") and stage == "sft":
        chain.step(
            "documents share a row under an all-ones mask; only position_ids say where they begin", PROCESSOR, "packing"
        )
        return outcome, Packing(beside=("plain-packing",), remedies={"plain-packing": _neatly(run, outcome)})
    return outcome, Packing()


def _neatly(run: Run, outcome: Runs) -> tuple[Recommendation, ...]:
    """neat_packing with what it takes to run there; not to pack where it would end the run."""
    model_type, form, flash = run.facts.model_type, run.release.packed, outcome.implementation == FLASH
    refused = form is Packed.NONE or (form is Packed.PATCHED and model_type not in run.release.packed_types)
    if refused or (form is Packed.POSITIONS and flash and model_type in REFUSED):
        return (llama_factory_words.changed(run, {"packing": False}, "Do not pack."),)
    values: dict[str, Any] = {"neat_packing": True}
    if form is Packed.POSITIONS and flash and llama_factory_words.batch(run) != 1:
        values["per_device_train_batch_size"] = 1
    return (llama_factory_words.changed(run, values, "Keep documents apart with neat_packing."),)


def _neat(chain: Chain, outcome: Runs) -> tuple[Outcome, Packing]:
    run, form = chain.run, chain.run.release.packed
    apart = _apart(run)
    if form is Packed.PATCHED and run.facts.model_type not in run.release.packed_types:
        chain.step(f"{run.named} knows no {run.facts.model_type} there", PATCH, "neat_packing")
        return Fails(
            "ValueError", "Current model does not support block diagonal attention.", "neat_packing"
        ), Packing()
    if outcome.implementation != FLASH:
        return _four_dimensional(chain, outcome, apart)
    if form is Packed.POSITIONS:
        if run.facts.model_type in REFUSED:
            chain.step(f"refused for {run.facts.model_type} under {FLASH}", COLLATOR, "neat_packing")
            reason = "Neat packing is not supported for gemma4, gpt_oss models for now."
            return Fails("ValueError", reason, "neat_packing"), Packing()
        chain.step(f"under {FLASH}: no mask, one unpadded row, position_ids that start again", COLLATOR, "neat_packing")
        if (size := llama_factory_words.batch(run)) != 1:
            said = run.text("per_device_train_batch_size")
            chain.step(
                f"{size} rows a batch, but {run.named} asserts 1" + ("" if said else " (8 is transformers' default)"),
                COLLATOR,
                "per_device_train_batch_size",
            )
            reason = f"bsz should be 1 for neat packing (per_device_train_batch_size is {size})"
            return Fails("AssertionError", reason, "per_device_train_batch_size"), Packing()
        return outcome, Packing(("neat-packing",), remedies={"neat-packing": apart})
    if form is Packed.INDEX:
        chain.step(
            f"under {FLASH}: the numbers of the documents as a 2D mask, and transformers' _get_unpad_data is replaced",
            PATCH,
            "neat_packing",
        )
        return outcome, Packing(("neat-packing-index",), remedies={"neat-packing-index": apart})
    chain.step(f"under {FLASH}: the model's own file is patched; not measured here", PATCH, "neat_packing")
    return outcome, Packing()


def _four_dimensional(chain: Chain, outcome: Runs, apart: tuple[Recommendation, ...]) -> tuple[Outcome, Packing]:
    """Every name but "flash_attention_2" gets the 4D mask, those of other flash kernels too."""
    run = chain.run
    chain.step(
        f"{outcome.implementation} gets a 4D mask: causal inside each document, and no sliding window in it",
        COLLATOR,
        "neat_packing",
    )
    if "flash" in outcome.implementation:
        chain.remarks.append(
            Remark(
                "backend-unusable",
                Severity.ERROR,
                f"neat_packing hands a 4D mask to {outcome.implementation}, which takes padding masks of two "
                'dimensions only: the collator knows no flash implementation but the one named "flash_attention_2"',
                "neat_packing",
                apart,
                evidence=COLLATOR,
                implementation=outcome.implementation,
            )
        )
        return outcome, Packing()
    scenario = "neat-packing" if run.release.packed is Packed.POSITIONS else "neat-packing-index"
    return outcome, Packing((scenario,), remedies={scenario: apart})


def _apart(run: Run) -> tuple[Recommendation, ...]:
    """One document a row is right whatever the mask of neat_packing holds. `packing` alone would mix documents."""
    values = llama_factory_words.unpacked(run)
    return (llama_factory_words.changed(run, values, "Do not pack: one document a row."),)
