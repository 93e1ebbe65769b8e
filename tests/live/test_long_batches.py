"""Long batches: keys are read in groups, faults keep their names, and memory stays within what the report says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

import attncheck
from attncheck.live.settings import Settings
from attncheck.live.verify import measure
from tests import faults
from tests.live.live_models import model, padded, slugs
from tests.live.memory import Watermark

NAMES = (
    "window +1", "window -1", "window dropped", "window ignored in one head", "left padding dropped",
    "right padding dropped", "causality dropped", "causality dropped in one head", "one extra cell", "documents merged",
)  # fmt: skip


def batch_for(name: str, length: int) -> dict[str, Any]:
    if name != "documents merged":
        return padded(2, length, left=31, right=9)
    third = length // 3
    positions = torch.cat([torch.arange(third), torch.arange(length - third)])[None]
    return {"input_ids": padded(1, length)["input_ids"], "position_ids": positions, "use_cache": False}


@pytest.mark.parametrize("name", ["", *NAMES])
def test_faults_in_keys_that_were_read_in_groups(name: str) -> None:
    live = model("mistral", faults.NAME)
    fault = next((fault for fault in faults.FAULTS if fault.name == name), None)
    batch = batch_for(name, 600)
    if fault is None:
        report = attncheck.verify(live, batch, fit=False)
        assert slugs(report) == set()
    else:
        with faults.planted(fault):
            report = attncheck.verify(live, batch, fit=False)
        assert slugs(report) & fault.slugs
    assert "the others in groups" in report.arguments["keys"]
    masks = [finding.evidence.declared_mask for finding in report.findings]
    assert masks == [None] * len(masks)  # too large for a report


@pytest.mark.slow
@pytest.mark.parametrize("method", ["interface", "perturbation"])
@pytest.mark.parametrize("rows", [1, 2])
def test_extra_memory_stays_within_what_the_report_says(method: str, rows: int) -> None:
    config = MistralConfig(
        hidden_size=1024, intermediate_size=1024, num_hidden_layers=2, num_attention_heads=16, num_key_value_heads=4,
        head_dim=64, vocab_size=1000, sliding_window=300,
    )  # fmt: skip
    live = MistralForCausalLM._from_config(config, attn_implementation="sdpa").eval()
    batch = {**padded(rows, 2048, right=37), "use_cache": False}
    with Watermark() as forward, torch.no_grad():
        live(**batch)
    with Watermark() as looking:
        found = measure(live, batch, Settings(fit=False, method=method))
    assert found.read
    assert looking.peak - forward.peak <= found.need < 128 << 20
