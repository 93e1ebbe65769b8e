"""`attncheck.verify` on live tiny models: quiet on healthy ones, names faults rightly, says what it could not see."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import torch

import attncheck
from attncheck.checks import evaluate
from attncheck.render import interface
from attncheck.render import json as json_renderer
from attncheck.semantics.observation import Observed
from tests import faults
from tests.live.live_models import built, model, packed, padded, slugs, tokens, verdicts

#: The ways in which models of the library differ: windows, caps, sinks, chunks, sharing, positions, experts, stacks.
TYPES = (
    "llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3", "olmo2", "cohere2", "gpt2", "opt", "gpt_neox",
    "llama4_text", "stablelm", "starcoder2", "granite", "smollm3", "bert", "t5", "bart", "deepseek_v3", "nemotron",
    "mixtral",
)  # fmt: skip
EAGER_ONLY = ("gemma2", "gpt_oss", "bloom", "falcon", "gptj", "gpt_neo", "rembert")


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("model_type", [*TYPES, *EAGER_ONLY])
def test_healthy_models_give_no_findings(model_type: str, mode: str) -> None:
    live = model(model_type, "eager" if model_type in EAGER_ONLY else "sdpa").train(mode == "train")
    report = attncheck.verify(live)
    assert slugs(report) == set()
    assert "ok" in verdicts(report, "plain")
    assert report.exit_code == 0
    assert report.raise_for_findings() is report


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("model_type", ["mistral", "gemma2", "gpt_oss"])
def test_planted_faults_are_found_and_rightly_named(model_type: str, mode: str) -> None:
    from attncheck.declared import oracle

    live = model(model_type, faults.NAME).train(mode == "train")
    tiny = built(model_type)
    spec = oracle.declare(tiny.info.config, tiny.defaults)
    for fault in faults.FAULTS:
        if not fault.befalls(spec) or (mode == "train" and fault.name == "dropout in eval"):
            continue
        with faults.planted(fault):
            report = attncheck.verify(live, use="generate", packing="packed" in fault.scenarios)
        assert slugs(report) & fault.slugs, fault.name
        with pytest.raises(attncheck.FindingsError, match=next(iter(slugs(report) & fault.slugs))):
            report.raise_for_findings("warning")


@pytest.mark.parametrize(
    "name", ["window +1", "window -1", "window dropped", "left padding dropped", "causality dropped", "NaN rows"]
)
def test_faults_behind_the_interface_are_seen_from_outside(name: str) -> None:
    live = model("mistral", faults.NAME)
    fault = next(fault for fault in faults.FAULTS if fault.name == name)
    quiet = attncheck.verify(live, method="perturbation")
    with faults.planted(fault):
        report = attncheck.verify(live, method="perturbation")
    assert slugs(quiet) == set()
    assert slugs(report) & fault.slugs
    assert "replacing single tokens" in report.arguments["read by"]


def test_a_fault_in_one_layer_is_told_of_that_layer_alone() -> None:
    live = model("llama", "sdpa")
    wrong = live.model.layers[1].self_attn

    def both_ways(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        size = kwargs["hidden_states"].shape[1]
        return args, {**kwargs, "attention_mask": torch.ones(1, 1, size, size, dtype=torch.bool)}

    wrong.register_forward_pre_hook(both_ways, with_kwargs=True, prepend=True)
    report = attncheck.verify(live, {"input_ids": tokens()})
    found = [finding for finding in report.findings if finding.slug == "causal-ignored"]
    assert {finding.layers for finding in found} == {(1,)}
    assert "your-batch" in {finding.scenario for finding in found}


def test_padding_of_a_batch_of_ones_own() -> None:
    live = model("mistral", faults.NAME)
    batch = padded(left=5, right=0)
    fault = next(fault for fault in faults.FAULTS if fault.name == "left padding dropped")
    assert slugs(attncheck.verify(live, batch)) == set()
    with faults.planted(fault):
        report = attncheck.verify(live, batch)
    finding = next(finding for finding in report.findings if finding.scenario == "your-batch")
    assert finding.slug == "padding-ignored"
    assert finding.evidence.first_difference is not None
    assert finding.evidence.first_difference[0] == 1
    assert "5 of them padding" in report.arguments["batch"]


def test_documents_are_known_by_positions_that_start_again() -> None:
    live = model("mistral").train()
    assert slugs(attncheck.verify(live, packed(11, 13))) == set()
    leaking = {**packed(11, 13), "attention_mask": torch.ones(1, 24, dtype=torch.long)}
    assert slugs(attncheck.verify(live, leaking)) == {"packing-leak"}


def test_a_mask_of_the_callers_own_that_is_dropped() -> None:
    live = model("llama", faults.NAME)
    keep = torch.ones(2, 1, 24, 24).tril().bool()
    keep[..., 4:, 2] = False
    batch = {"input_ids": tokens(2, 24), "attention_mask": keep, "use_cache": False}
    assert slugs(attncheck.verify(live, batch)) == set()
    fault = faults.Fault("mask dropped", frozenset(), lambda call: call.keep.copy_(call.distance >= 0))
    with faults.planted(fault):
        assert "mask-dropped" in slugs(attncheck.verify(live, batch))


def test_the_switch_on_modules_that_is_honoured_here_and_not_there() -> None:
    live = model("llama", "sdpa")
    for layer in live.model.layers:
        layer.self_attn.is_causal = False
    report = attncheck.verify(live)
    finding = next(finding for finding in report.findings if finding.slug == "config-not-honoured")
    assert "is_causal=False was set on 2 attention modules" in finding.message
    assert verdicts(report, "left-pad") == {"mismatch"}
    plain = [cell.verdict.value for cell in report.matrix if cell.scenario == "plain" and cell.variant == "no-mask"]
    assert plain == ["ok"]


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_a_cache_that_is_handed_over_is_read_and_not_written_to(model_type: str, kind: str) -> None:
    from transformers import DynamicCache, StaticCache

    live, ids = model(model_type), tokens(2, 30)
    cache = DynamicCache(config=live.config) if kind == "dynamic" else StaticCache(live.config, max_cache_len=64)
    with torch.no_grad():
        live(input_ids=ids[:, :20], past_key_values=cache)
    before = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
    report = attncheck.verify(live, {"input_ids": ids[:, 20:], "past_key_values": cache})
    assert verdicts(report, "your-batch") == {"ok"}
    assert int(cache.get_seq_length()) == 20
    for layer, (keys, values) in zip(cache.layers, before):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)
    with pytest.raises(attncheck.AttnCheckError, match="no verdict"):
        attncheck.verify(
            live, {"input_ids": ids[:, 20:], "past_key_values": cache}, method="perturbation", fit=False
        ).raise_for_findings()


def test_a_cache_that_was_filled_with_gradients_on_is_read() -> None:
    """Its tensors have a history, and torch refuses to copy such tensors deeply."""
    from transformers import DynamicCache

    live, ids = model("llama"), tokens(2, 30)
    cache = DynamicCache(config=live.config)
    live(input_ids=ids[:, :20], past_key_values=cache)
    assert cache.layers[0].keys.grad_fn is not None
    report = attncheck.verify(live, {"input_ids": ids[:, 20:], "past_key_values": cache})
    assert verdicts(report, "your-batch") == {"ok"}
    assert int(cache.get_seq_length()) == 20


def test_a_vision_model_whose_embedding_has_no_weight_is_refused_in_one_line() -> None:
    """ViT's input embedding is a module of patches, not a table of tokens."""
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 32, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
    live = ViTModel(ViTConfig(**sizes, num_hidden_layers=2, num_attention_heads=2))
    with pytest.raises(attncheck.AttnCheckError, match="no input_ids"):
        attncheck.verify(live, {"pixel_values": torch.randn(1, 3, 32, 32)})


