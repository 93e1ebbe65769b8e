"""Settings and model types on which attncheck's resolution is held against LLaMA-Factory's own; plain data."""

from __future__ import annotations

from typing import Any

VALUES: tuple[Any, ...] = (None, "auto", "disabled", "sdpa", "fa2", "fa3", "off", "flash_attention_2", False)
#: Model types that the installed transformers builds; small enough to build one a case.
BUILT = ("qwen2", "llama", "mistral", "gemma2", "phi3", "qwen3")
#: Types that need code of their checkpoint, or whose kernel is downloaded: what is written into the config is compared.
WRITTEN = ("internlm2", "kimi_vl", "youtu_vl", "gpt_oss")
TRAINING = {"stage": "sft", "do_train": True}


def case(model_type: str, flash_attn: Any, flash: bool, **settings: Any) -> dict[str, Any]:
    """One case: the settings, the model type, and whether flash-attn is installed on a machine with a GPU."""
    value = {} if flash_attn is None else {"flash_attn": flash_attn}
    return {"type": model_type, "flash": flash, "settings": {**TRAINING, **value, **settings}}


def cases() -> list[dict[str, Any]]:
    """Every case: values by types by flash-attn, then what goes beyond the implementation."""
    found = [case(kind, value, flash) for kind in BUILT for value in VALUES for flash in (False, True)]
    found += [case(kind, value, flash) for kind in WRITTEN for value in VALUES for flash in (False, True)]
    found += [case(kind, "auto", False, shift_attn=True) for kind in ("llama", "qwen2", "gemma2")]
    found += [case(kind, value, False, do_train=False) for kind in ("gemma2", "qwen2") for value in ("auto", "fa2")]
    found += [
        case("qwen2", value, flash, neat_packing=True, per_device_train_batch_size=size)
        for value in ("auto", "disabled", "fa2")
        for flash in (False, True)
        for size in (1, 2)
    ]
    found += [case("qwen2", "sdpa", False, neat_packing=True, stage=stage) for stage in ("pt", "dpo")]
    return found


#: A fixed handful that shows every branch; what the default run of the tests builds.
FEW = (
    case("qwen2", "auto", False),
    case("qwen2", "fa2", False),
    case("qwen2", "fa2", True),
    case("llama", "disabled", False),
    case("llama", False, False),
    case("llama", "fa3", True),
    case("llama", "auto", False, shift_attn=True),
    case("qwen2", "sdpa", False, shift_attn=True),
    case("gemma2", "auto", False),
    case("gemma2", "auto", True),
    case("gpt_oss", "sdpa", False),
    case("kimi_vl", "fa2", False),
    case("youtu_vl", "auto", False),
    case("internlm2", "sdpa", False),
    case("qwen2", "sdpa", False, neat_packing=True),
    case("qwen2", "fa2", True, neat_packing=True, per_device_train_batch_size=2),
)
