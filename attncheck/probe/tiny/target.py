"""Finds what to probe for a raw config: the text tower of a multimodal type, its config class and its model class."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from attncheck.declared.families import text_path
from attncheck.declared.original import Original, original
from attncheck.probe.tiny import library
from attncheck.probe.tiny.library import Config, UnknownModelType


@dataclass(frozen=True, slots=True)
class Target:
    """What a config stands for in the installed transformers.

    config: raw keys of the level that is probed. config_class, model_class: of that level; top_class: of the whole.
    kind: as in `ClassFacts`. path: sub-config keys from the top to the probed level, () when it is the whole config.
    defaults: constructor defaults of the probed level, JSON-like.
    """

    model_type: str
    config: Config
    config_class: Any
    model_class: Any
    top_class: Any
    kind: str
    path: tuple[str, ...] = ()
    defaults: Config = field(default_factory=dict)

    @property
    def alternatives(self) -> tuple[tuple[str, Any], ...]:
        """(kind, model class) of the other heads of this type: some classes refuse what their own config says."""
        others = library.probed_classes(str(getattr(self.config_class, "model_type", ""))) if not self.path else ()
        return tuple(item for item in others if item[1] is not self.model_class)


class NoModelClass(Exception):
    """The config class is known, but no model class that takes text is."""


def find(config: Config, trust_remote_code: bool = False) -> Target:
    """The target of a raw config. Raises UnknownModelType, NoModelClass, ImportError (an optional package)."""
    model_type = str(config.get("model_type") or "")
    if not model_type:
        raise UnknownModelType("the config has no model_type")
    if (other := original(config)) is not None:
        return _language_model(config, other)
    try:
        top = library.config_class(model_type)
    except UnknownModelType:
        return _remote(config, model_type, trust_remote_code)
    path, level, cls = _text_level(config, top)
    level = {**level, **_filled_in(level, cls)}
    kind, model = _model(cls, level, top, model_type, bool(path))
    return Target(model_type, level, cls, model, top, kind, path, library.defaults(cls, level))


def _language_model(config: Config, found: Original) -> Target:
    """The language model of an original LLaVA file: its class adds an image projector and leaves attention alone."""
    if not found.language:
        raise NoModelClass(
            "a file in the original LLaVA format that names no class, so that its language model is not known; "
            "expected architectures such as LlavaLlamaForCausalLM"
        )
    level = {key: value for key, value in config.items() if key != "architectures"} | {"model_type": found.language}
    return replace(find(level), model_type=found.model_type)


def _filled_in(level: Config, cls: Any) -> dict[str, Config]:
    """Missing sub-configs with what the class would pass to them (a decoder's `is_decoder`).

    Said outright, because a shrunken config has the sub-config, and the class passes nothing to one that is there.
    """
    return {
        key: {"model_type": model_type, **arguments}
        for key, (model_type, arguments) in library.sub_config_types(cls).items()
        if arguments and level.get(key) is None
    }


def _text_level(config: Config, cls: Any) -> tuple[tuple[str, ...], Config, Any]:
    """Descends into text sub-configs; an encoder-decoder of two text sub-configs is probed whole."""
    path: list[str] = []
    level: dict[str, Any] = dict(config)
    while True:
        subs = library.sub_config_types(cls)
        key = next((key for key in _text_keys(cls) if key in subs), None)
        if key is None or ("encoder" in subs and "decoder" in subs):
            return tuple(path), level, cls
        given = level.get(key)
        model_type, arguments = subs[key]
        own_type = given.get("model_type") if isinstance(given, Mapping) else None
        sub = library.sub_class(cls, key, str(own_type or model_type))
        if sub is None:
            return tuple(path), level, cls
        inner = dict(given) if isinstance(given, Mapping) else {**arguments, **_flat(level, sub, cls)}
        inner.setdefault("model_type", getattr(sub, "model_type", "") or model_type)
        path.append(key)
        level, cls = inner, sub


def _text_keys(cls: Any) -> tuple[str, ...]:
    """Names under which this class may keep its text sub-config; none where the class is the text model itself."""
    path = text_path(str(getattr(cls, "model_type", "")))
    return library.TEXT_KEYS if path is None else (path.partition(".")[0],)


def _flat(level: Config, sub: Any, cls: Any) -> dict[str, Any]:
    """Text keys that an old flat file keeps at the top level: those only the sub-config's class knows."""
    own = library.known_keys(cls, None)
    theirs = library.known_keys(sub, None)
    top_names = {key for key in own if "." not in key}
    taken = {key for key in level if key in theirs and key not in top_names}
    return {key: level[key] for key in taken if key not in ("model_type", "architectures", "auto_map")}


def _model(cls: Any, level: Config, top: Any, top_type: str, nested: bool) -> tuple[str, Any]:
    """(kind, model class) for the probed level."""
    model_type = str(level.get("model_type") or getattr(cls, "model_type", ""))
    found = _preferred(model_type, level, cls) if cls is _registered(model_type) or not nested else None
    if found is None or (nested and found[0] == "base"):
        found = _by_config_class(cls, top_type) or found
    if found is None:
        raise NoModelClass(f"transformers has no text model class for {cls.__name__}")
    kind, model = found
    if _feeds_both(cls, level, model, kind):
        return "seq2seq", model
    return "text" if nested and kind in ("causal-lm", "base") else kind, model


def _feeds_both(cls: Any, level: Config, model: Any, kind: str) -> bool:
    """True for the model without a head of an encoder-decoder (udop) that reads tokens in both stacks."""
    if kind != "base" or not library.defaults(cls, level).get("is_encoder_decoder"):
        return False
    return {"input_ids", "decoder_input_ids"} <= set(library.forward_arguments(model))


def _preferred(model_type: str, level: Config, cls: Any) -> tuple[str, Any] | None:
    """The class to probe; with both stacks where the config says that there are two (bart also has a decoder alone)."""
    classes = dict(reversed(library.probed_classes(model_type)))
    if "seq2seq" in classes and level.get("is_encoder_decoder", library.defaults(cls, level).get("is_encoder_decoder")):
        return "seq2seq", classes["seq2seq"]
    return library.probed_class(model_type)


def _registered(model_type: str) -> Any:
    try:
        return library.config_class(model_type)
    except UnknownModelType:
        return None


def _by_config_class(cls: Any, top_type: str) -> tuple[str, Any] | None:
    """The model class of a text sub-config that no auto mapping lists: one in its package that takes this config."""
    candidates: list[tuple[int, str, Any]] = []
    head = library.probed_class(top_type)
    if head is not None and getattr(head[1], "config_class", None) is cls:
        return head
    package = importlib.import_module(cls.__module__.rpartition(".")[0])
    for entry in pkgutil.iter_modules(package.__path__):
        if not entry.name.startswith("modeling_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        for name, model in vars(module).items():
            if not inspect.isclass(model) or getattr(model, "config_class", None) is not cls:
                continue
            if "forward" not in vars(model) or "PreTrained" in name or model.__module__ != module.__name__:
                continue
            rank = 0 if name.endswith(("ForCausalLM", "LMHeadModel")) else 1 if "TextModel" in name else 2
            candidates.append((rank, name, model))
    if not candidates:
        return None
    rank, _, model = min(candidates, key=lambda item: (item[0], len(item[1])))
    return ("causal-lm" if rank == 0 else "base"), model


def _remote(config: Config, model_type: str, trust_remote_code: bool) -> Target:
    """A type only the repository's own code can build."""
    references = config.get("auto_map")
    if not isinstance(references, Mapping) or "AutoConfig" not in references:
        raise UnknownModelType(f"the installed transformers has no model type {model_type!r}")
    if not trust_remote_code:
        raise UnknownModelType(
            f"model type {model_type!r} can only be built by code from its repository, which is run only with "
            "--trust-remote-code"
        )
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    def load(reference: str) -> Any:
        repository, _, name = reference.rpartition("--")
        source = repository or config.get("_name_or_path") or config.get("name_or_path")
        if not source:
            raise UnknownModelType(f"the config of {model_type!r} does not say which repository holds its code")
        return get_class_from_dynamic_module(name, str(source))

    cls = load(str(references["AutoConfig"]))
    for key, kind in (("AutoModelForCausalLM", "causal-lm"), ("AutoModelForSeq2SeqLM", "seq2seq"),
                      ("AutoModelForMaskedLM", "masked-lm"), ("AutoModel", "base")):  # fmt: skip
        if key in references:
            model = load(str(references[key]))
            return Target(model_type, dict(config), cls, model, cls, kind, (), library.defaults(cls, config))
    raise NoModelClass(f"the repository of {model_type!r} names no text model class")
