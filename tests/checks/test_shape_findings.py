"""Findings about true sizes: a fault that fires each, quiet where all is right, and what runs break by their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attncheck import checks
from attncheck.checks import Options
from attncheck.checks.shape_results import mask_slug
from attncheck.checks.shapes import VARIANT
from attncheck.findings import Finding, Severity
from attncheck.render import interface
from attncheck.render import shapes as shape_pages
from attncheck.render.json import schema
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.shape import EXPLICIT_MASK, REPEATED, Errors, Shape, ShapeReading, WrongCells
from attncheck.semantics.spec import Part, Window
from attncheck.stored.report import read
from attncheck.verdicts import Status
from tests import runs, sample_reports
from tests.runs import layer, model

TINY = model(layer(7))
RECORDED = Path(__file__).parents[1] / "gpu" / "recorded"
SIZES = Shape(8, 4, 512, 512, Window(4095, 0))
FLASH = "flash_attention_2"
RIGHT = ShapeReading(
    "flash-attn-2",
    SIZES,
    Outcome.READ,
    Basis.MEASURED,
    FLASH,
    Part.DECODER,
    (0,),
    q_len=4224,
    kv_len=4224,
    kernel=Errors(0.003, 0.004, 0.009, 0.005),
    plain=Errors(0.008, 0.008, 0.007, 0.008),
    backward=Outcome.READ,
)
LIMIT = (Reason("the head size is not supported", "at most 256", "512", "flash_api.cpp"),)
REFUSED = replace(RIGHT, outcome=Outcome.REFUSED, reasons=LIMIT, documented=LIMIT, kernel=None, plain=None)
STATIC = replace(REFUSED, api=FLASH, basis=Basis.STATIC)
SDPA = replace(RIGHT, implementation="sdpa")
MATH = replace(SDPA, api="sdpa-math", picked=True)
FUSED = [replace(SDPA, api=f"sdpa-{name}", picked=False) for name in ("flash", "efficient", "cudnn")]


def conclusion(*shapes: ShapeReading, default: str = "sdpa", **options: Any) -> checks.Conclusion:
    names = ("sdpa", FLASH)
    seen = [runs.run(runs.calls(TINY.layers[0], runs.PLAIN), implementation=name) for name in names]
    given = runs.inputs(TINY, *seen, shapes=shapes, default=default, implementations=names, options=Options(**options))
    return checks.evaluate(given)


def findings(*shapes: ShapeReading, **fields: Any) -> list[Finding]:
    return [finding for finding in conclusion(*shapes, **fields).findings if finding.variant == VARIANT]


def one(*shapes: ShapeReading, **fields: Any) -> Finding:
    (found,) = findings(*shapes, **fields)
    return found


def test_right_readings_give_nothing() -> None:
    assert findings() == []
    assert findings(RIGHT, replace(RIGHT, variant=EXPLICIT_MASK), MATH, *FUSED) == []
    assert findings(replace(RIGHT, outcome=Outcome.NOT_RUN, kernel=None, detail="no memory")) == []


@pytest.mark.parametrize(
    ("reading", "fields", "severity"),
    [
        (REFUSED, {"implementations": frozenset({FLASH})}, Severity.ERROR),
        (REFUSED, {"default": FLASH}, Severity.ERROR),
        (REFUSED, {}, Severity.WARNING),
        (STATIC, {"implementations": frozenset({FLASH})}, Severity.WARNING),
        (STATIC, {}, Severity.WARNING),
    ],
)
def test_a_refused_shape(reading: ShapeReading, fields: dict[str, Any], severity: Severity) -> None:
    found = one(reading, **fields)
    assert (found.slug, found.code, found.severity, found.basis) == (
        "shape-unsupported",
        "ATC610",
        severity,
        reading.basis,
    )
    assert "512" in found.message
    assert "at most 256" in found.message
    assert ("not measured" in found.message) is (reading is STATIC)
    assert found.layers == (0,)
    assert found.recommendations
    assert "--impl flash_attention_2" in found.reproduction


def test_an_implementation_that_refuses_is_rejected_and_not_recommended() -> None:
    result = conclusion(REFUSED, implementations=frozenset({FLASH}), default="eager")
    status = {entry.name: entry for entry in result.implementations}
    assert status[FLASH].status is Status.REJECTED
    assert "512" in status[FLASH].reasons[0].text
    assert status["sdpa"].status is Status.OK
    for reading in (REFUSED, STATIC):
        recommended = conclusion(reading, default="eager").recommended
        assert recommended is not None
        assert recommended.implementation == "sdpa"


def test_the_advice_names_what_was_seen_right_at_these_sizes() -> None:
    (advice,) = one(REFUSED, default="eager").recommendations
    assert advice.text == "use sdpa: no documented limit of it excludes these sizes"
    (advice,) = one(REFUSED, MATH, default="eager").recommendations
    assert advice.text == "use sdpa: measured right at these sizes"
    (advice,) = findings(REFUSED, replace(MATH, wrong=WRONG), default="eager")[-1].recommendations
    assert "measured" not in advice.text


def test_a_kernel_that_does_not_take_a_mask_is_no_news() -> None:
    assert findings(RIGHT, replace(REFUSED, variant=EXPLICIT_MASK)) == []


def test_sdpa_falls_to_the_next_kernel_quietly_unless_only_math_is_left() -> None:
    refusing = [replace(reading, outcome=Outcome.REFUSED, reasons=LIMIT) for reading in FUSED]
    assert findings(MATH, refusing[0], *FUSED[1:]) == []
    found = one(MATH, *refusing)
    assert (found.slug, found.severity, found.kernel) == ("shape-unsupported", Severity.WARNING, "sdpa-math")
    assert "math kernel" in found.message
    everything = one(replace(MATH, outcome=Outcome.REFUSED, reasons=LIMIT), *refusing)
    assert everything.severity is Severity.ERROR


def test_a_missing_backward_matters_to_who_trains() -> None:
    reading = replace(RIGHT, backward=Outcome.REFUSED, backward_detail="no kernel for 512")
    assert one(reading).severity is Severity.WARNING
    assert one(reading, use="train", default=FLASH).severity is Severity.ERROR
    # torch takes another kernel for the backward pass.
    assert findings(replace(FUSED[0], backward=Outcome.REFUSED), MATH) == []


def test_widened_values_are_a_note() -> None:
    shape = Shape(128, 128, 192, 192)
    documented = (Reason("q, k and v must have one head size", "one head size", "192 and 128", "flash_api.cpp"),)
    reading = replace(RIGHT, shape=shape, declared_v=128, documented=documented)
    for entry in (reading, replace(reading, outcome=Outcome.NOT_RUN, basis=Basis.STATIC)):
        found = one(entry)
        assert (found.slug, found.severity) == ("shape-unsupported", Severity.NOTE)
        assert "pads the values to 192" in found.message
    assert findings(replace(reading, documented=())) == []


WRONG = WrongCells((4200, 104), behind=128, behind_distances=(4096, 4096))


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"nan": ("output",)}, "nan-rows"),
        ({"wrong": WRONG}, "window-off-by-one"),
        ({"wrong": replace(WRONG, ahead=3, ahead_distances=(1, 1))}, "causal-ignored"),
        ({"head_map": (0, 1, 2, 3, 0, 1, 2, 3)}, "head-map-wrong"),
        ({"kernel": Errors(0.05, 0.004, 0.009, 0.005)}, "numeric-drift"),
        ({"kernel": Errors(0.003, 0.004, 0.2, 0.005)}, "gradient-mismatch"),
        ({"nan": ("dq", "dk"), "kernel": Errors(0.003, float("nan"), float("nan"), 0.0)}, "gradient-mismatch"),
    ],
)
def test_wrong_results_have_the_slugs_of_the_probes(changes: dict[str, Any], slug: str) -> None:
    found = one(replace(RIGHT, **changes))
    assert found.slug == slug
    assert found.severity is (Severity.WARNING if slug == "gradient-mismatch" else Severity.ERROR)
    assert found.basis is Basis.MEASURED
    assert found.kernel == "flash-attn-2"
    assert found.evidence.figures["tokens"] == 4224
    assert one(replace(RIGHT, **changes), use="train").severity is Severity.ERROR


NO_GRADIENTS = Errors(0.003, 1.8, 0.009, 0.005)


def advice(*shapes: ShapeReading, **options: Any) -> tuple[str, bool]:
    """(what is recommended, whether training with it is warned of)."""
    best = conclusion(*shapes, **options).recommended
    assert best is not None
    return best.implementation, "not for training: its gradients are wrong at the model's true sizes" in best.why


def test_gradients_that_are_wrong_at_true_sizes_decide_between_equals_and_are_told() -> None:
    """No error for who generates: the framework's own choice would be recommended without a word."""
    lost = replace(RIGHT, kernel=NO_GRADIENTS)
    assert advice(lost, SDPA, default=FLASH) == ("sdpa", False)
    assert advice(lost, replace(SDPA, kernel=NO_GRADIENTS), default=FLASH) == (FLASH, True)
    assert advice(RIGHT, SDPA, default=FLASH) == (FLASH, False)


