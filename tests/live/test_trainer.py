"""The Trainer callback: verifies with the first real batch, before the first step, and changes nothing."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, modeling_utils

import attncheck
from attncheck.errors import FindingsError, UsageError
from attncheck.live import trainer as live

IDS = torch.arange(3, 27).view(2, 12)


def model() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 64, "sliding_window": 5}
    return MistralForCausalLM(MistralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).train()


@pytest.fixture
def loses_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    sdpa = modeling_utils.ALL_ATTENTION_FUNCTIONS["sdpa"]

    def planted(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
        return sdpa(module, query, key, value, None, **kwargs)

    monkeypatch.setitem(modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", planted)


def begin(callback: Any, made: Any) -> None:
    callback.on_train_begin(None, None, None, model=made)


def test_the_first_batch_is_verified_once() -> None:
    made, callback = model(), attncheck.AttnCheckCallback()
    begin(callback, made)
    assert callback.report is None
    made(input_ids=IDS, labels=IDS)
    report = callback.report
    assert report is not None
    assert (report.command, report.findings) == ("verify", ())
    assert not made._forward_pre_hooks
    made(input_ids=IDS, labels=IDS)
    assert callback.report is report


def test_batches_given_by_position_have_their_names() -> None:
    made, callback = model(), attncheck.AttnCheckCallback()
    begin(callback, made)
    made(IDS, torch.ones_like(IDS))
    assert callback.report is not None


def test_an_evaluation_before_the_first_step_is_not_taken_for_it() -> None:
    made, callback = model(), attncheck.AttnCheckCallback()
    begin(callback, made)
    made.eval()
    made(input_ids=IDS)
    assert callback.report is None
    callback.on_train_end(None, None, None)
    assert not made._forward_pre_hooks


@pytest.mark.usefixtures("loses_its_window")
def test_findings_end_the_training() -> None:
    made, callback = model(), attncheck.AttnCheckCallback()
    begin(callback, made)
    with pytest.raises(FindingsError, match="window-ignored"):
        made(input_ids=IDS, labels=IDS)
    assert not made._forward_pre_hooks


@pytest.mark.usefixtures("loses_its_window")
def test_or_only_warn() -> None:
    made, callback = model(), attncheck.AttnCheckCallback("warn")
    begin(callback, made)
    with pytest.warns(live.AttentionFindings, match="window-ignored"):
        made(input_ids=IDS, labels=IDS)


def test_a_verification_that_cannot_be_made() -> None:
    made, callback = model(), attncheck.AttnCheckCallback(method="nonsense")
    begin(callback, made)
    with pytest.warns(live.AttentionFindings, match="could not verify"):
        made(input_ids=IDS, labels=IDS)
    strict = attncheck.AttnCheckCallback(method="nonsense", on_failure="raise")
    begin(strict, made)
    with pytest.raises(UsageError):
        made(input_ids=IDS, labels=IDS)


@pytest.mark.parametrize("wrong", [{"on_findings": "shout"}, {"on_failure": "ignore"}, {"fail_on": "note"}])
def test_wrong_choices_are_refused_at_once(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="expected"):
        attncheck.AttnCheckCallback(**wrong)  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="the Trainer needs accelerate")
def test_a_real_trainer_learns_the_same_with_it(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    def losses(*callbacks: Any) -> list[float]:
        arguments = TrainingArguments(
            output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=2, report_to=[], save_strategy="no",
            logging_steps=1, use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in torch.arange(3, 3 + 96).view(8, 12).remainder(60).tolist()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = Trainer(model=model(), args=arguments, train_dataset=data, callbacks=list(callbacks))
            made.train()
        return [entry["loss"] for entry in made.state.log_history if "loss" in entry]

    callback = attncheck.AttnCheckCallback()
    assert losses(callback) == losses()
    assert callback.report is not None
    assert callback.report.exit_code == 0


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="the Trainer needs accelerate")
@pytest.mark.usefixtures("loses_its_window")
def test_a_real_trainer_is_stopped_before_its_first_step(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    made = model()
    before = [parameter.clone() for parameter in made.parameters()]
    data = [{"input_ids": list(range(3, 15)), "labels": list(range(3, 15))}] * 4
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=3, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(model=made, args=arguments, train_dataset=data, callbacks=[attncheck.AttnCheckCallback()])
    with pytest.raises(FindingsError):
        trainer.train()
    assert trainer.state.global_step == 0
    assert all(torch.equal(one, other) for one, other in zip(before, made.parameters()))


def test_whatever_goes_wrong_is_not_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(live, "verify", broken)
    made = model()
    begin(attncheck.AttnCheckCallback(), made)
    with pytest.warns(live.AttentionFindings, match="RuntimeError: planted"):
        made(input_ids=IDS, labels=IDS)
    begin(attncheck.AttnCheckCallback(on_failure="raise"), made)
    with pytest.raises(RuntimeError, match="planted"):
        made(input_ids=IDS, labels=IDS)
