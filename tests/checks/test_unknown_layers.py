"""Layers that declare nothing knowable: they are held to their inputs, and to an eager that keeps to its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attncheck import checks
from attncheck.checks import Conclusion
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout, sequence
from attncheck.semantics.observation import Method
from attncheck.semantics.spec import AttentionSpec, Window
from attncheck.verdicts import Verdict
from tests import runs
from tests.runs import LEFT_PAD, PACKED, PLAIN, layer, model

CAUSAL = layer()
WINDOWED = layer(7)
#: What the model declares: the direction is not known.
SPEC = replace(CAUSAL, unknown=frozenset({"direction"}))
SPARSE = replace(CAUSAL, unknown=frozenset({"kind"}))

#: The packed row as a model sees it that takes no notice of the documents.
MERGED = Layout((sequence(24),), ((0, 24),))

TWO_BLOCKS = KeepMask.from_rule(24, 24, lambda query, key: key <= query and (key < 11) == (query < 11))
CUSTOM = Layout((replace(sequence(24), custom=TWO_BLOCKS),), ((0, 24),))


def judged(
    spec: AttentionSpec, layout: Layout, eager: Layout, other: Layout, scenario: str = "plain", **fields: Any
) -> Conclusion:
    """eager, other: the layouts that the two implementations believe in."""
    return checks.evaluate(
        runs.inputs(
            model(spec),
            *(
                runs.run(
                    runs.calls(CAUSAL, layout, fed=believed, **fields),
                    layout,
                    implementation=name,
                    scenario=scenario,
                )
                for name, believed in (("eager", eager), ("sdpa", other))
            ),
        )
    )


def found(conclusion: Conclusion) -> set[tuple[str | None, str]]:
    return {(finding.implementation, finding.slug) for finding in conclusion.findings}


def test_an_eager_that_leaks_is_found_and_the_one_that_does_not_is_not_blamed() -> None:
    conclusion = judged(SPEC, PACKED, eager=MERGED, other=PACKED, scenario="packed")
    assert ("eager", "packing-leak") in found(conclusion)
    assert not {slug for name, slug in found(conclusion) if name == "sdpa"}
    cell = next(cell for cell in conclusion.cells if cell.implementation == "sdpa")
    assert cell.verdict is Verdict.UNKNOWN
    assert "eager is no measure here" in cell.reason


def test_an_implementation_that_leaks_beside_a_right_eager_is_found() -> None:
    conclusion = judged(SPEC, PACKED, eager=PACKED, other=MERGED, scenario="packed")
    assert found(conclusion) == {("sdpa", "packing-leak")}


def test_padding_is_hidden_in_every_layer() -> None:
    two = Layout((sequence(24), sequence(24)), ((0, 24),))
    conclusion = judged(SPEC, LEFT_PAD, eager=LEFT_PAD, other=two, scenario="left-pad")
    assert found(conclusion) == {("sdpa", "padding-ignored")}
    message = next(f.message for f in conclusion.findings)
    assert "unknown" not in message


@pytest.mark.parametrize("spec", [SPEC, SPARSE])
def test_an_eager_that_drops_the_callers_mask_is_no_measure_for_the_others(spec: AttentionSpec) -> None:
    conclusion = judged(spec, CUSTOM, eager=MERGED, other=CUSTOM, scenario="custom-mask")
    assert not {slug for name, slug in found(conclusion) if name == "sdpa"}
    assert (("eager", "mask-dropped") in found(conclusion)) is (spec is SPEC)


def test_of_an_unknown_kind_it_is_not_known_what_its_keys_are() -> None:
    conclusion = judged(SPARSE, PACKED, eager=MERGED, other=MERGED, scenario="packed")
    assert found(conclusion) == set()


def test_convolutions_seen_from_outside_are_not_held_against_an_unknown_kind() -> None:
    two = Layout((sequence(24), sequence(24)), ((0, 24),))
    conclusion = judged(SPARSE, LEFT_PAD, eager=two, other=two, method=Method.PERTURBATION)
    assert found(conclusion) == set()


def test_a_causal_eager_is_no_measure_for_a_bidirectional_layer_of_unknown_window() -> None:
    both = layer(None, None, unknown=frozenset({"window"}))
    calls = {"eager": runs.calls(CAUSAL, PLAIN), "sdpa": runs.calls(layer(7, 7), PLAIN)}
    given = [runs.run(seen, PLAIN, implementation=name) for name, seen in calls.items()]
    assert found(checks.evaluate(runs.inputs(model(both), *given))) == {("eager", "causal-unexpected")}
    calls["eager"] = runs.calls(layer(8, 8), PLAIN)
    given = [runs.run(seen, PLAIN, implementation=name) for name, seen in calls.items()]
    assert found(checks.evaluate(runs.inputs(model(both), *given))) == {("sdpa", "window-off-by-one")}


def test_a_layer_that_looks_ahead_is_wrong_where_only_the_window_is_unknown() -> None:
    """In a causal layer no window reaches later keys; one that keeps to the past cannot be judged."""
    causal = layer(None, 0, unknown=frozenset({"window"}))
    for effective, expected in ((layer(7, 7), {("sdpa", "causal-ignored")}), (layer(7), set()), (CAUSAL, set())):
        run = runs.run(runs.calls(effective, PLAIN), PLAIN, implementation="sdpa")
        assert found(checks.evaluate(runs.inputs(model(causal), run))) == expected


def test_single_tokens_cannot_look_ahead() -> None:
    """Decoding feeds no later key, so a bidirectional layer of unknown window is not held guilty of hiding it."""
    both = layer(None, None, unknown=frozenset({"window"}))
    single = Layout((sequence(8),), tuple((at, at + 1) for at in range(8)))
    run = runs.run(runs.calls(CAUSAL, single), single, implementation="sdpa", scenario="decode")
    assert found(checks.evaluate(runs.inputs(model(both), run))) == set()


def test_where_eager_keeps_to_its_inputs_the_others_are_compared_with_it() -> None:
    calls = {"eager": runs.calls(CAUSAL, PLAIN), "sdpa": runs.calls(WINDOWED, PLAIN)}
    given = [runs.run(seen, PLAIN, implementation=name) for name, seen in calls.items()]
    assert found(checks.evaluate(runs.inputs(model(SPEC), *given))) == {("sdpa", "window-unexpected")}


def reaches(spec: AttentionSpec, layout: Layout = PLAIN, **fields: Any) -> dict[str, Window | None]:
    """Implementation -> reach of its cell: eager looks back only, flash attention to both sides."""
    calls = {
        "eager": runs.calls(WINDOWED, layout, **fields),
        "flash_attention_2": runs.calls(layer(7, 7), layout, **fields),
    }
    given = [runs.run(seen, layout, implementation=name) for name, seen in calls.items()]
    return {cell.implementation: cell.reach for cell in checks.evaluate(runs.inputs(model(spec), *given)).cells}


def test_how_far_the_queries_see_is_kept_where_the_window_is_unknown() -> None:
    """Of wrong cells as of those without a verdict: it is all that tells the implementations apart."""
    both = layer(None, None, unknown=frozenset({"window"}))
    assert reaches(both) == {"eager": Window(7, 0), "flash_attention_2": Window(7, 7)}
    assert reaches(both, LEFT_PAD) == {"eager": Window(7, 0), "flash_attention_2": Window(7, 7)}


def test_a_reach_that_only_the_end_of_the_keys_bounds_is_none() -> None:
    short = Layout((sequence(6),), ((0, 6),))
    assert reaches(SPEC, short) == {"eager": Window(None, 0), "flash_attention_2": Window(None, None)}


def test_a_mask_that_is_no_window_has_its_furthest_keys() -> None:
    def spoil(keep: KeepMask) -> KeepMask:
        return runs.cells(keep, lambda query, key, kept: kept and (key, query) != (10, 12))

    assert reaches(SPEC, spoil=spoil)["eager"] == Window(7, 0)


@pytest.mark.parametrize(
    ("spec", "fields"),
    [(WINDOWED, {}), (SPARSE, {}), (SPEC, {"method": Method.PERTURBATION}), (SPEC, {"nan_rows": ((0, 3),)})],
)
def test_no_reach_where_it_is_declared_or_not_read_exactly(spec: AttentionSpec, fields: dict[str, Any]) -> None:
    assert set(reaches(spec, **fields).values()) == {None}