@pytest.mark.parametrize(
    ("changes", "use"),
    [
        ({"picked": False}, "generate"),
        ({"picked": False}, "train"),
        ({"picked": True, "variant": EXPLICIT_MASK}, "generate"),
    ],
)
def test_gradients_of_calls_that_the_implementation_need_not_make_decide_nothing(
    changes: dict[str, Any], use: str
) -> None:
    lost = replace(FUSED[0], kernel=NO_GRADIENTS, **changes)
    assert advice(replace(MATH, api="sdpa-cudnn"), lost, RIGHT, default="sdpa", use=use) == ("sdpa", False)


def test_nobody_is_sent_to_train_with_wrong_gradients() -> None:
    lost = replace(RIGHT, kernel=NO_GRADIENTS)
    training = {"use": "train", "scenarios": ("gradients",)}
    assert advice(lost, SDPA, default=FLASH, **training) == ("sdpa", False)
    assert conclusion(lost, replace(SDPA, kernel=NO_GRADIENTS), default=FLASH, **training).recommended is None


def test_a_wrong_kernel_that_torch_does_not_pick_is_a_warning() -> None:
    assert one(replace(FUSED[0], wrong=WRONG)).severity is Severity.WARNING
    assert one(replace(FUSED[0], wrong=WRONG, picked=True)).severity is Severity.ERROR
    # With the kernel that torch picks wrong as well, that one leads.
    assert one(replace(FUSED[0], wrong=WRONG), replace(MATH, wrong=WRONG)).kernel == "sdpa-math"


