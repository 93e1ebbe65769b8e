"""Builds the tiny model that stands for a config, and hands it out under any attention implementation."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from attncheck.probe.caches import hands_on_use_cache
from attncheck.probe.protocol import NotBuilt, TinyInfo
from attncheck.probe.reading import seam
from attncheck.probe.tiny import library, switch, target
from attncheck.probe.tiny import rules as shrink_rules
from attncheck.probe.tiny.construct import construct, seeded, share
from attncheck.probe.tiny.layers import layer_kinds
from attncheck.probe.tiny.needs import absent, hand_over, needs_of, with_keys
from attncheck.probe.tiny.shrink import shrink
from attncheck.semantics.observation import Reason

__all__ = ["TinyModel", "build", "shrink"]

#: Largest model that may be allocated, in bytes of float32 weights. A healthy tiny model has 0.1 M parameters (0.4 MB).
MAX_BYTES = 200_000_000

#: Depths tried on top of the shortest prefix, for classes that treat their last layer in a way of its own.
_MORE_LAYERS = 4

#: Ints above this that no rule cut may be a table size: such a config is sized on the meta device before allocation.
_SUSPICIOUS = 1024

#: Large ints that are no table size: lengths that rotary models keep, and the number of keys sparse attention selects.
_HARMLESS = shrink_rules.POSITION_KEYS | {"original_max_position_embeddings", "index_topk", "keep_window_size"}


@dataclass(slots=True)
class TinyModel:
    """A tiny model with one set of weights, under whichever implementation is asked for.

    info: what was built. `instantiate` gives modules in eval mode; modules of one dtype and device share their weights.
    """

    info: TinyInfo
    _config_class: Any
    _model_class: Any
    _base: Any
    _made: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Constructor defaults of the config class, as plain data."""
        return library.defaults(self._config_class, self.info.config)

    def instantiate(
        self,
        implementation: str,
        dtype: str = "float32",
        device: str = "cpu",
        overrides: Mapping[str, Any] | None = None,
    ) -> Any:
        """The model in eval mode under `implementation`, with the same weights as every other instance.

        overrides: config keys set on top of the tiny config; gives a fresh module each time. Flash names need no
        package: only the class is asked whether it supports them. Where the library quietly takes another
        implementation than the one asked for, so does the model; its `config._attn_implementation` tells.
        Raises what the library raises (ValueError when the class or the library refuses the implementation).
        """
        implementation = switch.check(self._base, implementation)
        key = (implementation, dtype, device)
        if overrides:
            config = {**self.info.config, **overrides}
            return self._put(self._construct(config, implementation, dtype), dtype, device)
        if key not in self._made:
            if switch.needs_rebuild(self._base):
                self._made[key] = self._put(self._construct(self.info.config, implementation, dtype), dtype, device)
            else:
                model = share(self._typed(dtype, device))
                switch.set_name(model, implementation)
                self._made[key] = model
        return self._made[key]

    def _typed(self, dtype: str, device: str) -> Any:
        """The eager module in this dtype on this device; built as the library would build it in that dtype."""
        if (dtype, device) == ("float32", "cpu"):
            return self._base
        key = ("", dtype, device)
        if key not in self._made:
            self._made[key] = self._put(self._construct(self.info.config, "eager", dtype), dtype, device)
        return self._made[key]

    def _construct(self, config: Mapping[str, Any], implementation: str, dtype: str) -> Any:
        flash = switch.unchecked() if seam.is_flash(implementation) else contextlib.nullcontext()
        with flash:
            model = construct(self._config_class, self._model_class, config, implementation, dtype)
        return hand_over(model, self.info.config["model_type"])

    def _put(self, model: Any, dtype: str, device: str) -> Any:
        model.load_state_dict(self._base.state_dict(), strict=False)
        return model.to(device).eval()


