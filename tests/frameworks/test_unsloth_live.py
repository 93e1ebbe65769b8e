"""verify on models whose attention a package named unsloth replaced, in ways that Unsloth does; and the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import attncheck
from attncheck.findings import Severity
from attncheck.frameworks.section import Kind
from attncheck.semantics.observation import Basis
from tests.legacy import environments

TOKENS = 12


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny Llama whose attention forward comes from `unsloth.models.llama` and sees no mask in training."""

    def forward(
        self: Any, hidden_states: Tensor, position_embeddings: Any, attention_mask: Any = None, **_: Any
    ) -> Any:
        batch, length, _ = hidden_states.shape
        shape = (batch, length, -1, self.head_dim)
        query, key, value = (
            layer(hidden_states).view(shape).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        given = None if self.training else attention_mask
        causal = given is None
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, given, is_causal=causal)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1)), None

    forward.__module__ = "unsloth.models.llama"
    module = types.ModuleType("unsloth.models.llama")
    module.HAS_FLASH_ATTENTION, module.HAS_XFORMERS = False, False  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unsloth.models.llama", module)
    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaAttention, "forward", forward)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


def blocks() -> Tensor:
    document = torch.arange(TOKENS) // 6
    keep = (document[:, None] == document[None, :]).tril()
    return torch.where(keep, 0.0, torch.finfo(torch.float32).min)[None, None]


def batch() -> dict[str, Tensor]:
    return {"input_ids": torch.arange(TOKENS)[None], "attention_mask": blocks()}


def test_a_dropped_mask_is_found_and_mended_in_unsloths_words(model: Any) -> None:
    report = attncheck.verify(model.train(), batch(), fit=False)
    (found,) = [finding for finding in report.findings if finding.basis is Basis.MEASURED]
    assert (found.slug, found.severity, found.implementation) == ("mask-dropped", Severity.ERROR, "unsloth")
    pastes = [fix.paste for fix in found.recommendations]
    assert any("_unsloth_keep_padding_mask" in paste for paste in pastes)
    assert any("AutoModelForCausalLM" in paste for paste in pastes)
    # What is known of the release says the same: it is not said twice.
    assert not any("(mask-dropped)" in finding.message for finding in report.findings if finding is not found)


def test_the_report_says_that_the_config_means_nothing(model: Any) -> None:
    report = attncheck.verify(model.train(), batch(), fit=False)
    assert report.framework is not None
    assert (report.framework.name, report.framework.kind, report.framework.implementation) == (
        "unsloth", Kind.RUNS, "unsloth",
    )  # fmt: skip
    first = report.framework.steps[0]
    assert first.basis is Basis.MEASURED
    assert "config._attn_implementation says sdpa and is not read" in first.does
    assert any("here sdpa" in step.does for step in report.framework.steps)


def test_where_the_mask_comes_through_only_notes_on_the_release_are_left(model: Any) -> None:
    report = attncheck.verify(model.eval(), batch(), fit=False)
    assert not [finding for finding in report.findings if finding.basis is Basis.MEASURED]
    assert all(finding.severity is Severity.NOTE for finding in report.findings)


def test_where_the_flag_keeps_the_mask_nobody_is_told_to_set_it(model: Any) -> None:
    model.train().model._unsloth_keep_padding_mask = True
    report = attncheck.verify(model, batch(), fit=False)
    assert report.framework is not None
    said = [step.does for step in report.framework.steps if step.does.startswith("in training")]
    assert said == ["in training the attention_mask is kept: _unsloth_keep_padding_mask is set on this model"]
    assert not any("drops every attention_mask" in finding.message for finding in report.findings)
    # What is measured still counts: this stand-in drops the mask all the same.
    assert [finding.slug for finding in report.findings if finding.basis is Basis.MEASURED] == ["mask-dropped"]


