"""Whole hand-built reports for tests of what reads them."""

from __future__ import annotations

from dataclasses import replace

from attncheck.findings import Evidence, Finding, Recommendation, Severity
from attncheck.report import Check, Report
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.spec import AttentionSpec, MaskSpec, Note, Part, Window
from attncheck.verdicts import Cell, Implementation, LayerGroup, Model, Recommended, Status, Verdict
from tests.builders import CORE, ENVIRONMENT, GPU_ENVIRONMENT, OPT_IN, causal, cells, packed, setting, spec


def healthy_report() -> Report:
    """Mistral as it is: right in the core scenarios, packing and custom-mask traps as warnings."""
    leak = {"packed": "packing-leak"}
    traps = {"packed-batch": "packing-leak", "custom-mask": "mask-dropped"}
    flash = ("flash_attention_2", "flash_attention_3", "flash_attention_4")
    documents, whole = packed(11, 13), causal(24)
    windowed, dropped = (
        causal(24, 8),
        KeepMask.from_rule(24, 24, lambda i, j: j <= i and i - j < 8 and not (i >= 12 and j < 8)),
    )
    leaks = tuple(
        Finding(
            "ATC305",
            "packing-leak",
            Severity.WARNING,
            "Documents packed by position_ids see each other: nothing but position_ids says where a document ends, "
            "and the mask does not use them.",
            Basis.MEASURED,
            implementation=name,
            part=Part.DECODER,
            layers=tuple(range(32)),
            scenario="packed",
            evidence=Evidence(
                declared="query 11 starts document 2 and sees 1 key",
                requested="no mask, is_causal",
                effective="query 11 sees 12 keys",
                first_difference=(0, 11, 0),
                leaked=143,
                declared_mask=documents,
                effective_mask=whole,
            ),
            recommendations=(
                Recommendation(
                    "Pack with flash_attention_2, or pass a block-diagonal attention_mask.",
                    (setting("flash_attention_2"),),
                ),
            ),
        )
        for name in ("eager", "sdpa")
    )
    drops = tuple(
        Finding(
            "ATC306",
            "mask-dropped",
            Severity.WARNING,
            "The custom 4D mask never reaches the kernel: flash attention takes a padding mask only.",
            Basis.PREDICTED,
            implementation=name,
            part=Part.DECODER,
            layers=tuple(range(32)),
            scenario="custom-mask",
            variant="boolean",
            evidence=Evidence(
                declared="query 12 sees 5 keys",
                effective="query 12 sees 8 keys",
                first_difference=(0, 12, 5),
                leaked=9,
                declared_mask=dropped,
                effective_mask=windowed,
            ),
            recommendations=(Recommendation("Use sdpa or eager when you pass your own mask.", (setting("sdpa"),)),),
        )
        for name in flash
    )
    batch_leaks = tuple(
        Finding(
            "ATC305",
            "packing-leak",
            Severity.WARNING,
            "Documents packed by position_ids in a batch of 2 see each other.",
            Basis.PREDICTED,
            implementation=name,
            part=Part.DECODER,
            layers=tuple(range(32)),
            scenario="packed-batch",
        )
        for name in flash
    )
    return Report(
        command="compare",
        version="0.1.0",
        environment=ENVIRONMENT,
        arguments={"device": "cpu", "dtype": "float32", "use": "generate"},
        model=Model(
            "mistralai/Mistral-7B-v0.1",
            "catalog",
            "bundled catalog (verbatim)",
            "mistral",
            32,
            (LayerGroup(Part.DECODER, tuple(range(32)), spec(window=Window(4095, 0))),),
        ),
        implementations=(
            Implementation("eager", False, Basis.MEASURED, Status.OK),
            Implementation("sdpa", True, Basis.MEASURED, Status.OK, kernels=("sdpa-math",)),
            Implementation("flex_attention", False, Basis.MEASURED, Status.OK),
            *(Implementation(name, False, Basis.PREDICTED, Status.OK) for name in flash),
        ),
        core_scenarios=CORE,
        scenarios=(*CORE, *OPT_IN),
        matrix=(
            *cells("eager", Basis.MEASURED, leak),
            *cells("sdpa", Basis.MEASURED, leak),
            *cells(
                "flex_attention",
                Basis.MEASURED,
                {},
                {"output-attentions": "flex_attention returns no attention weights"},
            ),
            *(
                cell
                for name in flash
                for cell in cells(name, Basis.PREDICTED, traps, {"gradients": "no GPU kernel to differentiate here"})
            ),
        ),
        findings=(*leaks, *batch_leaks, *drops),
        recommended=Recommended(
            "sdpa",
            "right in every scenario of generate; the default",
            Recommendation("Nothing to change.", (setting("sdpa"),)),
        ),
    )


