"""Whether a stack looks back only or both ways, from keys and lists, never from what a module says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from attncheck.declared.families import Family
from attncheck.declared.values import Keys

#: Types whose `use_bidirectional_attention` is a plain switch, and types where it is one of two words.
SWITCH_TYPES = frozenset({"gemma", "gemma2", "gemma3_text", "vaultgemma"})
WORD_TYPES = frozenset({"gemma4_text", "gemma4_unified_text", "diffusion_gemma_text", "embedding_gemma2_text"})


@dataclass(frozen=True, slots=True)
class Direction:
    """`value`: "causal", "full" or "" for unknown, with its source or the reason. decoder: the stack is a decoder.

    switched_off: causality is switched off by `is_causal: false`, the key of the shared mask functions.
    """

    value: str
    source: str = ""
    why: str = ""
    decoder: bool = True
    switched_off: bool = False


def direction_of(keys: Keys, known: Family) -> Direction:
    """The direction of a decoder-only or encoder-only stack."""
    if known.direction == "encoder":
        if keys.flag("is_decoder") or keys.raw.get("is_causal") is True:
            return Direction("", why=f"an encoder type with {keys.prefix}is_decoder or is_causal true", decoder=False)
        return Direction("full", f"families.toml: {known.model_type} is an encoder", decoder=False)
    if known.direction == "switched":
        found = keys.find(known.switch)
        if found.value is True:
            return decoder_direction(keys, found.source)
        return Direction(
            "full",
            found.source if found.key else f"families.toml: {known.model_type} without {known.switch}",
            decoder=False,
        )
    if known.direction == "causal":
        return _decoder(keys, known)
    return _unlisted(keys)


def decoder_direction(keys: Keys, source: str) -> Direction:
    """The direction of a stack that is a decoder because of `source`: causal, unless the file switches that off."""
    flag = keys.find("is_causal")
    if flag.value is False:
        return Direction("full", flag.source, switched_off=True)
    return Direction("causal", source)


def _decoder(keys: Keys, known: Family) -> Direction:
    found = decoder_direction(keys, f"families.toml: {known.model_type} is a decoder")
    both = keys.find("use_bidirectional_attention")
    if found.switched_off or both.value is None or both.value is False:
        return found
    if known.model_type in SWITCH_TYPES and both.value is True:
        return Direction("full", both.source)
    if known.model_type in WORD_TYPES and both.value == "all":
        return Direction("full", both.source)
    if known.model_type in WORD_TYPES and both.value == "vision":
        return Direction("causal", f"{both.source} (text tokens)")
    return Direction("", why=f"{both.key} = {both.value!r} has no known meaning for {known.model_type}")


def _unlisted(keys: Keys) -> Direction:
    names = keys.find("architectures").value
    written = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    if keys.defaults is None:
        return Direction("", why="the model type is not known")
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in written) and keys.flag("is_decoder") is not False:
        return Direction("causal", "config: architectures")
    if any(name.endswith("ForMaskedLM") for name in written) and not keys.flag("is_decoder"):
        return Direction("full", "config: architectures", decoder=False)
    return Direction(
        "",
        why="no key and no list tells the direction of this model type",
        decoder=keys.flag("is_decoder") is not False,
    )
