"""A stored bench held against a target: sizes decide what is taken, everything else that differs is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import attncheck
from attncheck import cli, pipeline
from attncheck.comparison import stored_bench
from attncheck.comparison.options import CompareOptions
from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.render import interface
from attncheck.report import Report
from attncheck.semantics.spec import CAUSAL, AttentionSpec, MaskSpec, Part, SoftmaxSpec, Window
from attncheck.semantics.speeds import HeldBench
from attncheck.semantics.timing import Bench, BenchCell
from attncheck.verdicts import LayerGroup, Model
from tests import sample_benches, sample_machines
from tests.builders import ENVIRONMENT, GPU_ENVIRONMENT
from tests.sample_benches import case, timed

SWA = Path(__file__).parents[1] / "gpu" / "recorded" / "bench_swa.json"
MODEL = Model("made", "model_type", "", "llama", 2, ())


def group(layers: int = 2, window: Window = CAUSAL, heads: int = 16, **fields: Any) -> LayerGroup:
    sizes: dict[str, Any] = {"num_heads": heads, "num_kv_heads": heads, "head_dim": 128, **fields}
    spec = AttentionSpec(Part.DECODER, 0, mask=MaskSpec(window), softmax=SoftmaxSpec(scale=0.088), **sizes)
    return LayerGroup(Part.DECODER, tuple(range(layers)), spec)


def report(*cells: BenchCell, model: Model | None = MODEL, **fields: Any) -> Report:
    bench = fields.pop("bench", Bench(cells, rates=sample_benches.RATES))
    return Report("bench", "0.1.0", GPU_ENVIRONMENT, {"device": "cuda"}, model=model, bench=bench, **fields)


def cells(tokens: int = 1024, **changes: Any) -> tuple[BenchCell, ...]:
    times = {"eager": 4.0, "sdpa": 2.0, "flash-attn-2": 1.0, "sdpa-cudnn": 0.5, "varlen_attn": 0.4}
    return tuple(timed(case(name, tokens, **changes), time) for name, time in times.items())


def held(
    found: Report,
    *groups: LayerGroup,
    environment: Environment = GPU_ENVIRONMENT,
    device: str = "cuda",
    **options: Any,
) -> HeldBench:
    asked = CompareOptions("made", bench="old.json", **options)
    return stored_bench.held(found, asked, "llama", groups or (group(),), environment, device)


def test_times_of_all_layers_of_what_transformers_calls() -> None:
    found = held(report(*cells()))
    assert (found.unused, found.remarks, found.level, found.dtype) == ("", (), "kernel", "bfloat16")
    times = {call.implementation: (call.subject, round(call.median * 1e3, 6), call.layers) for call in found.calls}
    assert times == {
        "eager": ("eager", 8.0, 2),
        "sdpa": ("sdpa", 4.0, 2),  # neither a forced kernel of SDPA, nor what no implementation calls
        "flash_attention_2": ("flash-attn-2", 2.0, 2),
    }
    assert found.bench is not None
    assert {cell.case.subject for cell in found.bench.cells} == {"eager", "sdpa", "flash-attn-2"}


def test_layers_count_before_kernels() -> None:
    layers = [timed(case(name, 1024, level="layer"), time) for name, time in (("eager", 5.0), ("sdpa", 3.0))]
    found = held(report(*cells(), *layers))
    assert found.level == "layer"
    assert {call.implementation for call in found.calls} == {"eager", "sdpa"}


def test_every_size_of_the_model_must_be_there() -> None:
    windowed = group(3, Window(1023, 0))
    both = report(*cells(), *cells(window=Window(1023, 0)))
    found = held(both, group(), windowed)
    assert {call.layers for call in found.calls} == {5}
    assert {round(call.median * 1e3, 6) for call in found.calls} == {20.0, 10.0, 5.0}
    lacking = held(report(*cells()), group(), windowed)
    assert lacking.calls == ()
    assert "it has no time of what this model declares (causal, window 1024" in lacking.unused
    assert "it timed causal, 16 heads, head_dim 128, bfloat16" in lacking.unused


@pytest.mark.parametrize(
    "changes",
    [{"heads": 32}, {"num_kv_heads": 4}, {"head_dim": 64}, {"head_dim_v": 64}, {"window": Window(511, 0)}],
)
def test_other_sizes_are_not_used(changes: dict[str, Any]) -> None:
    assert held(report(*cells()), group()).calls
    found = held(report(*cells()), group(**changes))
    assert (found.calls, found.bench) == ((), None)
    assert "it has no time of what this model declares" in found.unused


def test_what_is_wrong_or_has_no_time_counts_for_nothing() -> None:
    excluded = [replace(cell, excluded="window-ignored") for cell in cells()]
    assert held(report(*excluded)).unused == "it has no time of anything right"
    one = [cell for cell in cells() if cell.case.subject in ("sdpa", "sdpa-cudnn")]
    assert "fewer than two implementations" in held(report(*one)).unused


def test_what_differs_is_said() -> None:
    libraries = tuple(replace(entry, version="1.0") for entry in GPU_ENVIRONMENT.libraries if entry.version)
    other = replace(GPU_ENVIRONMENT, libraries=libraries)
    told = held(report(*cells(), model=None, bench=Bench(cells(), preset="swa", complete=False)), environment=other)
    assert told.calls
    said = " | ".join(told.remarks)
    assert "bench of preset swa, not of this model" in said
    assert "torch 2.13.0+cu130 (here 1.0), transformers 5.23.0 (here 1.0), flash-attn 2.8.3 (here 1.0)" in said
    assert "it was interrupted" in said
    assert (
        "bench of mistral, not of llama"
        in held(report(*cells(), model=replace(MODEL, model_type="mistral"))).remarks[0]
    )
    here = held(report(*cells()), environment=ENVIRONMENT, device="cpu")
    assert here.calls
    assert "measured on NVIDIA H100 80GB HBM3; here is no GPU in use" in here.remarks[0]
    assert "torch 2.13.0+cu130 (here 2.13.0+cpu)" in here.remarks[1]
    assert "flash-attn" not in here.remarks[1]  # where it is absent, nothing of it runs


def test_a_dtype_that_was_said_must_be_the_same() -> None:
    assert "this run is in float16" in held(report(*cells()), dtype="float16").unused
    single = report(*cells(dtype="float32"))
    assert "this run is in bfloat16" in held(single).unused
    assert held(single, environment=ENVIRONMENT, device="cpu").dtype == "float32"  # nobody said what will be run


def test_times_of_a_cpu_say_nothing_of_a_gpu_and_those_of_flash_nothing_of_its_absence() -> None:
    on_cpu = replace(report(*cells()), arguments={"device": "cpu"})
    assert held(on_cpu).unused == "it was measured on a CPU, and this run is on a GPU"
    assert held(on_cpu, environment=ENVIRONMENT, device="cpu").calls
    assert "--without flash" in held(report(*cells()), without=("flash",)).unused


def test_a_model_whose_sizes_nobody_knows() -> None:
    found = held(report(*cells()), group(unknown=frozenset({"window"})))
    assert found.unused == "sizes or mask of the decoder layers 0, 1 are not declared"
    assert "attention matrix" in held(report(*cells()), LayerGroup(Part.CROSS, (0,), group().spec)).unused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no report of attncheck that can be read: it is not JSON"),
        ('{"schema": 2}', "its schema is 2"),
        (interface.render(sample_machines.h100_report(), "json"), "is a report of attncheck doctor without any times"),
        (
            interface.render(replace(sample_benches.swa_report(), bench=None), "json"),
            "is a report of attncheck bench without any times",
        ),
    ],
)
def test_a_file_that_is_no_bench_is_one_line_and_2(text: str | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match="--bench"):
        stored_bench.read(str(file))
    result = CliRunner().invoke(cli.app, ["compare", "llama", "--bench", str(file)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 2
    assert words in result.stderr


def test_python_hands_over_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[CompareOptions] = []

    def compare(options: CompareOptions) -> Report:
        asked.append(options)
        return report()

    monkeypatch.setattr(pipeline, "compare", compare)
    attncheck.compare("llama", bench=tmp_path / "old.json")
    attncheck.compare("llama")
    assert [options.bench for options in asked] == [str(tmp_path / "old.json"), None]


def test_a_bench_recorded_on_an_h100_orders_a_model_of_its_sizes() -> None:
    """Real figures, a real run on the CPU: flash is only predicted right, so sdpa stays, with what it costs."""
    sizes = ("num_attention_heads=16", "num_key_value_heads=16", "head_dim=128", "hidden_size=2048")
    arguments = [text for size in (*sizes, "sliding_window=1024") for text in ("--set", size)]
    command = ["compare", "mistral", *arguments, "--impl", "eager,sdpa,flash_attention_2", "--scenario", "plain"]
    command += ["--device", "cpu", "--bench", str(SWA), "--format", "json"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["recommended"]["implementation"] == "sdpa"
    assert "4.1 times as fast as eager at 32768 tokens" in found["recommended"]["why"]
    assert "flash_attention_2 is 31.7 times as fast, but predicted right only" in found["recommended"]["why"]
    assert (found["speeds"]["device"], found["speeds"]["layers"]) == ("NVIDIA H100 80GB HBM3", 32)
    (slow,) = [finding for finding in found["findings"] if finding["slug"] == "slow-path"]
    assert slow["implementation"] == "sdpa"
    assert slow["evidence"]["figures"]["exponent of growth"] > 1.9
    assert slow["recommendations"][0]["settings"]["transformers"]["attn_implementation"] == '"flash_attention_2"'
    assert "use flash_attention_2 in transformers (predicted right only): " in slow["recommendations"][0]["text"]