def test_nan_gradients_name_the_length() -> None:
    found = one(replace(RIGHT, variant=EXPLICIT_MASK, nan=("dk",), q_len=704, kv_len=704))
    assert "704 tokens under an explicit mask" in found.message


def test_a_wrong_mask_is_told_once() -> None:
    assert one(replace(RIGHT, wrong=WRONG, kernel=Errors(0.5, 0.5, 0.5, 0.5))).slug == "window-off-by-one"


def test_a_crash_is_a_finding() -> None:
    crashed = replace(RIGHT, outcome=Outcome.CRASHED, kernel=None, plain=None, detail="signal: died of SIGSEGV")
    found = one(crashed)
    assert (found.slug, found.severity) == ("backend-unusable", Severity.WARNING)
    assert one(crashed, default=FLASH).severity is Severity.ERROR
    assert "SIGSEGV" in found.message


@pytest.mark.parametrize(
    ("cells", "window", "slug"),
    [
        ({"behind": 1, "behind_distances": (8, 8)}, Window(7, 0), "window-off-by-one"),
        ({"missed": 1, "missed_distances": (7, 7)}, Window(7, 0), "window-off-by-one"),
        ({"ahead": 1, "ahead_distances": (9, 9)}, Window(7, 8), "window-off-by-one"),
        ({"behind": 9, "behind_distances": (8, 90), "all_behind": True}, Window(7, 0), "window-ignored"),
        ({"behind": 9, "behind_distances": (8, 12)}, Window(7, 0), "window-size-wrong"),
        ({"behind": 9, "behind_distances": (16, 16)}, Window(7, 0), "window-size-wrong"),
        ({"missed": 9, "missed_distances": (5, 7)}, Window(7, 0), "keys-missing"),
        ({"missed": 9, "missed_distances": (90, 99)}, Window(None, 0), "window-unexpected"),
        ({"missed": 9, "missed_distances": (0, 9), "nothing": True}, Window(None, 0), "keys-missing"),
        ({"ahead": 9, "ahead_distances": (1, 9)}, Window(None, 0), "causal-ignored"),
    ],
)
def test_names_of_wrong_masks(cells: dict[str, Any], window: Window, slug: str) -> None:
    assert mask_slug(WrongCells((9, 1), **cells), Shape(4, 2, 16, 16, window)) == slug


def test_chunks_have_a_slug_of_their_own() -> None:
    cells = WrongCells((9, 1), behind=9, behind_distances=(2, 8))
    assert mask_slug(cells, Shape(4, 2, 16, 16, chunk=8)) == "chunk-wrong"


