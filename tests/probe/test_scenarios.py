"""The scenarios as data: names, variants, layouts, and when they do not apply. No torch."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from attncheck.probe.protocol import TinyInfo
from attncheck.probe.scenario import (
    DOCUMENTS,
    ENCODER_SEQUENCE,
    PADS,
    SEQUENCE,
    STATIC_LENGTH,
    WINDOW,
    CacheInput,
    MaskInput,
    Stack,
    Subject,
    Variant,
    scenarios,
)
from attncheck.semantics.layout import PAD
from attncheck.semantics.observation import NotApplicable
from attncheck.semantics.spec import AttentionSpec, MaskSpec, Part, Window
from tests.plain_masks import declared_mask

CORE = ["plain", "left-pad", "right-pad", "decode", "chunked-prefill"]
OPT_IN = [
    "packed",
    "packed-batch",
    "packed-cache",
    "position-jump",
    "static-cache",
    "custom-mask",
    "bidirectional",
    "output-attentions",
    "gradients",
]
PACKED = ("packed", "packed-batch", "packed-cache", "position-jump")
CACHED = ("decode", "chunked-prefill", "packed-cache", "static-cache")


def subject(stack: Stack = Stack.DECODER, **facts: object) -> Subject:
    config = facts.pop("config", {})
    config_types = facts.pop("config_types", {})
    no_static_cache = facts.pop("no_static_cache", "")
    info = TinyInfo({}, "causal-lm", "Model", 2, **facts)  # type: ignore[arg-type]
    return Subject(info, stack, config=config, config_types=config_types, no_static_cache=no_static_cache)  # type: ignore[arg-type]


def plan(name: str, of: Subject) -> tuple[Variant, ...] | NotApplicable:
    return next(scenario for scenario in scenarios() if scenario.name == name).plan(of)


def variants(name: str, of: Subject | None = None) -> tuple[Variant, ...]:
    found = plan(name, of or subject())
    assert not isinstance(found, NotApplicable), found
    return found


def test_names_are_stable_and_core_comes_first():
    assert [s.name for s in scenarios()] == CORE + OPT_IN
    assert [s.name for s in scenarios() if s.core] == CORE


def test_listing_scenarios_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from attncheck.probe.scenario import scenarios; scenarios();"
        "sys.exit(any(name.split('.')[0] in ('torch', 'transformers', 'numpy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("stack", list(Stack))
def test_every_variant_is_complete_for_every_stack(stack: Stack):
    for scenario in scenarios():
        found = scenario.plan(subject(stack))
        if isinstance(found, NotApplicable):
            assert found.reason
            continue
        assert len({variant.name for variant in found}) == len(found) > 0
        for variant in found:
            assert (variant.decoder is None) == (stack is Stack.ENCODER)
            assert (variant.encoder is None) == (stack is Stack.DECODER)
            layout = variant.main
            padded = any(PAD in row.document for row in layout.rows)
            assert (variant.mask is MaskInput.PADDING) == padded
            assert (variant.mask in (MaskInput.ADDITIVE, MaskInput.BOOLEAN)) == (layout.rows[0].custom is not None)
            if variant.positions is not None:
                assert [len(row) for row in variant.positions] == [layout.length] * len(layout.rows)
            if len(layout.steps) > 1:
                assert variant.cache is not CacheInput.OFF
            if variant.cache is CacheInput.STATIC:
                assert layout.length < STATIC_LENGTH
            if variant.encoder is not None and stack is Stack.ENCODER_DECODER:
                assert variant.encoder.length == ENCODER_SEQUENCE
                assert len(variant.encoder.rows) == len(layout.rows)


def test_inputs_without_padding_come_with_and_without_a_mask():
    for name in ("plain", "chunked-prefill", "packed", "packed-batch", "packed-cache", "static-cache"):
        assert {v.mask for v in variants(name)} == {MaskInput.NONE, MaskInput.ONES}, name


def test_only_one_variant_fits_scalars():
    fitting = [(s.name, v.name) for s in scenarios() for v in variants(s.name) if v.fit]
    assert fitting == [("plain", "no-mask")]


def test_decode_starts_below_at_and_above_the_window_and_feeds_single_tokens():
    prompts = {v.main.steps[0][1] for v in variants("decode")}
    assert any(prompt < WINDOW for prompt in prompts)
    assert WINDOW in prompts
    assert any(prompt > WINDOW for prompt in prompts)
    for variant in variants("decode"):
        assert variant.cache is CacheInput.DEFAULT
        assert all(stop - start == 1 for start, stop in variant.main.steps[1:])
        assert len(variant.main.steps) > 2
        # The window must drop tokens, or fill up for the first time, while single tokens are fed.
        assert variant.main.length >= WINDOW


def test_a_padded_prompt_is_fed_with_the_positions_that_generate_makes():
    (padded,) = (v for v in variants("decode") if v.mask is MaskInput.PADDING)
    length = padded.main.length
    assert padded.positions == (tuple(range(length)), (0,) * PADS + tuple(range(length - PADS)))
    (without,) = (v for v in variants("decode", subject(takes_position_ids=False)) if v.mask is MaskInput.PADDING)
    assert without.positions is None


def test_chunked_prefill_tells_the_alignments_apart():
    for variant in variants("chunked-prefill"):
        (_, first), (start, stop) = variant.main.steps
        assert first == start
        assert 1 < stop - start < start


def test_packed_rows_restart_their_positions():
    (row,) = variants("packed")[0].positions or ()
    assert row == (*range(DOCUMENTS[0]), *range(DOCUMENTS[1]))
    first, second = variants("packed-batch")[0].positions or ()
    assert first == row
    assert second != row
    assert sorted(second) == sorted(row)


def test_only_the_position_jump_has_no_truth():
    assert {s.name for s in scenarios() for v in variants(s.name) if not v.truth} == {"position-jump"}
    (row,) = variants("position-jump")[0].positions or ()
    steps = {later - earlier for earlier, later in itertools.pairwise(row)}
    assert len(steps) == 2
    assert min(steps) == 1


def test_custom_masks_differ_by_row_and_keep_a_windowed_layers_past():
    layer = AttentionSpec(Part.DECODER, 0, mask=MaskSpec(Window(WINDOW - 1, 0)))
    for variant in variants("custom-mask"):
        blocks, prefix = (declared_mask(layer, variant.main, row, 0) for row in (0, 1))
        assert not blocks.keeps(DOCUMENTS[0], DOCUMENTS[0] - 1)
        assert blocks.keeps(DOCUMENTS[0] - 1, DOCUMENTS[0] - 2)
        assert prefix.keeps(0, WINDOW)  # the future, as the caller asks
        assert not prefix.keeps(SEQUENCE - 1, 0)  # the past, as the layer says


def test_static_caches_are_left_with_room_above_and_below_the_window():
    prompts = {v.main.steps[0][1] for v in variants("static-cache")}
    assert min(prompts) < WINDOW < max(prompts)


@pytest.mark.parametrize("name", PACKED)
def test_packing_needs_position_ids_and_one_sequence(name: str):
    assert "position_ids" in plan(name, subject(takes_position_ids=False)).reason  # type: ignore[union-attr]
    assert isinstance(plan(name, subject(Stack.ENCODER_DECODER)), NotApplicable)


@pytest.mark.parametrize("name", CACHED)
def test_scenarios_with_a_cache_need_a_model_that_takes_one(name: str):
    assert isinstance(plan(name, subject(takes_cache=False)), NotApplicable)
    assert isinstance(plan(name, subject(Stack.ENCODER)), NotApplicable)


def test_a_class_may_refuse_static_caches():
    refused = plan("static-cache", subject(no_static_cache="_supports_static_cache"))
    assert isinstance(refused, NotApplicable)
    assert "_supports_static_cache" in refused.reason


def test_bidirectional_is_for_decoders_that_are_not_so_already():
    assert isinstance(plan("bidirectional", subject(Stack.ENCODER)), NotApplicable)
    assert isinstance(plan("bidirectional", subject(Stack.ENCODER_DECODER)), NotApplicable)
    assert isinstance(plan("bidirectional", subject(config={"is_causal": False})), NotApplicable)


@pytest.mark.parametrize(
    ("kind", "value"), [("bool | None", True), ("", True), ("typing.Literal['all', 'vision'] | None", "all")]
)
def test_bidirectional_also_sets_the_types_own_flag(kind: str, value: object):
    flag = "use_bidirectional_attention"
    own = subject(config={flag: None}, config_types={flag: kind})
    overrides = {v.overrides for v in variants("bidirectional", own)}
    assert overrides == {(("is_causal", False),), (("use_bidirectional_attention", value),)}
    assert {v.overrides for v in variants("bidirectional")} == {(("is_causal", False),)}
