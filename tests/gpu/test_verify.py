"""`attncheck.verify` on a GPU: 4-bit weights, torch.compile, flash-attention, and memory as the report says."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any

import pytest
import torch

import attncheck
from attncheck.live.settings import Settings
from attncheck.live.verify import measure
from tests.live.live_models import padded, slugs, tokens
from tests.live.training import same, trained, wrapped

pytestmark = pytest.mark.gpu


def on_gpu(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.cuda() for name, value in batch.items()}


@pytest.mark.parametrize("kind", ["train", "checkpointing", "compiled"])
def test_training_is_the_same_with_and_without(kind: str) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)

    def look(live: Any, batch: Any) -> None:
        assert slugs(attncheck.verify(live, batch)) == set()

    try:
        alone = trained(wrapped(kind, "cuda", torch.bfloat16), None)
        again = trained(wrapped(kind, "cuda", torch.bfloat16), None)
        watched = trained(wrapped(kind, "cuda", torch.bfloat16), look)
    finally:
        torch.use_deterministic_algorithms(False)
    if not same(alone, again):
        pytest.skip("training itself is not reproducible here")
    assert same(alone, watched)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_four_bit_weights(tmp_path: Any) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, MistralConfig, MistralForCausalLM

    config = MistralConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=256, sliding_window=16,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(tmp_path)
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_quant_type="nf4")
    live = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=quantised, dtype=torch.bfloat16)
    batch = on_gpu(padded())
    with torch.no_grad():
        before = live(**batch).logits.clone()
    report = attncheck.verify(live, batch)
    assert slugs(report) == set()
    assert slugs(attncheck.verify(live, batch, method="perturbation")) == set()
    with torch.no_grad():
        assert torch.equal(before, live(**batch).logits)


@pytest.mark.parametrize("implementation", ["sdpa", "flash_attention_2"])
@pytest.mark.parametrize("method", ["interface", "perturbation"])
def test_extra_memory_stays_within_what_the_report_says(implementation: str, method: str) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    if implementation == "flash_attention_2" and find_spec("flash_attn") is None:
        pytest.skip("needs flash-attn")
    config = MistralConfig(
        hidden_size=4096, intermediate_size=4096, num_hidden_layers=2, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=1000, sliding_window=1024,
    )  # fmt: skip
    live = MistralForCausalLM._from_config(config, attn_implementation=implementation, dtype=torch.bfloat16)
    live = live.cuda().eval()
    batch = {**on_gpu(padded(2, 4096, right=37)), "use_cache": False}
    with torch.no_grad():
        live(**batch)
        torch.cuda.reset_peak_memory_stats()
        live(**batch)
    forward = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = measure(live, batch, Settings(fit=False, method=method))
    extra = torch.cuda.max_memory_allocated() - forward
    assert found.read, [run.outcome for run in found.runs]
    assert extra <= found.need < Settings().memory
    report = attncheck.verify(live, batch, method=method)
    assert slugs(report) == set()


def test_flex_attention_is_read_as_the_kernel_it_is() -> None:
    from tests.live.live_models import built

    live = copy.deepcopy(built("mistral", head_dim=16).instantiate("flex_attention", "bfloat16", "cuda"))
    report = attncheck.verify(live, on_gpu(padded(2, 128)), fit=False)
    assert slugs(report) == set()
    assert {cell.verdict.value for cell in report.matrix} == {"ok"}
    assert tokens().device.type == "cpu"