READINGS = (RIGHT, REFUSED, STATIC, MATH, replace(RIGHT, wrong=WRONG), replace(RIGHT, nan=("dq",)))


def test_the_report_shows_them() -> None:
    report = replace(sample_reports.healthy_report(), shapes=READINGS)
    text = interface.render(report, "terminal")
    assert "Real shapes" in text
    assert "layer 0: 8 heads / 4 kv, head_dim 512" in text
    for words in ("✓ ok", "– rejected", "✗ wrong", "the head size is not supported", "dq hold NaN"):
        assert words in text
    assert "Real shapes" not in interface.render(sample_reports.healthy_report(), "terminal")


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (RIGHT.kernel, "4224 tokens, forward off by 0.003, backward by 0.009"),
        (Errors(0.003, 0.004), "4224 tokens, forward off by 0.003, backward by 0.004"),
        (Errors(0.003), "4224 tokens, off by 0.003"),
    ],
)
def test_a_right_shape_says_how_far_it_is_off_and_its_worst_gradient_where_the_backward_ran(
    errors: Errors | None, said: str
) -> None:
    assert shape_pages.details(replace(RIGHT, kernel=errors)) == f"measured: {said}"


def test_the_json_report_obeys_the_schema() -> None:
    report = replace(sample_reports.healthy_report(), shapes=READINGS)
    wired = json.loads(interface.render(report, "json"))
    jsonschema.Draft202012Validator(schema()).validate(wired)
    first = wired["shapes"][0]
    assert set(first) == set(schema()["$defs"]["shape_reading"]["properties"])
    assert first["shape"]["window"] == [4095, 0]
    assert (first["mask_ok"], wired["shapes"][1]["mask_ok"]) == (True, None)


def test_the_advice_for_the_math_kernel_is_what_was_measured_to_be_usable() -> None:
    refusing = [replace(reading, outcome=Outcome.REFUSED, reasons=LIMIT) for reading in FUSED]

    def advice(*more: ShapeReading) -> str:
        given = findings(MATH, *refusing, *more, REFUSED, default="eager")  # flash attention refuses, too
        (found,) = (finding for finding in given if finding.kernel == "sdpa-math")
        (said,) = found.recommendations
        return said.text

    assert advice() == "nothing that was looked at here was found to take these sizes"
    beside = replace(FUSED[1], variant=EXPLICIT_MASK, kv_len=704, detail=f"{REPEATED}; grouped they are refused")
    assert advice(beside) == (
        "hand over the mask as a tensor (4D attention_mask): sdpa-efficient takes these sizes then, measured right at "
        f"704 tokens, {REPEATED}"
    )
    for useless in (replace(beside, wrong=WRONG), replace(beside, backward=Outcome.REFUSED)):
        assert advice(useless) == advice()


def test_the_top_and_the_end_of_the_page_name_who_is_refused_at_the_true_sizes() -> None:
    report = read(str(RECORDED / "gemma3_head_dim_512.json"))
    page = interface.render(report, "terminal", interface.Style(width=100))
    top, end = page.split("options")[0], page.splitlines()[-2]
    for said in (" ".join(top.split()), end):
        assert "flash_attention_2 refused at the model's true sizes" in said
    assert "measured, tiny only" in page
    assert "true sizes" not in interface.render(sample_reports.healthy_report(), "terminal")


def test_only_the_kernel_that_torch_takes_beside_a_mask_is_called_so() -> None:
    report = read(str(RECORDED / "gemma3_head_dim_512.json"))
    for _, same in shape_pages.blocks(report):
        for variant in ("", EXPLICIT_MASK):
            assert sum(bool(reading.picked) for reading in same if reading.variant == variant) == 1


def test_layers_whose_mask_nobody_knows_are_not_shown_as_right() -> None:
    report = read(str(RECORDED / "gemma2.json"))
    (first, unknown), (second, known) = shape_pages.blocks(report)
    assert "window unknown" in first
    assert "every key" in second
    assert {reading.outcome for reading in unknown} == {Outcome.NOT_RUN}
    assert all("the declared window is unknown" in shape_pages.details(reading) for reading in unknown)
    taken = replace(RIGHT, shape=replace(SIZES, unknown=("window",)))  # as reports of before have it
    assert shape_pages.verdict(taken)[1] == "unknown"
    assert "the declared window is unknown" in shape_pages.details(taken)
    assert "ok" in {shape_pages.verdict(reading)[1] for reading in known}