def build(config: Mapping[str, Any], *, trust_remote_code: bool = False) -> TinyModel | NotBuilt:
    """The smallest model of this config that runs, or why there is none. config: raw keys, overrides applied."""
    try:
        found = target.find(config, trust_remote_code)
    except (library.UnknownModelType, target.NoModelClass, ImportError) as error:
        return NotBuilt((Reason(_text(error)),))
    if text := _reads_no_text(found.model_class):
        return NotBuilt((Reason(text),), textless=True)
    reasons: dict[str, list[str]] = {}
    built = _climb(found, shrink_rules.LADDER, reasons)
    for kind, model_class in () if built else found.alternatives:
        built = built or _climb(replace(found, kind=kind, model_class=model_class), shrink_rules.LADDER[:1], reasons)
    if built:
        return built
    why = needs_of(_type_of(found)).cannot
    tried = tuple(Reason(text, limit="; ".join(rungs)) for text, rungs in reasons.items())
    return NotBuilt((Reason(f"{found.model_class.__name__} cannot be probed: {why}"), *tried) if why else tried)


def _reads_no_text(model_class: Any) -> str:
    """Why a class cannot be fed tokens, by the arguments of its forward; "" when it can, or does not say."""
    arguments = library.forward_arguments(model_class)
    if arguments == ("input",):  # that of torch.nn.Module, which raises
        return f"{model_class.__name__} has no forward of its own, so it reads no text"
    named = [name for name in arguments if name not in ("args", "kwargs", "input")]
    if not named or "input_ids" in named:
        return ""
    return f"{model_class.__name__} reads no text: its forward takes {', '.join(named[:3])}, and no input_ids"


def _climb(
    found: target.Target, ladder: tuple[shrink_rules.Rung, ...], reasons: dict[str, list[str]]
) -> TinyModel | None:
    """The first rung that builds and runs; `reasons` collects why others did not, as text -> what was tried."""
    resolved = _resolved(found.config_class, found.config)
    for rung in ladder:
        try:
            return _attempt(found, _shrunk(found, rung, resolved), rung)
        except Exception as error:  # any class may fail in its own way; the next rung may suit it
            tried = reasons.setdefault(f"{type(error).__name__}: {_text(error)}", [])
            tried.append(f"{found.model_class.__name__}, {rung.title}")
            if isinstance(error, ImportError) or "attention implementation" in str(error):
                break
    return None


