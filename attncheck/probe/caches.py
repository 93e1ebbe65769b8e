"""The key-value caches that scenarios hand to a model, across the constructors of transformers' versions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from attncheck.probe.scenario import ENCODER_SEQUENCE, STATIC_LENGTH

#: Class attributes by which a model says that it takes static caches; the second replaced the first in 4.53.
STATIC_CACHE_FLAGS = ("_supports_static_cache", "_can_compile_fullgraph")


class NotFeedable(Exception):
    """The model cannot be fed the next tokens; the text says why."""


def cache_argument(forward_args: frozenset[str]) -> str:
    """What the model calls its cache; state-space models have a name of their own."""
    alone = "cache_params" in forward_args and "past_key_values" not in forward_args
    return "cache_params" if alone else "past_key_values"


def hands_on_use_cache(forward: Callable[..., Any]) -> bool:
    """True where a forward takes `use_cache` in its **kwargs alone: beside a cache they go on to the model inside.

    Not told so, that one keeps a cache wherever its config says so, which is the default. Where no cache is named,
    **kwargs go to the attention functions.
    """
    parameters = inspect.signature(inspect.unwrap(forward)).parameters
    everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return everything and "use_cache" not in parameters and cache_argument(frozenset(parameters)) in parameters


def static_cache(model: Any, batch: int, device: str, dtype: torch.dtype) -> Any:
    """An empty static cache of `STATIC_LENGTH` tokens, for encoder-decoders one for each kind of attention.

    Raises NotFeedable before 4.41: there is none in 4.37, and models set theirs up themselves after that.
    """
    from transformers import PreTrainedModel

    if not any(hasattr(PreTrainedModel, flag) for flag in STATIC_CACHE_FLAGS):
        raise NotFeedable("this transformers takes no static cache as an argument (4.41 and later do)")
    from transformers import StaticCache

    return _preallocated(StaticCache, model, batch, device, dtype)


def generation_cache(model: Any, batch: int, device: str, dtype: torch.dtype) -> Any | None:
    """The cache of `STATIC_LENGTH` tokens that `generate()` makes for the model; None where the model's own serves.

    In transformers 4.42 to 4.56 some types (Gemma 2, Gemma 3) ask for a preallocated cache by name. Their forward also
    makes one, but only as long as its first input, so that the next token falls out of it.
    """
    from transformers.generation import configuration_utils

    classes = getattr(configuration_utils, "NEED_SETUP_CACHE_CLASSES_MAPPING", {})
    asked = getattr(getattr(model, "generation_config", None), "cache_implementation", None)
    return _preallocated(classes[asked], model, batch, device, dtype) if asked in classes else None


def _preallocated(cls: Any, model: Any, batch: int, device: str, dtype: torch.dtype) -> Any:
    """A cache of this class. Older constructors want batch size, device and dtype, which newer ones find out."""
    known = inspect.signature(cls.__init__).parameters
    everything = "config" not in known  # 4.54 to 4.56 hide the names behind *args and **kwargs
    offered = {"config": _decoder_config(model), "max_batch_size": batch, "device": device, "dtype": dtype}
    if "max_batch_size" not in known and "batch_size" in known:
        offered["batch_size"] = offered.pop("max_batch_size")
    arguments = {name: value for name, value in offered.items() if everything or name in known}
    own = cls(**arguments, max_cache_len=STATIC_LENGTH)
    if not getattr(model.config, "is_encoder_decoder", False):
        return own
    from transformers import EncoderDecoderCache

    return EncoderDecoderCache(own, cls(**arguments, max_cache_len=ENCODER_SEQUENCE))


def _decoder_config(model: Any) -> Any:
    text = getattr(model.config, "get_text_config", None)
    if text is None:
        return model.config
    return text(decoder=True) if "decoder" in inspect.signature(text).parameters else text()
