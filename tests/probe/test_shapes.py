"""From declared layers to the shapes that kernels get, and from a job's outcomes to readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from attncheck.checks.shape_results import words
from attncheck.probe import shapes
from attncheck.probe.shapes import Plan, ShapeCase, cases, documented
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, CallObservation, Method, Observed, ScenarioRun
from attncheck.semantics.shape import EXPLICIT_MASK, Shape
from attncheck.semantics.spec import CAUSAL, AttentionSpec, Bias, MaskSpec, Part, SoftmaxSpec, Window
from attncheck.verdicts import LayerGroup
from tests.backends.environments import H100
from tests.builders import ENVIRONMENT

FLASH, SDPA = "flash_attention_2", "sdpa"
#: The global layers of a Gemma 4 and the heads of a DeepSeek V3.
WIDE = AttentionSpec(Part.DECODER, 5, num_heads=8, num_kv_heads=4, head_dim=512, head_dim_v=512)
LATENT = AttentionSpec(Part.DECODER, 0, num_heads=128, num_kv_heads=128, head_dim=192, head_dim_v=128)
USUAL = AttentionSpec(
    Part.DECODER, 0, mask=MaskSpec(Window(4095, 0)), num_heads=32, num_kv_heads=8, head_dim=128, head_dim_v=128
)


def group(spec: AttentionSpec, layers: Sequence[int] = (0,), **probed: Any) -> LayerGroup:
    tiny = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "head_dim_v": 16, "layer": 0, **probed}
    return LayerGroup(spec.part, tuple(layers), spec, replace(spec, **tiny))


def run(implementation: str, **call: Any) -> ScenarioRun:
    fields = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "head_dim_v": 16, **call}
    seen = CallObservation(Part.DECODER, 0, 0, "Attention", Method.IDENTITY, 24, (), **fields)
    return ScenarioRun(implementation, "plain", "no-mask", Basis.MEASURED, Observed((seen,)))


def shape(spec: AttentionSpec, implementation: str = SDPA, *runs: ScenarioRun, **probed: Any) -> Shape | None:
    found = cases([group(spec, **probed)], runs, [implementation], "bfloat16")
    return found[0].shape if found else None


def test_the_shape_is_the_checkpoints_own() -> None:
    assert shape(USUAL) == Shape(32, 8, 128, 128, Window(4095, 0))
    terms = SoftmaxSpec(scale=1 / 16, softcap=50.0, sinks=True, bias=Bias.ALIBI)
    found = shape(replace(USUAL, softmax=terms, mask=MaskSpec(CAUSAL, 8192)))
    assert found == Shape(32, 8, 128, 128, CAUSAL, 8192, 1 / 16, 50.0, True, True)


def test_layers_of_one_shape_stand_together() -> None:
    other = replace(USUAL, kind="sliding_attention")
    found = cases([group(USUAL, (0, 2)), group(other, (1,)), group(WIDE, (3,))], (), [SDPA, FLASH], "bfloat16")
    assert [(case.implementation, case.layers) for case in found] == [
        (SDPA, (0, 1, 2)),
        (FLASH, (0, 1, 2)),
        (SDPA, (3,)),
        (FLASH, (3,)),
    ]


def test_flash_kernels_get_latent_heads_with_widened_values() -> None:
    assert shape(LATENT) == Shape(128, 128, 192, 128)
    (flash,) = cases([group(LATENT)], (), [FLASH], "bfloat16")
    assert flash.shape == Shape(128, 128, 192, 192)
    assert flash.declared_v == 128


def test_kv_heads_that_the_model_repeats_by_itself_count_as_repeated() -> None:
    assert shape(USUAL, SDPA, run(SDPA, num_kv_heads=4)) == Shape(32, 32, 128, 128, Window(4095, 0))
    assert shape(USUAL, SDPA, run(SDPA)) == Shape(32, 8, 128, 128, Window(4095, 0))


@pytest.mark.parametrize(
    "spec",
    [
        replace(USUAL, attends=False),
        replace(USUAL, head_dim=None),
        replace(USUAL, num_heads=None),
        replace(USUAL, num_heads=30, num_kv_heads=8),
        replace(USUAL, unknown=frozenset({"kind"})),
    ],
)
def test_no_shape_is_guessed(spec: AttentionSpec) -> None:
    assert shape(spec) is None


def test_calls_of_another_kind_than_the_config_says_are_left_alone() -> None:
    assert shape(USUAL, SDPA, run(SDPA, head_dim=64)) is None


def test_what_is_unknown_is_not_asked_for() -> None:
    unknown = frozenset({"window", "scale", "softcap", "sinks", "bias", "chunk"})
    terms = SoftmaxSpec(scale=3.0, softcap=5.0, sinks=True, bias=Bias.ALIBI)
    spec = replace(USUAL, unknown=unknown, softmax=terms, mask=MaskSpec(Window(7, 0), 9))
    assert shape(spec) == Shape(32, 8, 128, 128, unknown=("window", "chunk"))


@pytest.mark.parametrize("environment", [ENVIRONMENT, H100])
def test_only_limits_about_the_sizes_count(environment: Any) -> None:
    assert documented(FLASH, environment, Shape(32, 8, 128, 128, dtype="float32")) == ()
    (reason,) = documented(FLASH, environment, Shape(8, 4, 512, 512))
    assert "256" in reason.limit
    assert documented(FLASH, environment, Shape(128, 128, 192, 128))
    assert documented(SDPA, environment, Shape(8, 4, 512, 512)) == ()
    assert documented("eager", environment, Shape(8, 4, 512, 512)) == ()
    assert documented("made-up", environment, Shape(8, 4, 512, 512)) == ()


def read(spec: AttentionSpec, names: Sequence[str], plan: Plan, environment: Any = ENVIRONMENT) -> Any:
    return shapes.read(cases([group(spec)], (), names, "bfloat16"), environment, plan)


def test_a_machine_without_a_gpu_runs_nothing_but_reads_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "Jobs", _NoJobs)
    assert read(USUAL, ["eager", SDPA, "flex_attention", FLASH], Plan("cpu")) == ()
    (refused,) = read(WIDE, ["eager", SDPA, "flex_attention", FLASH], Plan("cpu"))
    assert (refused.implementation, refused.outcome, refused.basis) == (FLASH, Outcome.REFUSED, Basis.STATIC)
    (widened,) = read(LATENT, [SDPA, FLASH], Plan("cpu"))
    assert (widened.implementation, widened.outcome, widened.declared_v) == (FLASH, Outcome.NOT_RUN, 128)


@pytest.mark.parametrize("term", ["direction", "window", "chunk"])
def test_a_mask_that_nobody_knows_is_not_probed(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "Jobs", _NoJobs)
    spec = replace(USUAL, unknown=frozenset({term}))
    (found,) = read(spec, [SDPA], Plan("cuda"), H100)
    assert (found.outcome, found.basis, found.layers) == (Outcome.NOT_RUN, None, (0,))
    assert found.detail == f"not probed: the declared {term} is unknown"
    assert f"{term} unknown" in words(found.shape)
    assert read(spec, [SDPA], Plan("cpu")) == ()
    (refused,) = read(replace(WIDE, unknown=frozenset({term})), [FLASH], Plan("cuda"), H100)  # limits need no mask
    assert (refused.outcome, refused.basis) == (Outcome.REFUSED, Basis.STATIC)


def test_a_gpu_without_the_library_reads_limits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.backends.environments import with_libraries

    monkeypatch.setattr(shapes, "Jobs", _NoJobs)
    without = with_libraries(H100, {"flash-attn": None})
    (refused,) = read(WIDE, [FLASH], Plan("cuda"), without)
    assert refused.basis is Basis.STATIC


class _NoJobs:
    """Refuses to run anything."""

    def __init__(self, _: float) -> None:
        pass

    def __enter__(self) -> _NoJobs:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, *_: object, **__: object) -> Any:
        raise AssertionError("nothing may run here")


def test_a_kernel_that_dies_is_a_reading_and_the_others_are_read() -> None:
    """In real workers: the death of one process costs its own step only."""
    small = Shape(4, 2, 16, 16, Window(31, 0), dtype="float32")
    wanted = [
        ShapeCase("made_attention", Part.DECODER, (0,), replace(small, head_dim=80, head_dim_v=80)),
        ShapeCase("made_attention", Part.DECODER, (1,), small),
    ]
    plan = Plan("cpu", plugins=("tests.plugins.shape_kernels",), on_cpu=True, longest=512)
    found = shapes.read(wanted, ENVIRONMENT, plan)
    dead = [reading for reading in found if reading.outcome is Outcome.CRASHED]
    assert {(reading.api, reading.layers, reading.variant) for reading in dead} == {
        ("dies-at-80", (0,), ""),
        ("dies-at-80", (0,), EXPLICIT_MASK),
    }
    assert all("SIGSEGV" in reading.detail for reading in dead)
    right = [reading for reading in found if reading.api == "right"]
    assert {(reading.layers, reading.variant) for reading in right} == {
        (layers, variant) for layers in ((0,), (1,)) for variant in ("", EXPLICIT_MASK)
    }
    assert all(reading.outcome is Outcome.READ and reading.mask_ok for reading in right)
    assert [reading.layers for reading in found if reading.api == "dies-at-80" and reading.mask_ok] == [(1,), (1,)]
    assert all(reading.implementation == "made_attention" and reading.part is Part.DECODER for reading in found)
    # An API without a mask argument has no second variant.
    assert [reading.variant for reading in found if reading.api == "right-bshd"] == ["", ""]
