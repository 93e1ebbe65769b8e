"""`attncheck.watch` round a live model: what it records, when it warns, and that it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, modeling_utils
from transformers.models.mistral import modeling_mistral

import attncheck
from attncheck.errors import FindingsError
from attncheck.semantics.observation import Basis
from attncheck.verdicts import Implementation, Status

IDS = torch.arange(3, 21).view(2, 9)
PADDED = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])


def model(implementation: str = "sdpa") -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 64, "sliding_window": 5}
    config = MistralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    return MistralForCausalLM._from_config(config, attn_implementation=implementation).train()


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Any:
    before = (
        F.scaled_dot_product_attention,
        dict(modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping),
        modeling_mistral.eager_attention_forward,
        vars(modeling_utils.AttentionInterface).get("register"),
    )
    yield
    after = (
        F.scaled_dot_product_attention,
        dict(modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping),
        modeling_mistral.eager_attention_forward,
        vars(modeling_utils.AttentionInterface).get("register"),
    )
    assert before == after


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_real_steps_are_recorded_and_right(implementation: str) -> None:
    made = model(implementation)
    with attncheck.watch(made) as watching:
        for _ in range(5):
            made(input_ids=IDS, attention_mask=PADDED, labels=IDS).loss.backward()
    report = watching.report
    assert (report.command, report.findings, report.exit_code) == ("watch", (), 0)
    assert report.watch is not None
    (site,) = report.watch.sites
    assert (site.verdict, site.implementation, site.layers, site.calls) == ("ok", implementation, (0, 1), 6)
    assert site.basis is Basis.MEASURED
    assert (site.sees, site.phase) == ("5 keys: 4 back, 0 ahead, no padding", "train")


def test_the_step_is_the_same_with_and_without_it() -> None:
    def step(watched: bool) -> tuple[float, list[Tensor], Tensor]:
        made = model()
        made.config.attention_dropout = 0.2
        for layer in made.model.layers:
            layer.self_attn.attention_dropout = 0.2
        torch.manual_seed(1)
        if watched:
            with attncheck.watch(made) as watching:
                loss = made(input_ids=IDS, labels=IDS).loss
                loss.backward()
            assert watching.calls
        else:
            loss = made(input_ids=IDS, labels=IDS).loss
            loss.backward()
        return float(loss.detach()), [parameter.grad for parameter in made.parameters()], torch.rand(3)

    one, other = step(True), step(False)
    assert one[0] == other[0]
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1]))
    assert torch.equal(one[2], other[2])


def test_generation_with_a_cache_is_right() -> None:
    made = model().eval()
    with attncheck.watch(made, calls=6) as watching, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        left = PADDED.flip(1)
        made.generate(IDS, attention_mask=left, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert watching.report.findings == ()
    assert watching.report.watch is not None
    assert {site.verdict for site in watching.report.watch.sites} == {"ok"}
    assert any("on" in site.shape for site in watching.report.watch.sites)


@pytest.mark.parametrize(
    ("fault", "slug"),
    [
        ({"attention_mask": None}, "window-ignored"),
        ({"attention_mask": None, "is_causal": False}, "window-ignored"),
    ],
)
def test_a_planted_fault_is_found(fault: dict[str, Any], slug: str) -> None:
    made = model()
    sdpa = modeling_utils.ALL_ATTENTION_FUNCTIONS["sdpa"]

    def planted(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
        return sdpa(module, query, key, value, **{"attention_mask": attention_mask, **kwargs, **fault})

    made.set_attn_implementation("sdpa")
    modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping["sdpa"] = planted
    try:
        with attncheck.watch(made) as watching:
            made(input_ids=IDS)
    finally:
        modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping["sdpa"] = sdpa
    (finding,) = [finding for finding in watching.report.findings if finding.slug == slug]
    assert finding.layers == (0, 1)
    assert finding.evidence.leaked
    with pytest.raises(FindingsError, match=slug):
        watching.report.raise_for_findings()


def test_a_change_for_the_worse_is_warned_of_once() -> None:
    made = model()
    sdpa = modeling_utils.ALL_ATTENTION_FUNCTIONS["sdpa"]
    dropped: list[bool] = []

    def planted(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
        return sdpa(module, query, key, value, None if dropped else attention_mask, **kwargs)

    modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping["sdpa"] = planted
    try:
        with warnings.catch_warnings(record=True) as told, attncheck.watch(made) as watching:
            warnings.simplefilter("always")
            for _ in range(3):
                made(input_ids=IDS)
                dropped.append(True)
    finally:
        modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping["sdpa"] = sdpa
    seen = [entry for entry in told if entry.category is attncheck.AttentionChanged]
    assert len(seen) == 1
    assert "layer 0 changed between steps: window-ignored, which was not so before" in str(seen[0].message)
    assert "attncheck" not in seen[0].filename
    assert len({change.partition(" changed")[0] for change in watching.changes}) == 2  # both layers


def test_batches_with_and_without_padding_are_usual() -> None:
    made = model()
    made.config.sliding_window = None
    for layer in made.model.layers:
        layer.self_attn.sliding_window = None
    with warnings.catch_warnings(), attncheck.watch(made) as watching:
        warnings.simplefilter("error")
        for mask in (None, None, PADDED, None):
            made(input_ids=IDS, attention_mask=mask)
    assert {call.mask_kind for call in watching.calls} == {"none", "bool"}
    assert watching.changes == []


def test_equal_steps_are_not_warned_of() -> None:
    made = model()
    with warnings.catch_warnings(), attncheck.watch(made) as watching:
        warnings.simplefilter("error")
        for _ in range(4):
            made(input_ids=IDS, attention_mask=PADDED)
        made.eval()
        made(input_ids=IDS)
    assert watching.changes == []


def test_a_warning_that_is_an_error_ends_the_step() -> None:
    made = model()
    with warnings.catch_warnings(), attncheck.watch(made):
        warnings.simplefilter("error", attncheck.AttentionChanged)
        made(input_ids=IDS)
        made.set_attn_implementation("eager")
        with pytest.raises(attncheck.AttentionChanged, match="implementation sdpa -> eager"):
            made(input_ids=IDS)


def verified(**given: Any) -> attncheck.Report:
    """What `verify` would say of a right sdpa."""
    from attncheck.environment import read_environment

    entry = Implementation("sdpa", True, Basis.MEASURED, Status.OK, kernels=("flash",))
    return attncheck.Report("verify", "0", read_environment(), implementations=(dataclasses.replace(entry, **given),))


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (verified(), ""),
        (verified(name="eager", kernels=()), "sdpa runs, verified was eager"),
        (verified(kernels=("math",)), "the kernel is flash, verified was math"),
    ],
)
def test_what_was_verified_is_compared_with(report: attncheck.Report, expected: str) -> None:
    made = model()
    with warnings.catch_warnings(record=True), attncheck.watch(made, report) as watching:
        warnings.simplefilter("always")
        made(input_ids=IDS)
    assert all(expected in change for change in watching.changes)
    assert bool(watching.changes) is bool(expected)


def test_a_real_verification_is_compared_with() -> None:
    made = model()
    report = attncheck.verify(made, {"input_ids": IDS})
    with warnings.catch_warnings(), attncheck.watch(made, report) as watching:
        warnings.simplefilter("error")
        made(input_ids=IDS)
    assert watching.changes == []
    made.set_attn_implementation("eager")
    with warnings.catch_warnings(record=True), attncheck.watch(made, report) as watching:
        warnings.simplefilter("always")
        made(input_ids=IDS)
    assert "eager runs, verified was sdpa" in watching.changes[0]


def test_an_earlier_watch_is_compared_with() -> None:
    made = model()
    with attncheck.watch(made) as earlier:
        made(input_ids=IDS)
    with warnings.catch_warnings(), attncheck.watch(made, earlier.report) as watching:
        warnings.simplefilter("error")
        made(input_ids=IDS)
    made.set_attn_implementation("eager")
    with warnings.catch_warnings(record=True), attncheck.watch(made, earlier.report) as watching:
        warnings.simplefilter("always")
        made(input_ids=IDS)
    assert "seen then was sdpa" in watching.changes[0]


def test_other_models_of_the_process_are_not_watched() -> None:
    made, other = model(), model()
    with attncheck.watch(made) as watching:
        other(input_ids=IDS)
        F.scaled_dot_product_attention(*[torch.ones(1, 1, 2, 4)] * 3)
    assert watching.calls == []
    assert watching.report.exit_code == 0


def test_a_model_of_ones_own_without_a_config() -> None:
    class Own(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, torch.ones(6, 6).tril())

    own = Own()
    with attncheck.watch(own) as watching:
        own(torch.randn(1, 2, 6, 8))
    assert [finding.slug for finding in watching.report.findings] == ["mask-hides-nothing"]


def test_everything_is_put_back_after_an_exception() -> None:
    made = model()
    with pytest.raises(RuntimeError), attncheck.watch(made):
        made(input_ids=IDS.float())
    assert not made._forward_pre_hooks
    assert not made._forward_hooks


def test_functions_registered_meanwhile_are_watched_too() -> None:
    made = model()
    sdpa = modeling_utils.ALL_ATTENTION_FUNCTIONS["sdpa"]

    def own(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
        return sdpa(module, query, key, value, attention_mask, **kwargs)

    try:
        with attncheck.watch(made) as watching:
            modeling_utils.AttentionInterface.register("own", own)
            made.set_attn_implementation("own")
            made(input_ids=IDS)
        assert {call.implementation for call in watching.calls} == {"own"}
        assert all(call.seen for call in watching.calls)  # of what others register, the kernel below is repeated
    finally:
        modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping.pop("own", None)


def test_what_was_registered_meanwhile_stays_and_is_the_users_own() -> None:
    functions, made = modeling_utils.ALL_ATTENTION_FUNCTIONS, model()
    own, before = functions["sdpa"], dict(modeling_utils.ALL_ATTENTION_FUNCTIONS._global_mapping)

    def mine(*given: Any, **further: Any) -> Any:
        return own(*given, **further)

    try:
        with attncheck.watch(made):
            functions.register("mine", mine)
            with attncheck.watch(made):
                pass
            assert functions["mine"] is not mine  # the inner watch ends with its own stand-ins only
            functions._global_mapping["eager"] = mine
        assert functions["mine"] is mine
        assert functions._global_mapping["eager"] is mine
    finally:
        functions._global_mapping.clear()
        functions._global_mapping.update(before)