def _shrunk(found: target.Target, rung: shrink_rules.Rung, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The tiny config with as many layers as show every kind that the constructor sees at full depth."""
    raw: dict[str, Any] = {}
    for extra in range(_MORE_LAYERS):
        raw = shrink(
            found.config,
            found.defaults,
            head_dim=rung.head_dim,
            resolved=resolved,
            aliases=library.aliases(found.config_class),
            fill=rung.fill,
            extra=extra,
        )
        if layer_kinds(resolved) <= layer_kinds(_resolved(found.config_class, raw)):
            break
    return raw


def _attempt(found: target.Target, raw: dict[str, Any], rung: shrink_rules.Rung) -> TinyModel:
    """One rung: `_constructed`, with the attributes that the class reads and its config lacks. Raises as that does."""
    given: dict[str, Any] = {}
    raw = with_keys(raw, needs_of(_type_of(found)).keys)
    while True:
        try:
            return _constructed(found, with_keys(raw, given), rung)
        except AttributeError as error:
            missed = absent(error, found.config_class)
            if not missed or set(missed) <= set(given):
                raise
            given |= missed


def _constructed(found: target.Target, raw: dict[str, Any], rung: shrink_rules.Rung) -> TinyModel:
    """Construct under eager and run a few tokens through it. Raises what the library raises."""
    if _large(_resolved(found.config_class, raw)):
        _guard(found, raw)
    model = construct(found.config_class, found.model_class, raw, "eager", "float32").eval()
    hand_over(model, _type_of(found))
    info = _info(found, raw, rung, model)
    _smoke(model, info)
    return TinyModel(info, found.config_class, found.model_class, model)


def _large(raw: Mapping[str, Any]) -> bool:
    """True when some size might have escaped the rules."""
    for key, value in raw.items():
        if isinstance(value, Mapping):
            if not key.startswith("rope") and _large(value):
                return True
        elif isinstance(value, int) and value > _SUSPICIOUS and key not in _HARMLESS:
            return True
    return False


def _guard(found: target.Target, raw: Mapping[str, Any]) -> None:
    """Sizes the model on the meta device. Raises MemoryError when its weights would exceed `MAX_BYTES`."""
    import torch

    with torch.device("meta"):
        model = construct(found.config_class, found.model_class, raw, "eager", "float32")
    size = sum(4 * parameter.numel() for parameter in model.parameters())
    if size > MAX_BYTES:
        most = MAX_BYTES // 1_000_000
        raise MemoryError(f"the shrunken model would still take {size // 1_000_000} MB (at most {most})")


def _resolved(config_class: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the constructor makes of a config, as data; empty when it refuses."""
    try:
        config = library.make_config(config_class, raw)
        return {str(key): value for key, value in library.json_like(config.to_dict()).items()}
    except Exception:  # a class that refuses here is heard again, and reported, when the model is built
        return {}


def _type_of(found: target.Target) -> str:
    """The model type of the level that is probed."""
    return str(found.config.get("model_type") or found.config_class.model_type)


def _info(found: target.Target, raw: dict[str, Any], rung: shrink_rules.Rung, model: Any) -> TinyInfo:
    arguments = library.forward_arguments(found.model_class)
    config = model.config
    encoder, decoder = getattr(config, "encoder", None), getattr(config, "decoder", None)
    decoder = decoder if library.is_config(decoder) else config
    layers = _first_int(decoder, "decoder_layers", "num_decoder_layers", "num_hidden_layers", "num_layers", "n_layer")
    encoder_layers = 0
    if getattr(config, "is_encoder_decoder", False) and found.kind == "seq2seq":
        source = encoder if library.is_config(encoder) else config
        encoder_layers = _first_int(source, "encoder_layers", "num_encoder_layers", "num_hidden_layers", "num_layers")
    pad = getattr(decoder, "pad_token_id", None)
    return TinyInfo(
        config={**raw, "model_type": _type_of(found)},
        kind=found.kind,
        model_class=found.model_class.__name__,
        num_layers=layers,
        num_encoder_layers=encoder_layers,
        vocab_size=_first_int(decoder, "vocab_size") or _first_int(config, "vocab_size") or shrink_rules.VOCAB,
        pad_token_id=pad if isinstance(pad, int) else None,
        takes_position_ids="position_ids" in arguments,
        takes_cache=bool({"past_key_values", "cache_params"} & set(arguments)),
        rung=rung.name,
        path=found.path,
        notes=_notes(found, rung),
    )


def _notes(found: target.Target, rung: shrink_rules.Rung) -> tuple[str, ...]:
    notes = [f"only the text tower is built: {'.'.join(found.path)}"] if found.path else []
    if rung.fill:
        notes.append("sizes that the class leaves open were filled in")
    return tuple(notes)


def _first_int(config: Any, *names: str) -> int:
    for name in names:
        try:
            value = getattr(config, name, None)
        except Exception:  # heterogeneous configs raise an error of their own on plain access
            continue
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _smoke(model: Any, info: TinyInfo) -> None:
    """Runs a few tokens. Raises what the model raises, and ValueError when the output is not finite."""
    import torch

    tokens = torch.arange(64, 72)[None]
    inputs: dict[str, Any] = {"input_ids": tokens}
    if "use_cache" in library.forward_arguments(type(model)) or hands_on_use_cache(type(model).forward):
        inputs["use_cache"] = False  # a broken cache is for the scenarios that use one to tell, not a missing model
    if info.kind == "seq2seq":
        inputs["decoder_input_ids"] = tokens[:, :6]
    with torch.no_grad(), seeded():
        output = model(**inputs)
    first = next((value for value in output.values() if torch.is_tensor(value) and value.is_floating_point()), None)
    if first is None or not bool(torch.isfinite(first).all()):
        raise ValueError("the forward pass on plain tokens gives no finite output")


def _text(error: BaseException) -> str:
    """An error in one line, short enough for a report."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
