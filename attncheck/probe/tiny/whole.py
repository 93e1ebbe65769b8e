"""Builds a tiny model whole, every tower in it, and says where each of its sub-models is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attncheck.declared.families import plain_towers
from attncheck.declared.original import original
from attncheck.declared.vision import KEY as VISION_KEY
from attncheck.probe.tiny import library, switch, target
from attncheck.probe.tiny.build import MAX_BYTES
from attncheck.probe.tiny.construct import seeded
from attncheck.probe.tiny.shrink import shrink
from attncheck.semantics.spec import Part
from attncheck.semantics.sub_models import Asked

#: Heads of the model that loads image and text together, in the order in which one is looked for.
_IMAGE_TEXT = (
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    "MODEL_FOR_VISION_2_SEQ_MAPPING_NAMES",
)
#: Patches along each side of the image.
SIDE = 4
#: Head width where nothing says how wide the model's own heads are.
WIDTH = 16

_TITLES = {VISION_KEY: "vision tower", "text_config": "language model", "audio_config": "audio tower"}


@dataclass(frozen=True, slots=True)
class Member:
    """One sub-model of a built model. path: of its module, "" for the whole. plain: a tower fed with `pixel_values`."""

    key: str
    title: str
    part: Part
    path: str
    module: Any
    plain: bool = False

    @property
    def config(self) -> Any:
        """Its config object."""
        return self.module.config


@dataclass(slots=True)
class Whole:
    """What is needed to build the model again and again, with the same weights.

    composite: it has towers. title: what the model is called where it is one of several. outputs: what its builds gave,
    kept by whoever compares with them: how it was asked for, dtype and device -> sub-config key -> output.
    """

    config_class: Any
    model_class: Any
    raw: Mapping[str, Any]
    kind: str
    composite: bool
    title: str = "model"
    outputs: dict[tuple[Asked, str, str], dict[str, Any]] = field(default_factory=dict)
    _weights: dict[str, Any] = field(default_factory=dict)

    def build(self, asked: Asked, dtype: str, device: str) -> Any:
        """The model as `from_pretrained(..., attn_implementation=...)` would give it, in eval mode.

        Raises what the library raises. Flash names that cannot run here (`Asked.predicted`) are taken unchecked.
        """
        import torch

        self._require_small()
        given = asked.implementation
        wanted = dict(given) if isinstance(given, tuple) else given
        config = library.make_config(self.config_class, self.raw)
        precision = getattr(torch, dtype)
        with seeded(), switch.unchecked() if asked.predicted else contextlib.nullcontext():
            model = _from_config(self.model_class, config, wanted, precision)
        kept = self._weights.setdefault(f"{dtype} {device}", model.state_dict())
        model.load_state_dict(kept, strict=False)
        return model.to(device).eval()

    def _require_small(self) -> None:
        """Sizes the model on the meta device, once. Raises MemoryError when its weights would exceed `MAX_BYTES`."""
        import torch

        if self._weights:
            return
        with torch.device("meta"), seeded(), switch.unchecked():
            model = _from_config(
                self.model_class, library.make_config(self.config_class, self.raw), None, torch.float32
            )
        size = sum(4 * parameter.numel() for parameter in model.parameters())
        if size > MAX_BYTES:
            most = MAX_BYTES // 1_000_000
            raise MemoryError(f"the shrunken model would still take {size // 1_000_000} MB (at most {most})")

    def members(self, model: Any) -> tuple[Member, ...]:
        """The sub-models of a built model; the whole where it has none."""
        if not self.composite and self.raw.get("model_type") in plain_towers():
            return (Member("", _TITLES[VISION_KEY], Part.VISION, "", model, plain=True),)
        if not self.composite:
            return (Member("", self.title, Part.DECODER, "", model),)
        found = []
        for key in library.sub_config_types(self.config_class):
            config = getattr(model.config, key, None)
            if config is None or not (owners := _owners(model, config)):
                continue
            path, module = min(owners, key=lambda owner: (owner[0].count("."), owner[0]))
            part = Part.VISION if key == VISION_KEY else Part.DECODER
            plain = key == VISION_KEY and getattr(config, "model_type", "") in plain_towers()
            found.append(Member(key, _TITLES.get(key, key.removesuffix("_config")), part, path, module, plain))
        return tuple(found)


def whole(config: Mapping[str, Any], widths: Mapping[str, int] | None = None, trust_remote_code: bool = False) -> Whole:
    """How to build the tiny model of a raw config.

    widths: sub-config key -> head width ("" for a model without sub-models). Raises UnknownModelType, NoModelClass,
    ImportError.
    """
    widths = widths or {}
    model_type = str(config.get("model_type") or "")
    if original(config) is None:
        with contextlib.suppress(library.UnknownModelType):
            top = library.config_class(model_type)
            model_class = library.mapped_class(model_type, _IMAGE_TEXT)
            if model_class is not None and VISION_KEY in library.sub_config_types(top):
                return Whole(top, model_class, _composite(config, top, widths), "image-text", True)
    found = target.find(config, trust_remote_code)
    width = widths.get("", widths.get("text_config", WIDTH))
    raw = shrink(
        found.config,
        found.defaults,
        head_dim=width,
        resolved=_resolved(found.config_class, found.config),
        aliases=library.aliases(found.config_class),
    )
    if model_type in plain_towers():
        raw = _tower({**raw, "model_type": model_type}, _resolved(found.config_class, found.config), width)
    title = _TITLES["text_config"] if original(config) is not None else "model"
    return Whole(found.config_class, found.model_class, raw, found.kind, False, title)


def _composite(config: Mapping[str, Any], top: Any, widths: Mapping[str, int]) -> dict[str, Any]:
    """The whole config shrunk, its plain tower to `SIDE` patches along each side."""
    resolved = _resolved(top, config)
    raw = shrink(
        config,
        library.defaults(top, config),
        head_dim=widths.get("text_config", WIDTH),
        resolved=resolved,
        aliases=library.aliases(top),
    )
    tower, full = dict(raw.get(VISION_KEY) or {}), resolved.get(VISION_KEY) or {}
    if full.get("model_type") in plain_towers():
        raw[VISION_KEY] = _tower(tower, full, widths.get(VISION_KEY, WIDTH))
    return raw


def _tower(tower: Mapping[str, Any], full: Mapping[str, Any], width: int) -> dict[str, Any]:
    """A shrunken plain tower, with heads of this width, an image of few patches, and all that defaults would decide."""
    heads, patch = tower.get("num_attention_heads") or full["num_attention_heads"], full["patch_size"]
    return {
        **tower,
        "model_type": full["model_type"],
        "patch_size": patch,
        "image_size": SIDE * patch,
        "hidden_size": heads * width,
        "num_attention_heads": heads,
    }


def _resolved(cls: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the constructor makes of a config; empty where it refuses, which is heard again when the model is built."""
    try:
        return {str(key): value for key, value in library.json_like(library.make_config(cls, config).to_dict()).items()}
    except Exception:
        return {}


def _owners(model: Any, config: Any) -> list[tuple[str, Any]]:
    """(path, module) of those that hold this config; versions before 4.50 hand copies of it to sub-models."""
    held = [(path, module) for path, module in model.named_modules() if "config" in vars(module)]
    same = [(path, module) for path, module in held if module.config is config]
    return same or [(path, module) for path, module in held if type(module.config) is type(config) and path]


def _from_config(model_class: Any, config: Any, wanted: Any, precision: Any) -> Any:
    """`_from_config` by whichever name this version has for the dtype, with the implementation only if one is asked."""
    chosen = {} if wanted is None else {"attn_implementation": wanted}
    for name in ("dtype", "torch_dtype"):
        try:
            return model_class._from_config(config, **{name: precision}, **chosen)
        except TypeError as error:
            if f"'{name}'" not in str(error):
                raise
    return model_class._from_config(config, **chosen)