def test_layers_that_were_chosen_and_those_that_were_not() -> None:
    live = model("gemma3_text")
    report = attncheck.verify(live, padded(), layers=(5,), fit=False)
    assert report.arguments["layers read"] == "5"
    by_verdict = {cell.verdict.value: cell.layers for cell in report.matrix}
    assert by_verdict["ok"] == (5,)
    assert by_verdict["not_run"] == (0, 1, 2, 3, 4)


def test_layers_of_one_kind_are_read_once() -> None:
    report = attncheck.verify(model("gemma3_text"), padded(), fit=False)
    assert report.arguments["layers read"] == "0, 5 (4 others make the same calls)"


def test_a_window_that_the_batch_does_not_meet_is_said_to_be_unseen() -> None:
    live = model("mistral", sliding_window=4096)
    live.config.sliding_window = 4096
    report = attncheck.verify(live, {"input_ids": tokens(1, 24)})
    assert [note.code for note in report.model.notes if note.code == "window-not-met"] == ["window-not-met"]


def test_dropout_is_left_out_and_told() -> None:
    live = model("llama", attention_dropout=0.5).train()
    report = attncheck.verify(live, padded())
    assert slugs(report) == set()
    assert any(note.code == "dropout" and "0.5" in note.text for note in report.model.notes)