def test_models_that_unsloth_never_touched_have_no_section() -> None:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    plain = transformers.AutoModelForCausalLM.from_config(config)
    assert attncheck.verify(plain, {"input_ids": torch.arange(TOKENS)[None]}, fit=False).framework is None


def test_a_forward_that_breaks_is_a_result(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel image is available")

    broken.__module__ = "unsloth.models.llama"
    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaAttention, "forward", broken)
    report = attncheck.verify(model, batch(), fit=False)
    assert any("no kernel image" in cell.reason for cell in report.matrix)
    assert not [finding for finding in report.findings if finding.slug == "mask-dropped"]


# The real package -----------------------------------------------------------------------------------

#: Unsloth 2026.10.9 with what it imports, beside the torch and tokenizers of these tests.
REAL = (
    "unsloth==2026.10.9", "unsloth_zoo==2026.10.9", "transformers==5.17.0", "huggingface_hub==1.33.0",
    "bitsandbytes==0.50.2", "triton==3.6.0", "trl==1.15.0", "datasets==4.8.5", "dill==0.4.1", "multiprocess==0.70.19",
    "accelerate==1.15.0", "peft==0.21.2", "diffusers==0.42.1", "torchao==0.18.0", "cut_cross_entropy==25.1.1",
    "pydantic==2.14.3", "pydantic-core==2.50.4", "tyro", "docstring-parser", "typeguard", "shtab", "msgspec", "json5",
    "nest-asyncio", "structlog", "annotated-types", "typing-inspection", "requests", "charset_normalizer", "idna",
    "urllib3", "protobuf", "sentencepiece", "psutil", "einops", "pillow", "python-dateutil", "pytz", "six", "aiohttp",
    "wheel", "xxhash", "pandas", "pyarrow", "httpx", "httpcore", "h11", "anyio", "certifi", "sniffio", "hf_xet",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.legacy
def test_the_real_unsloth_on_a_cpu(tmp_path: Path) -> None:
    """Its own forwards, masks and dispatcher (`tests.campaigns.unsloth_cpu` says what is replaced), on SDPA."""
    cases = ("llama", "qwen2", "keep-llama", "compiled-llama")
    with environments.cache() as root:
        folder = environments._folder(root, REAL, True)
        command = [sys.executable, "-m", "tests.campaigns.unsloth_live", str(tmp_path), "--device", "cpu"]
        command += ["--jobs", "1", "--limit", "1800", "--only", *cases]
        variables = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=environments.REPOSITORY, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: _entries(tmp_path / f"{name}.jsonl") for name in cases}
    for entries in found.values():
        for entry in entries.values():
            _agree(entry)
    llama, qwen2 = found["llama"], found["qwen2"]
    for name in ("full", "full-bool", "block", "block-bool", "prefix"):
        assert not llama["train", name]["swap"]["as_asked"]
        assert llama["eval", name]["swap"]["as_asked"]
        assert {slug for slug, *_ in llama["train", name]["attncheck"]["findings"]} & {"mask-dropped", "prefix-dropped"}
        for route in ("keep-llama", "compiled-llama"):
            assert found[route]["train", name]["swap"]["as_asked"], (route, name)
    for mode in ("train", "eval"):
        assert "window-ignored" in {slug for slug, *_ in qwen2[mode, "none"]["attncheck"]["findings"]}
    assert qwen2["eval", "ones"]["swap"]["as_asked"]
    assert not qwen2["train", "ones"]["swap"]["as_asked"]


def _entries(path: Path) -> dict[tuple[str, str], Any]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(one["mode"], one["batch"]): one for one in lines if one.get("labels") is False}


def _agree(entry: dict[str, Any]) -> None:
    """attncheck's reading and the black-box one say the same of real tokens."""
    (layer,) = entry["attncheck"]["layers"]
    same = [(one["as_asked"], one["leaked"], one["missed"]) for one in (layer, entry["swap"])]
    assert same[0] == same[1], entry