def faulty_report() -> Report:
    """A window lost in a decoder, an encoder off by one, a crash, a refusal, and a note on the config."""
    window, full = causal(24, 8), causal(24)
    narrow = KeepMask.from_rule(24, 24, lambda i, j: abs(i - j) <= 7)
    wide = KeepMask.from_rule(24, 24, lambda i, j: abs(i - j) <= 8)
    lost = tuple(
        Finding(
            "ATC101",
            "window-ignored",
            Severity.ERROR,
            "The window of 4096 tokens that config.json declares is not applied: every earlier token is seen.",
            Basis.PREDICTED,
            implementation="flash_attention_2",
            part=Part.DECODER,
            layers=tuple(range(1, 24)),
            scenario=scenario,
            evidence=Evidence(
                declared="8 keys: own token and 7 back",
                requested="no sliding_window argument in the call",
                effective="24 keys: own token and 23 back",
                first_difference=(0, 8, 0),
                leaked=136,
                declared_mask=window,
                effective_mask=full,
            ),
            reproduction=(
                "attncheck compare qwen2_moe --set use_sliding_window=true --impl flash_attention_2 --scenario plain"
            ),
            recommendations=(Recommendation("Use sdpa, which is right in every core scenario.", (setting("sdpa"),)),),
        )
        for scenario in CORE
    )
    off = Finding(
        "ATC102",
        "window-off-by-one",
        Severity.ERROR,
        "The encoder's window reaches 7 tokens to each side instead of 8.",
        Basis.PREDICTED,
        implementation="flash_attention_2",
        part=Part.ENCODER,
        layers=tuple(range(0, 24, 2)),
        scenario="plain",
        evidence=Evidence(
            declared="17 keys: 8 back, 8 ahead",
            requested="window_size=(7, 7)",
            effective="15 keys: 7 back, 7 ahead",
            first_difference=(1, 0, 8),
            missed=32,
            heads=(0, 2, 3),
            declared_mask=wide,
            effective_mask=narrow,
            requested_mask=narrow,
        ),
    )
    note = Finding(
        "ATC901",
        "config-not-honoured",
        Severity.NOTE,
        "No implementation applies `sliding_window` of this config.",
        Basis.MEASURED,
        recommendations=(Recommendation("Treat the checkpoint as one without a window."),),
    )
    slow = {"static-cache": "no static cache in this class"}
    return Report(
        command="compare",
        version="0.1.0",
        environment=GPU_ENVIRONMENT,
        arguments={"device": "cuda", "dtype": "bfloat16", "use": "train"},
        model=Model(
            "~/models/odd",
            "path",
            "config.json in ~/models/odd",
            "t5gemma",
            24,
            (
                LayerGroup(Part.DECODER, (0,), spec()),
                LayerGroup(
                    Part.DECODER, tuple(range(1, 24)), spec(1, window=Window(4095, 0), softcap=50.0, scale=0.0625)
                ),
                LayerGroup(Part.ENCODER, tuple(range(0, 24, 2)), spec(0, Part.ENCODER, Window(8, 8))),
                LayerGroup(
                    Part.CROSS,
                    tuple(range(24)),
                    AttentionSpec(Part.CROSS, 0, mask=MaskSpec(Window()), unknown=frozenset({"scale"})),
                ),
            ),
            (
                Note(
                    "window-switched-off",
                    "use_sliding_window is false, so the window of 131072 is not applied.",
                    "use_sliding_window",
                ),
            ),
        ),
        implementations=(
            Implementation("eager", False, Basis.MEASURED, Status.OK),
            Implementation("sdpa", True, Basis.MEASURED, Status.OK, kernels=("sdpa-flash", "sdpa-math")),
            Implementation("flash_attention_2", False, Basis.PREDICTED, Status.MISMATCH),
            Implementation(
                "flex_attention",
                False,
                None,
                Status.REJECTED,
                (
                    Reason(
                        "T5Gemma has no flex_attention support",
                        "_supports_flex_attn = True",
                        "False",
                        "transformers modeling_t5gemma.py",
                    ),
                ),
            ),
            Implementation(
                "my_kernel", False, None, Status.CRASHED, (Reason("the worker died of signal 11 (segmentation fault)"),)
            ),
        ),
        core_scenarios=CORE,
        scenarios=(*CORE, *OPT_IN),
        matrix=(
            *cells("eager", Basis.MEASURED, {}, slow),
            *cells("sdpa", Basis.MEASURED, {}, slow),
            *cells("flash_attention_2", Basis.PREDICTED, dict.fromkeys(CORE, "window-ignored"), slow),
            Cell(
                "flash_attention_2",
                "plain",
                "",
                Part.ENCODER,
                (0,),
                Verdict.MISMATCH,
                Basis.PREDICTED,
                difference="window-off-by-one",
            ),
            Cell(
                "my_kernel",
                "plain",
                "",
                Part.DECODER,
                (0,),
                Verdict.ERROR,
                None,
                reason="the worker died of signal 11 (segmentation fault)",
            ),
        ),
        findings=(*lost, off, note),
        recommended=Recommended(
            "sdpa", "right in every scenario of train", Recommendation("Load with sdpa.", (setting("sdpa"),))
        ),
    )


def doctor_report() -> Report:
    """A doctor's report of a machine with a GPU."""
    return Report(
        command="doctor",
        version="0.1.0",
        environment=GPU_ENVIRONMENT,
        implementations=(
            Implementation("eager", False, Basis.STATIC, Status.OK),
            Implementation("sdpa", True, Basis.STATIC, Status.OK),
            Implementation(
                "flash_attention_4",
                False,
                Basis.STATIC,
                Status.REJECTED,
                (Reason("the package is not installed", "flash-attn-4", "absent", "package metadata"),),
            ),
        ),
        checks=(Check("ATC601", "ok"), Check("ATC605", "not_run", "comes with the full doctor")),
    )


def silent_report() -> Report:
    """A report in which nothing reached a verdict."""
    report = healthy_report()
    idle = tuple(replace(cell, verdict=Verdict.NOT_RUN, basis=None, difference=None) for cell in report.matrix)
    return replace(report, matrix=idle, findings=(), recommended=None)