def test_dropout_that_a_function_adds_by_itself_is_no_fault_in_training() -> None:
    live = model("mistral", faults.NAME).train()
    fault = next(fault for fault in faults.FAULTS if fault.name == "dropout in eval")
    with faults.planted(fault):
        assert slugs(attncheck.verify(live, padded())) == set()
        assert "dropout-active" in slugs(attncheck.verify(live.eval(), padded()))


def test_another_config_to_judge_by() -> None:
    live = model("mistral")
    declared = {**live.config.to_dict(), "sliding_window": 6}
    assert slugs(attncheck.verify(live, padded(), declared=declared)) == {"window-size-wrong"}


def test_memory_that_does_not_suffice_is_said_and_nothing_is_called_right() -> None:
    live = model("llama", hidden_size=64)
    report = attncheck.verify(live, padded(rows=64, length=200), memory=1 << 20, fit=False)
    assert verdicts(report, "your-batch") == {"not_run"}
    assert "raise memory=" in report.matrix[0].reason
    assert report.exit_code == 3
    with pytest.raises(attncheck.AttnCheckError, match="no verdict"):
        report.raise_for_findings()


def test_a_forward_that_breaks_is_a_result() -> None:
    live = model("gpt2")
    beyond = torch.full((2, 40), 10**6)  # no such position
    report = attncheck.verify(live, {"input_ids": tokens(), "position_ids": beyond}, fit=False)
    assert verdicts(report, "your-batch") == {"error"}
    assert "index out of range" in report.matrix[0].reason
    calls = [run for run in [report] if run.exit_code]
    assert calls


def test_a_function_that_cannot_be_repeated_is_not_called_right() -> None:
    live = model("llama", faults.NAME)
    calls: list[int] = []

    def second_call_breaks(call: faults.Call) -> None:
        calls.append(1)
        if len(calls) % 2 == 0:
            raise RuntimeError("only once")

    with faults.planted(faults.Fault("breaks", frozenset(), second_call_breaks)):
        report = attncheck.verify(live, padded(), fit=False, method="interface")
    assert verdicts(report, "your-batch") == {"not_run"}
    assert "only once" in report.matrix[0].reason


