"""The live models of the Unsloth campaign as data, and how each is loaded: tiny checkpoints made on the spot."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WINDOW, TOKENS, HEAD_DIM = 8, 32, 64
QWEN2 = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 0}
PLAIN = ("none", "ones", "left-pad", "right-pad")
OWN_MASKS = ("full", "full-bool", "block", "block-bool", "prefix")
PACKED = ("packed-positions", "packed-lengths")
#: Batches that are also passed with labels: Unsloth treats masks by whether there are any.
LABELLED = ("none", "left-pad", "block", "packed-lengths")
EVERY = (*PLAIN, *OWN_MASKS, *PACKED)


@dataclass(frozen=True)
class Case:
    """One process. route: "fast" (FastLanguageModel), "compiled" (FastModel) or "transformers" (no Unsloth).

    config: keys on top of a tiny one. load: further arguments of the loader. lora: adapters with this checkpointing, ""
    for none. modes: train, eval. labels: the `LABELLED` train batches also with labels. keep: set the flag that keeps
    masks in training. edit: edit `AttentionContext.is_causal`. wanted: "full" where the point is that every key is
    visible without a mask. gpu: cannot run on a CPU.
    """

    name: str
    model_type: str
    route: str = "fast"
    layers: int = 1
    config: dict[str, Any] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)
    lora: str = ""
    modes: tuple[str, ...] = ("train", "eval")
    batches: tuple[str, ...] = EVERY
    labels: bool = False
    keep: bool = False
    edit: bool = False
    wanted: str = ""
    gpu: bool = False


def _qlora(model_type: str, config: dict[str, Any]) -> Case:
    return Case(
        f"{model_type}-4bit-lora", model_type, config=config, load={"load_in_4bit": True}, lora="unsloth",
        labels=True, gpu=True,
    )  # fmt: skip


MISTRAL = {"sliding_window": WINDOW}
SYMMETRIC = {"is_causal": False}
SDPA = {"attn_implementation": "sdpa"}
#: In order of importance: where time runs out, the last ones are missing.
CASES = (
    Case("llama", "llama", labels=True),
    Case("mistral", "mistral", config=MISTRAL, labels=True),
    Case("qwen2", "qwen2", config=QWEN2, labels=True),
    Case("llama-lora", "llama", lora="unsloth", labels=True),
    Case("mistral-lora", "mistral", config=MISTRAL, lora="unsloth", labels=True),
    Case("qwen2-lora", "qwen2", config=QWEN2, lora="unsloth", labels=True),
    _qlora("llama", {}),
    _qlora("mistral", MISTRAL),
    _qlora("qwen2", QWEN2),
    Case("keep-llama", "llama", keep=True, modes=("train",), lora="unsloth"),
    Case("keep-mistral", "mistral", config=MISTRAL, keep=True, modes=("train",), lora="unsloth"),
    Case("keep-qwen2", "qwen2", config=QWEN2, keep=True, modes=("train",), lora="unsloth"),
    Case("edit-llama", "llama", edit=True, wanted="full", batches=("none", "ones")),
    Case("edit-mistral", "mistral", config=MISTRAL, edit=True, wanted="full", batches=("none", "ones")),
    Case("compiled-llama", "llama", route="compiled", load=SDPA, lora="unsloth"),
    Case("compiled-mistral", "mistral", "compiled", config=MISTRAL, load=SDPA, lora="unsloth"),
    Case("compiled-qwen2", "qwen2", "compiled", config=QWEN2, load=SDPA, lora="unsloth"),
    Case("compiled-flex", "llama", route="compiled", load={"attn_implementation": "flex_attention"}, gpu=True),
    Case("transformers-sdpa", "llama", "transformers", load=SDPA),
    Case("transformers-flex", "llama", "transformers", load={"attn_implementation": "flex_attention"}),
    Case("transformers-mistral", "mistral", "transformers", config=MISTRAL, load=SDPA),
    *(
        Case(
            f"is-causal-{name}", "llama", "transformers", config=SYMMETRIC, load={"attn_implementation": name},
            wanted="full", batches=("none", "ones", "left-pad"), gpu=name.startswith("flash"),
        )
        for name in ("eager", "sdpa", "flex_attention", "flash_attention_2")
    ),
    Case("qwen2-mixed", "qwen2", layers=2, config={**QWEN2, "max_window_layers": 1}, batches=("none", "ones")),
    Case("qwen3", "qwen3", config=QWEN2, batches=("none", "ones", "block")),
    Case("gemma2", "gemma2", layers=2, config=MISTRAL, batches=("none", "ones", "left-pad", "block"), gpu=True),
)  # fmt: skip


def checkpoint(case: Case, folder: Path) -> Path:
    """A tiny checkpoint with a tokenizer, saved in `folder`."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    words = {f"t{number}": number for number in range(124)} | {"<unk>": 124, "<s>": 125, "</s>": 126, "<pad>": 127}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
    )  # fmt: skip
    sizes = {
        "vocab_size": 128, "hidden_size": 2 * HEAD_DIM, "intermediate_size": 2 * HEAD_DIM, "head_dim": HEAD_DIM,
        "num_hidden_layers": case.layers, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 256, "pad_token_id": 127, "bos_token_id": 125, "eos_token_id": 126,
    }  # fmt: skip
    config = transformers.AutoConfig.for_model(case.model_type, **{**sizes, **case.config})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, torch_dtype=torch.float32)
    place = folder / f"tiny-{case.name}"
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def load(case: Case, folder: Path, device: str) -> Any:
    """The live model, on the device, in bfloat16 on a GPU and float32 on a CPU."""
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    if case.route == "transformers":
        import transformers

        place = checkpoint(case, folder)
        with contextlib.suppress(AttributeError):
            return transformers.AutoModelForCausalLM.from_pretrained(place, dtype=dtype, **case.load).to(device)
    import unsloth

    if device == "cpu":
        from tests.campaigns import unsloth_cpu

        unsloth_cpu.fit()
    place = checkpoint(case, folder)
    loader = unsloth.FastModel if case.route == "compiled" else unsloth.FastLanguageModel
    arguments = {"max_seq_length": 256, "dtype": dtype, "load_in_4bit": False, "device_map": device, **case.load}
    if device == "cuda":
        del arguments["device_map"]
    model = loader.from_pretrained(str(place), **arguments)[0]
    if case.lora:
        model = loader.get_peft_model(
            model, r=8, lora_alpha=8, lora_dropout=0.0, use_gradient_checkpointing=case.lora,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], random_state=0,
        )  # fmt: skip
    if case.keep:
        inner = model.get_base_model() if case.lora else model
        inner.model._unsloth_keep_padding_mask = True
    if case.edit:
        from attncheck.frameworks.unsloth_words import not_causal

        exec(not_causal("2026.10.9")[0].settings[0].paste, {"__name__": "edit"})
    return model
