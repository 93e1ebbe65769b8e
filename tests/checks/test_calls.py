"""Rules about single calls: what makes each fire, what must not, and what is compared with a config."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attncheck.checks import calls, watched
from attncheck.checks.registry import code_of, rule
from attncheck.findings import Severity
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout, documents, left_padded, sequence
from attncheck.semantics.observation import HeadMask
from attncheck.semantics.watched import Tokens, WatchedCall, WatchedModel, WatchedProcess
from tests.builders import causal
from tests.sample_watches import CONFIG, model_call, processes, raw_call, square

MODELS = (WatchedModel("MistralForCausalLM", CONFIG),)
FUTURE = KeepMask.from_rule(6, 6, lambda query, key: key > query)


def slugs(call: WatchedCall) -> list[str]:
    return [fault.slug for fault in calls.faults(call)]


def masks(*keep: KeepMask) -> tuple[HeadMask, ...]:
    return tuple(HeadMask(row, (), mask) for row, mask in enumerate(keep))


def test_is_causal_with_more_keys_than_queries_is_misaligned() -> None:
    (fault,) = calls.faults(raw_call())
    assert fault.slug == "causal-misaligned"
    assert fault.right == KeepMask.from_rule(4, 10, lambda query, key: key <= query + 6)
    assert "causal_lower_right(4, 10)" in fault.paste


def test_a_static_cache_that_is_empty_behind_the_queries_is_right() -> None:
    assert slugs(raw_call(hidden_keys_used=False)) == []


def test_misaligned_is_a_warning_as_keys_may_be_left_over_in_a_preallocated_cache() -> None:
    (finding,) = watched.conclude([WatchedProcess(1, calls=(raw_call(),))]).findings
    assert (finding.slug, finding.severity) == ("causal-misaligned", Severity.WARNING)


def test_no_mask_is_written_out_for_a_long_call_on_a_longer_cache() -> None:
    seen = HeadMask(0, (), KeepMask((1, *(0,) * 32_767), 131_072), queries=(0,))
    (fault,) = calls.faults(raw_call(q_len=32_768, kv_len=131_072, seen=(seen,), asked=()))
    assert (fault.slug, fault.right) == ("causal-misaligned", None)


def test_a_long_call_that_counts_from_the_last_query_is_right_by_the_queries_that_were_read() -> None:
    seen = HeadMask(0, (), KeepMask(((2 << 6) - 1, 0, 0, (2 << 9) - 1), 10), queries=(0, 3))
    assert slugs(raw_call(seen=(seen,), asked=())) == []


def test_a_kernel_that_counts_from_the_last_query_is_not_accused() -> None:
    right = masks(KeepMask.from_rule(4, 10, lambda query, key: key <= query + 6))
    assert slugs(raw_call(seen=right, asked=())) == []


def test_misaligned_is_known_without_a_reading_too() -> None:
    assert slugs(raw_call(seen=(), asked=(), unread="only facts were asked for")) == ["causal-misaligned"]


def test_a_causal_mask_the_wrong_way_round() -> None:
    call = square(FUTURE, mask_kind="bool", mask_hides=True)
    (fault,) = calls.faults(call)
    assert fault.slug == "mask-inverted"
    assert fault.right == causal(6)


@pytest.mark.parametrize("pads", [1, 2])
def test_turned_round_together_with_padding(pads: int) -> None:
    keep = KeepMask.from_rule(6, 6, lambda query, key: key > query or key < pads)
    assert slugs(square(keep, mask_kind="bool", mask_hides=True)) == ["mask-inverted"]


@pytest.mark.parametrize(
    "keep",
    [
        KeepMask.from_rule(6, 6, lambda query, key: key != query),  # every other token
        KeepMask.from_rule(6, 6, lambda query, key: key <= query),
        KeepMask.from_rule(6, 6, lambda query, key: True),
        KeepMask.from_rule(6, 6, lambda query, key: key == query + 1 or key == query),
        KeepMask.from_rule(6, 6, lambda query, key: key // 3 == query // 3),  # two documents
        KeepMask.from_rule(2, 2, lambda query, key: key > query),
        KeepMask.from_rule(1, 1, lambda query, key: True),
        KeepMask.from_rule(2, 2, lambda query, key: key >= query),
        KeepMask.from_rule(6, 6, lambda query, key: query <= key < query + 3),  # a window ahead
        KeepMask.from_rule(6, 6, lambda query, key: key >= query and key >= 4),  # most of it hidden
        KeepMask.from_rule(4, 6, lambda query, key: key >= query + 2),  # behind a cache
        KeepMask.from_rule(6, 1, lambda query, key: True),
    ],
)
def test_masks_that_somebody_may_mean(keep: KeepMask) -> None:
    assert slugs(square(keep, mask_kind="bool", mask_hides=True)) == []


BACKWARDS = KeepMask.from_rule(6, 6, lambda query, key: key >= query)


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("pads", [0, 2])
def test_a_causal_mask_that_was_transposed_is_a_warning(pads: int, kind: str) -> None:
    """torch.triu(ones) for torch.tril(ones): a model may be meant to read backwards, so it is no error."""
    keep = KeepMask.from_rule(6, 6, lambda query, key: key >= query and key >= pads)
    call = square(keep, mask_kind=kind, mask_hides=True)
    (fault,) = calls.faults(call)
    assert (fault.slug, fault.severity, fault.paste) == ("mask-inverted", Severity.WARNING, "attn_mask=mask.mT")
    assert fault.right == KeepMask.from_rule(6, 6, lambda query, key: pads <= key <= query)
    (finding,) = watched.conclude([WatchedProcess(1, calls=(call,))]).findings
    assert finding.severity is Severity.WARNING
    assert "triu()" in finding.reproduction


def test_a_layer_that_reads_backwards_is_judged_by_its_config() -> None:
    call = model_call(0, (BACKWARDS,), Layout((sequence(6),), ((0, 6),)))
    assert slugs(call) == []
    (finding, *_) = watched.conclude([WatchedProcess(1, calls=(call,), models=MODELS)]).findings
    assert finding.severity is Severity.ERROR


def test_an_additive_mask_of_zeros_and_ones() -> None:
    every = KeepMask.from_rule(6, 6, lambda query, key: True)
    assert slugs(square(every, mask_kind="float", mask_hides=False, mask_values=(0.0, 1.0))) == ["mask-hides-nothing"]


@pytest.mark.parametrize("values", [(), (0.0, 0.5), (-1.0, 0.0), (0.0, 2.0)])
def test_additive_masks_that_may_be_a_bias(values: tuple[float, ...]) -> None:
    every = KeepMask.from_rule(6, 6, lambda query, key: True)
    assert slugs(square(every, mask_kind="float", mask_hides=False, mask_values=values)) == []


def test_a_row_that_sees_nothing() -> None:
    nothing = KeepMask((0,) * 6, 6)
    call = square(causal(6), mask_kind="bool", seen=masks(causal(6), nothing), asked=(), rows=(0, 1))
    assert slugs(call) == ["nothing-visible"]


@pytest.mark.parametrize(
    ("keeps", "severity"),
    [
        ((KeepMask((0,) * 6, 6), causal(6)), Severity.WARNING),  # a row that fills up the batch
        ((KeepMask((0,) * 6, 6),) * 2, Severity.ERROR),
    ],
)
def test_a_row_to_which_the_mask_leaves_nothing(keeps: tuple[KeepMask, ...], severity: Severity) -> None:
    call = square(keeps[0], mask_kind="bool", mask_hides=True, seen=masks(*keeps), asked=masks(*keeps), rows=(0, 1))
    (finding,) = watched.conclude([WatchedProcess(1, calls=(call,))]).findings
    assert (finding.slug, finding.severity) == ("nothing-visible", severity)


@pytest.mark.parametrize(("pads", "severity"), [(6, Severity.WARNING), (2, Severity.ERROR)])
def test_a_row_that_sees_nothing_beside_what_the_model_was_fed(pads: int, severity: Severity) -> None:
    layout = Layout((sequence(6), left_padded(6, pads)), ((0, 6),))
    (fault,) = calls.faults(model_call(0, (causal(6, 5), KeepMask((0,) * 6, 6)), layout))
    assert (fault.slug, fault.severity) == ("nothing-visible", severity)


def test_padding_queries_that_see_nothing_are_usual() -> None:
    padded = KeepMask.from_rule(6, 6, lambda query, key: query >= 2 and 2 <= key <= query)
    assert slugs(square(padded, mask_kind="bool", mask_hides=True)) == []


def test_nan_in_the_output() -> None:
    (fault,) = calls.faults(square(causal(6), nan_rows=(1, 2, 3)))
    assert fault.slug == "nan-rows"
    assert "3 rows" in fault.effective


def test_a_kernel_that_drops_its_mask() -> None:
    every = KeepMask.from_rule(6, 6, lambda query, key: True)
    assert slugs(square(every, mask_kind="bool", mask_hides=True, asked=masks(causal(6)))) == ["mask-dropped"]
    assert slugs(square(every, is_causal=True, asked=masks(causal(6)))) == ["causal-ignored"]
    assert slugs(square(every, is_causal=True, window="(2, 0)", asked=masks(causal(6, 3)))) == ["window-ignored"]


def test_a_kernel_that_hides_too_much() -> None:
    assert slugs(square(causal(6, 3), is_causal=True, asked=masks(causal(6)))) == ["keys-missing"]


def test_what_a_kernel_does_with_rows_that_may_see_nothing_is_its_own_matter() -> None:
    asked = KeepMask.from_rule(6, 6, lambda query, key: query >= 2 and 2 <= key <= query)
    uniform = KeepMask(tuple(row or 0b111111 for row in asked.rows), 6)
    assert slugs(square(uniform, mask_kind="float", mask_hides=True, asked=masks(asked))) == []


def test_every_slug_of_a_call_has_a_rule() -> None:
    for slug in ("mask-inverted", "mask-hides-nothing", "nothing-visible"):
        known = rule(slug)
        assert known is not None
        assert known.code == code_of(slug)
        assert all((known.finds, known.why, known.measured, known.fix))


def test_a_layer_is_compared_with_its_config() -> None:
    layout = Layout((sequence(9),), ((0, 9),))
    right = watched.judge(model_call(0, (causal(9, 5),), layout), MODELS)
    assert (right.verdict, right.slug) == ("ok", None)
    wrong = watched.judge(model_call(0, (causal(9),), layout), MODELS)
    assert (wrong.verdict, wrong.slug) == ("mismatch", "window-ignored")
    future = watched.judge(model_call(0, (KeepMask.from_rule(9, 9, lambda query, key: True),), layout), MODELS)
    assert future.verdict == "mismatch"
    assert "causal-ignored" in future.differences[0].slugs


def test_padding_is_judged_by_what_the_model_was_fed() -> None:
    layout = Layout((left_padded(9, 3),), ((0, 9),))
    sees_padding = watched.judge(model_call(0, (causal(9, 5),), layout), MODELS)
    assert sees_padding.slug == "padding-ignored"


def test_packed_documents_are_judged_by_the_positions_that_were_fed() -> None:
    layout = Layout((documents(4, 5),), ((0, 9),))
    assert watched.judge(model_call(0, (causal(9, 5),), layout), MODELS).slug == "packing-leak"


def test_a_decoded_token_stands_behind_the_cache() -> None:
    layout = Layout((sequence(9),), ((0, 8), (8, 9)), before=1)
    last = KeepMask((0b1111,), 4)  # a sliding cache that holds the last four of nine tokens
    call = model_call(0, (last,), layout, mask_kind="none", mask_hides=None)
    assert watched.judge(call, MODELS).slug == "cache-mismatch"
    whole = model_call(0, (KeepMask((0b11111,), 5),), layout, mask_kind="none", mask_hides=None)
    assert watched.judge(whole, MODELS).verdict == "ok"


@pytest.mark.parametrize("tokens", [Tokens(), Tokens(remarks=("a 4D mask",), known=True), Tokens(known=True)])
def test_without_its_inputs_a_layer_gets_no_verdict(tokens: Tokens) -> None:
    call = model_call(0, (causal(9),), Layout((sequence(9),), ((0, 9),)), tokens=tokens)
    found = watched.judge(call, MODELS)
    assert (found.verdict, found.differences) == ("unknown", ())
    assert found.reason


def test_a_call_that_was_not_read_is_not_right() -> None:
    call = model_call(0, (causal(9),), Layout((sequence(9),), ((0, 9),)), seen=(), unread="the repeated call failed")
    assert watched.judge(call, MODELS).verdict == "not_run"
    assert watched.judge(call, MODELS).reason == "the repeated call failed"


def test_a_module_that_says_itself_that_it_is_bidirectional_is_a_warning() -> None:
    every = KeepMask.from_rule(9, 9, lambda query, key: True)
    layout = Layout((sequence(9),), ((0, 9),))
    call = model_call(0, (every,), layout, mask_kind="none", is_causal=False, window="")
    process = WatchedProcess(1, models=(WatchedModel("M", {**CONFIG, "sliding_window": None}),))
    (error,) = watched.conclude([replace(process, calls=(call,))]).findings
    assert (error.slug, error.severity) == ("causal-ignored", Severity.ERROR)
    (warning,) = watched.conclude([replace(process, calls=(replace(call, switched=False),))]).findings
    assert (warning.slug, warning.severity) == ("causal-ignored", Severity.WARNING)


def test_another_implementation_than_the_config_names() -> None:
    layout = Layout((sequence(9),), ((0, 9),))
    call = model_call(0, (causal(9, 5),), layout, implementation="eager", configured="sdpa")
    (finding,) = watched.conclude([WatchedProcess(1, models=MODELS, calls=(call,))]).findings
    assert (finding.slug, finding.severity) == ("silent-fallback", Severity.WARNING)


def test_ranks_and_layers_are_merged() -> None:
    found = watched.conclude(processes(), "attncheck run -- python train.py")
    assert [(site.difference, site.layers, site.ranks, site.calls) for site in found.sites] == [
        (None, (0,), (0, 1), 2),
        ("window-ignored", (1,), (0, 1), 2),
        ("causal-misaligned", (), (0, 1), 2),
        ("causal-misaligned", (), (0, 1), 2),
    ]
    by_slug = {finding.slug: finding for finding in found.findings}
    assert set(by_slug) == {"window-ignored", "causal-misaligned"}
    assert by_slug["window-ignored"].layers == (1,)
    assert by_slug["window-ignored"].reproduction == "attncheck run -- python train.py"
    assert "is_causal=True" in by_slug["causal-misaligned"].reproduction


def test_long_calls_are_judged_by_the_cells_that_were_read() -> None:
    size, coarse = 4096, tuple(((1 << 1000) - 1) << start for start in (8, 1008, 2008, 3008))
    queries = (0, 5, 7, 4000, 4095)

    def saturated(row: int) -> int:
        for group in coarse:
            row |= group if row & group else 0
        return row

    def mask(window: int | None) -> HeadMask:
        rows = [0] * size
        for query in queries:
            seen = range(0 if window is None else max(0, query - window + 1), query + 1)
            rows[query] = saturated(sum(1 << key for key in seen))
        return HeadMask(0, (), KeepMask(tuple(rows), size), coarse, queries)

    layout = Layout((sequence(size),), ((0, size),))
    models = (WatchedModel("M", {**CONFIG, "sliding_window": 64}),)
    right = model_call(0, (causal(2),), layout, q_len=size, kv_len=size, rows=(0,), seen=(mask(64),))
    assert watched.judge(right, models).verdict == "ok"
    assert watched.judge(replace(right, seen=(mask(None),)), models).slug == "window-ignored"