def test_models_that_are_called_in_another_way() -> None:
    live = model("mistral")
    report = attncheck.verify(live, padded(), forward=lambda it, batch: it.model(**batch))
    assert verdicts(report, "your-batch") == {"ok"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"method": "guess"}, "method='guess'"),
        ({"use": "play"}, "use='play'"),
        ({"memory": 12}, "memory=12"),
        ({"layers": ()}, "layers="),
        ({"fail_on": "bad"}, "fail_on='bad'"),
    ],
)
def test_values_that_mean_nothing(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(attncheck.AttnCheckError, match=says) as raised:
        attncheck.verify(model("llama"), **arguments)
    assert raised.value.exit_code == 2


def test_what_is_no_model_and_what_is_no_batch() -> None:
    with pytest.raises(attncheck.AttnCheckError, match="no transformers model"):
        attncheck.verify(torch.nn.Linear(2, 2))
    with pytest.raises(attncheck.AttnCheckError, match="no input_ids"):
        attncheck.verify(model("llama"), {"labels": tokens()})
    with pytest.raises(attncheck.AttnCheckError, match="mapping"):
        attncheck.verify(model("llama"), [tokens()])  # type: ignore[arg-type]


def test_reports_render_everywhere_and_keep_to_the_schema() -> None:
    live = model("mistral", faults.NAME)
    with faults.planted(next(fault for fault in faults.FAULTS if fault.name == "window dropped")):
        report = attncheck.verify(live, padded())
    wired = json.loads(json_renderer.render(report, interface.Style(width=100)))
    jsonschema.validate(wired, json_renderer.schema())
    assert wired["command"] == "verify"
    assert wired["model"]["source"] == "live"
    for name in ("terminal", "markdown", "html"):
        assert "window-ignored" in interface.render(report, name, interface.Style(width=100))


def test_the_snippet_of_a_finding_shows_it_without_attncheck() -> None:
    live = model("mistral", faults.NAME)
    batch = padded(left=5, right=0)
    fault = next(fault for fault in faults.FAULTS if fault.name == "left padding dropped")
    with faults.planted(fault):
        report = attncheck.verify(live, batch)
        finding = next(finding for finding in report.findings if finding.scenario == "your-batch")
        assert _printed(finding.reproduction, live, batch).startswith("query")
        assert " sees key" in _printed(finding.reproduction, live, batch)
    assert " does not see key" in _printed(finding.reproduction, live, batch)


def _printed(code: str, live: Any, batch: Any) -> str:
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, {"model": live, "batch": batch})
    return said.getvalue()


def test_a_measurement_can_be_judged_later() -> None:
    from attncheck.live.verify import Settings, judge, measure

    live = model("mistral")
    found = measure(live, padded(), Settings())
    assert all(isinstance(run.outcome, Observed) for run in found.runs)
    assert judge(live, [found], Settings()).exit_code == 0
    assert callable(evaluate)


@pytest.mark.parametrize("layers", [[2], [0, 99]])
def test_a_layer_that_is_not_there_is_a_usage_error(layers: list[int]) -> None:
    with pytest.raises(attncheck.AttnCheckError, match=rf"has no layer {layers[-1]}; its layers are 0 to 1$") as raised:
        attncheck.verify(model("llama"), layers=layers)
    assert raised.value.exit_code == 2
    assert attncheck.verify(model("llama"), layers=[1], fit=False).exit_code == 0


@pytest.mark.parametrize("wrong", [500, 128, -1])
def test_token_ids_without_an_embedding_are_the_batchs_fault_and_not_the_attentions(wrong: int) -> None:
    live, ids = model("llama"), tokens(2, 8)
    rows = live.get_input_embeddings().weight.shape[0]
    assert rows <= 128
    ids[1, 3] = wrong
    with pytest.raises(
        attncheck.AttnCheckError, match=rf"input_ids hold {wrong} \(row 1, token 3\).* 0 to {rows - 1}$"
    ) as raised:
        attncheck.verify(live, {"input_ids": ids})
    assert raised.value.exit_code == 2
    assert "tokenizer" in raised.value.hint


def test_the_last_token_id_and_spare_rows_of_the_table_are_right() -> None:
    live, ids = model("llama"), tokens(2, 8)
    ids[0, 0] = live.config.vocab_size - 1
    assert attncheck.verify(live, {"input_ids": ids}, fit=False).exit_code == 0
    table = torch.nn.Embedding(live.config.vocab_size + 8, live.config.hidden_size)
    live.set_input_embeddings(table)
    ids[0, 0] = live.config.vocab_size + 7
    assert attncheck.verify(live, {"input_ids": ids}, fit=False).exit_code == 0


def test_a_forward_of_the_users_may_change_ids_and_is_told_of_those_it_does_not() -> None:
    live, ids = model("llama"), tokens(2, 8)
    ids[0, 0] = -200

    def changing(model: Any, batch: Any) -> Any:
        return model(input_ids=batch["input_ids"].clamp(min=0))

    assert attncheck.verify(live, {"input_ids": ids}, forward=changing).exit_code == 0
    with pytest.raises(attncheck.AttnCheckError, match="input_ids hold -200"):
        attncheck.verify(live, {"input_ids": ids}, forward=lambda model, batch: model(**batch))
