"""The small models of brute force, made the same way for every model type. Imports no attncheck."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: Sizes for every config that has a key of this name at its text level. One layer, so that what a query reaches is the
#: mask itself.
SMALL: Mapping[str, Any] = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "emb_dim": 32, "embedding_size": 32, "width": 32,
    "num_hidden_layers": 1, "n_layer": 1, "n_layers": 1, "num_layers": 1, "encoder_layers": 1, "decoder_layers": 1,
    "num_decoder_layers": 1, "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8,
    "intermediate_size": 48, "ffn_dim": 48, "d_ff": 48, "hidden_dim": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "num_experts": 2, "num_local_experts": 2,
    "num_experts_per_tok": 1, "vocab_size": 97, "max_position_embeddings": 256, "n_positions": 256, "rotary_dim": 4,
    "word_embed_proj_dim": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
#: For the types that cannot be made with those alone: no grouped heads, an attention layer first, nothing left open.
PLAINER: Mapping[str, Any] = {
    **SMALL, "num_key_value_heads": 4, "mamba_n_heads": 4, "coordinate_size": 4, "shape_size": 8,
    "attention_types": [[["global"], 1]], "per_layer_config": {},
}  # fmt: skip
#: What types need beside sizes: their defaults fit neither them nor one attention layer.
NEEDS: Mapping[str, Mapping[str, Any]] = {
    "bros": {"hidden_size": 64},
    "chameleon": {"vocabulary_map": {"<image>": 4}},
    "clvp_encoder": {"num_attention_heads": 1, "projection_dim": 64},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_theta": 1e4, "rope_type": "default"}}},
    "diffusion_gemma_text": {"top_k_experts": 1},
    "granitemoehybrid": {"layer_types": ["full_attention"]},
    "hunyuan_vl_text": {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default", "mrope_section": [1, 1, 1, 1]}},
    "kyutai_speech_to_text": {"audio_pad_token_id": 5},
    "lilt": {"hidden_size": 48},
    "moshi_depth": {"num_codebooks": 32},
    "neomme": {"head_dim": 16},
    "recurrent_gemma": {"block_types": ["attention"]},
    "t5gemma2_text": {"dropout_rate": 0.0},
    "xmod": {"default_language": "en_XX"},
}
#: Dropout of any kind would make every output move.
DROPOUTS = ("dropout", "pdrop", "layerdrop")
#: Keys that hold one word a layer.
LAYERS = ("layer_types", "mlp_layer_types", "layers_block_type")
#: Sub-configs of the part that reads text.
TEXT = ("text_config", "decoder_config", "vlm_config")
#: Standard deviation of a weight times the root of its inputs: the library's own initialisation hides differences.
SPREAD = 1.5


def built(
    model_type: str,
    changes: Mapping[str, Any],
    implementation: str,
    runs: Callable[[Any], object],
    *,
    class_name: str = "",
    strength: float = SPREAD,
) -> Any:
    """The first model of the type that reads plain tokens: of its own class, else of its text model.

    runs: feeds it tokens and raises where it does not take them; tried under eager, so that every implementation is
    looked at in the same class. A model that only raises is returned where there is no other. Raises what the first
    attempt raised where nothing can be made.
    """
    from transformers import CONFIG_MAPPING

    first: Exception | None = None
    raising = None
    standard = CONFIG_MAPPING[model_type]()
    inside = [getattr(getattr(standard, key, None), "model_type", "") for key in TEXT]
    for name, plainer in ((name, plainer) for name in (model_type, *filter(None, inside)) for plainer in (False, True)):
        try:
            config = config_of(name, changes, plainer=plainer)
        except Exception as error:
            first = first or error
            continue
        for own, cls in [(config, _class(class_name, config))] if class_name else classes(config):
            try:
                model = strong(own, cls, "eager", strength)
            except Exception as error:
                first = first or error
                continue
            try:
                runs(model)
            except Exception:
                raising = raising or (own, cls)
                continue
            return strong(own, cls, implementation, strength)
    if raising is not None:
        return strong(*raising, implementation, strength)
    raise first or LookupError(f"transformers has no class for {model_type}")


def config_of(model_type: str, changes: Mapping[str, Any], *, plainer: bool = False) -> Any:
    """A small config of the type. changes: dotted keys, set last. plainer: by `PLAINER`."""
    from transformers import CONFIG_MAPPING

    cls = CONFIG_MAPPING[model_type]
    arguments = _small(cls(), plainer)
    for key, value in {**NEEDS.get(model_type, {}), **changes}.items():
        *path, name = key.split(".")
        level = arguments
        for part in path:
            level = level.setdefault(part, {})
        level[name] = value
    return cls(**arguments)


def _small(config: Any, plainer: bool) -> dict[str, Any]:
    """The arguments of a small config, those of the configs inside with it."""
    arguments = _shrunk(config, plainer)
    for key, inner in vars(config).items():
        if (key.endswith("_config") or key in ("encoder", "decoder")) and hasattr(inner, "to_dict"):
            arguments[key] = {**inner.to_dict(), **_small(inner, plainer)}
    return arguments


def _shrunk(config: Any, plainer: bool) -> dict[str, Any]:
    sizes = PLAINER if plainer else SMALL
    present = {key: _value(config, key) for key in sizes}
    fields = getattr(type(config), "__dataclass_fields__", sizes)
    found = {
        key: sizes[key]
        for key, value in present.items()
        if key in fields
        and (plainer or value is not None)
        and isinstance(value, (list, tuple)) == isinstance(sizes[key], list)
    }
    for key, value in vars(config).items():
        if isinstance(value, float) and any(word in key for word in DROPOUTS):
            found[key] = 0.0
    aliases = type(config).attribute_map
    for key in (key for key in LAYERS if aliases.get(key) not in LAYERS):  # else it would be written twice
        computed = isinstance(getattr(type(config), key, None), property)
        if isinstance(layers := _value(config, key), list) and not computed:
            attention = [layer for layer in layers if plainer and layer == "full_attention"]
            found[key] = [*attention, *layers][:1]
    return found


def _value(config: Any, key: str) -> Any:
    """A key of a config; 0 where each layer has its own, and asking for one of all is refused."""
    try:
        return getattr(config, key, None)
    except Exception:
        return 0


def classes(config: Any) -> Iterator[tuple[Any, Any]]:
    """(config, class) of the models that may read its text: by the library's own lists, then its modules', then those
    of the text model inside.
    """
    import transformers
    from transformers.models.auto import modeling_auto as auto

    for names in (
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_MAPPING_NAMES,
    ):
        if config.model_type in names:
            named = names[config.model_type]
            yield config, getattr(transformers, named if isinstance(named, str) else named[0])
            break
    module = importlib.import_module(type(config).__module__.replace("configuration_", "modeling_"))
    own = [cls for cls in vars(module).values() if _reads(cls, config)]
    yield from ((config, cls) for cls in sorted(own, key=lambda cls: (len(cls.__name__), cls.__name__)))
    for key in TEXT:
        if hasattr(inner := getattr(config, key, None), "model_type"):
            yield from classes(inner)


def _reads(cls: Any, config: Any) -> bool:
    """Whether a class is a model of this config's that takes tokens."""
    import transformers

    if not (inspect.isclass(cls) and issubclass(cls, transformers.PreTrainedModel)):
        return False
    return cls.config_class is type(config) and "input_ids" in inspect.signature(cls.forward).parameters


def _class(name: str, config: Any) -> Any:
    import transformers

    if hasattr(transformers, name):
        return getattr(transformers, name)
    module = type(config).__module__.replace("configuration_", "modeling_")
    return getattr(importlib.import_module(module), name)


def strong(config: Any, cls: Any, implementation: str, strength: float = SPREAD) -> Any:
    """A model with strong seeded weights: the same for every implementation."""
    import torch

    torch.manual_seed(0)
    model = cls._from_config(config, attn_implementation=implementation)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2 and "norm" not in name.lower():
                spread = 1.0 if "embed" in name else strength / parameter.shape[-1] ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.eval()
