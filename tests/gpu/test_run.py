"""`attncheck run` on a GPU: the kernels that really ran, flash-attn's own functions, CUDA graphs, memory."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

SDPA = """
import torch, torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
q, k, v = (torch.randn(2, 4, 256, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
    F.scaled_dot_product_attention(q, k, v, is_causal=True)
with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
    F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(256, 256, device="cuda").tril().bool())
with sdpa_kernel(SDPBackend.MATH):
    F.scaled_dot_product_attention(q[:, :, :4], k, v, is_causal=True)
for _ in range(3):  # a first call inside the capture would have to allocate
    F.scaled_dot_product_attention(q, k, v)
torch.cuda.synchronize()
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    out = F.scaled_dot_product_attention(q, k, v)
graph.replay()
torch.cuda.synchronize()
print(bool(out.isfinite().all()))
"""
FLASH = """
import torch
from flash_attn import flash_attn_func, flash_attn_varlen_func
q, k, v = (torch.randn(1, 128, 4, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
flash_attn_func(q, k, v, causal=True, window_size=(16, 0))
flash_attn_func(q[:, :8], k, v, causal=True)
ends = torch.tensor([0, 50, 128], device="cuda", dtype=torch.int32)
flash_attn_varlen_func(q[0], k[0], v[0], ends, ends, 78, 78, causal=True)
from transformers import MistralConfig, MistralForCausalLM
sizes = dict(hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
config = MistralConfig(**sizes, vocab_size=64, sliding_window=5, head_dim=64)
model = MistralForCausalLM._from_config(config, attn_implementation="flash_attention_2", dtype=torch.bfloat16).cuda()
ids = torch.randint(3, 60, (2, 12), device="cuda")
mask = torch.ones_like(ids)
mask[1, 8:] = 0
model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
model(input_ids=ids)
"""
MEMORY = """
import torch, torch.nn.functional as F
q, k, v = (torch.randn(1, 16, 16384, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
torch.cuda.reset_peak_memory_stats()
before = torch.cuda.memory_allocated()
F.scaled_dot_product_attention(q, k, v, is_causal=True)
torch.cuda.synchronize()
print((torch.cuda.max_memory_allocated() - before) / (q.numel() * 2))
"""


def run(tmp_path: Path, code: str) -> tuple[str, dict[str, Any]]:
    """Standard output of a watched script, and the report."""
    script, report = tmp_path / "script.py", tmp_path / "report.json"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "attncheck", "run", "--format", "json", "-o", str(report), sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(report.read_text())


def test_kernels_are_named_by_torch_and_by_the_profiler(tmp_path: Path) -> None:
    out, report = run(tmp_path, SDPA)
    assert out == "True\n"
    flash, efficient, math, _ = report["watch"]["sites"]
    assert [site["kernel"] for site in (flash, efficient, math)] == ["flash", "efficient", "math"]
    assert "flash" in flash["launched"].lower()
    assert "fmha" in efficient["launched"].lower()
    assert [finding["slug"] for finding in report["findings"]] == ["causal-misaligned"]
    assert any("a CUDA graph is being captured" in text for text in report["watch"]["failures"])


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is None, reason="needs flash-attn")
def test_flash_attention_by_itself_and_below_transformers(tmp_path: Path) -> None:
    _, report = run(tmp_path, FLASH)
    assert report["findings"] == []
    sites = report["watch"]["sites"]
    assert [site["sees"] for site in sites[:3]] == [
        "17 keys: 16 back, 0 ahead",
        "all earlier keys",
        "all earlier keys, own document only",
    ]
    assert {site["verdict"] for site in sites[3:]} == {"ok"}
    assert {site["implementation"] for site in sites[3:]} == {"flash_attention_2"}
    assert all(site["kernel"].startswith("flash_attn_") for site in sites[3:])


def test_a_long_call_takes_its_own_memory_once_more(tmp_path: Path) -> None:
    """In sizes of one tensor: the call's output, then zeros for query and key, marks, an output and its mask."""
    out, report = run(tmp_path, MEMORY)
    assert float(out) < 8
    assert report["watch"]["sites"][0]["sees"] == "all earlier keys"
