"""Runs the real LLaMA-Factory beside attncheck, in a process of its own: cases on standard input, both answers as JSON.

Only the modules under test are imported: the package's `__init__` files would bring trl, peft and datasets, which have
no say in any of this. Everything that is called is LLaMA-Factory's own code, unchanged.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

SIZES = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128, "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip
#: Types that only the code of a checkpoint knows, in some version or in all.
NOT_BUILT = ("internlm2", "kimi_vl", "youtu_vl", "gpt_oss")
KERNEL = "kernels-community/vllm-flash-attn3"


class StandIn(types.ModuleType):
    """A package that is imported for names of files and classes only; it is not installed beside these tests."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() and not name.isupper() else name


def stand_ins(*names: str) -> None:
    """Stand-ins for those that are not installed, sub-modules included."""
    for name in names:
        package = name.partition(".")[0]
        if package in MISSING or importlib.util.find_spec(package) is None:
            MISSING.add(package)
            sys.modules[name] = StandIn(name)


MISSING: set[str] = set()


def bare_packages() -> None:
    """`llamafactory` and its sub-packages as empty packages over the real folders."""
    import transformers  # noqa: F401  it looks for some of these packages itself

    stand_ins("peft", "peft.utils", "omegaconf")
    spec = importlib.util.find_spec("llamafactory")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    for name in ("", "extras", "model", "model.model_utils", "hparams", "data"):
        package = types.ModuleType(f"llamafactory.{name}" if name else "llamafactory")
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[package.__name__] = package


class Arguments:
    """What the resolver reads of `ModelArguments`; the parser types nothing, so neither does this."""

    def __init__(self, settings: dict[str, Any], default: Any) -> None:
        self.flash_attn = settings.get("flash_attn", default)
        self.shift_attn = bool(settings.get("shift_attn"))
        self.block_diag_attn = bool(settings.get("neat_packing"))


class Real:
    """LLaMA-Factory's own functions, in the order in which `patch_config` and `run_sft` call them."""

    def __init__(self) -> None:
        bare_packages()
        self.attention = importlib.import_module("llamafactory.model.model_utils.attention")
        self.longlora = importlib.import_module("llamafactory.model.model_utils.longlora")
        self.constants = importlib.import_module("llamafactory.extras.constants")
        self.version = importlib.metadata.version("llamafactory")

    def answer(self, case: dict[str, Any]) -> dict[str, Any]:
        settings, kind = case["settings"], case["type"]
        trainable = bool(settings.get("do_train"))
        config = made(kind)
        arguments = Arguments(settings, self.constants.AttentionFunction.AUTO)
        try:
            with available(self, case["flash"]):
                self.configure(config, arguments, trainable)
            self.longlora.configure_longlora(config, arguments, trainable)
            name = self.ran(config, kind, case["flash"])
            self.packed(settings, config, name)
        except Exception as error:
            return {"kind": "fails", "error": type(error).__name__, "reason": str(error).splitlines()[0]}
        return {"kind": "runs", "implementation": name}

    def configure(self, config: Any, arguments: Arguments, trainable: bool) -> None:
        function = self.attention.configure_attn_implementation
        wants = function.__code__.co_varnames[: function.__code__.co_argcount]
        function(config, arguments, *([trainable] if "is_trainable" in wants else []))

    def ran(self, config: Any, kind: str, flash: bool) -> str | None:
        """What a model that is loaded with this config says that it runs; what is written where none can be built."""
        written = getattr(config, "_attn_implementation_internal", None)
        if isinstance(config, types.SimpleNamespace):
            whole, text = vars(config), vars(getattr(config, "text_config", config))
            names = (
                whole.get("attn_implementation"),
                whole.get("_attn_implementation"),
                text.get("_attn_implementation"),
            )
            return next((name for name in names if name), None)
        if kind == "gpt_oss" or written in ("flash_attention_2", KERNEL):
            return written  # the kernel is not here
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_config(config).config._attn_implementation

    def packed(self, settings: dict[str, Any], config: Any, name: str | None) -> None:
        """The refusals of get_train_args and of the collator."""
        if not settings.get("neat_packing"):
            return
        if settings.get("stage") != "sft":
            raise ValueError("`neat_packing` cannot be set as True except SFT.")  # hparams/parser.py
        if self.version == "0.9.5" and name == "flash_attention_2":
            collated(name, settings.get("per_device_train_batch_size", 8))


class available:
    """While it lasts, transformers and LLaMA-Factory find flash-attn installed, or not; no kernel is downloaded."""

    def __init__(self, real: Real, flash: bool) -> None:
        import transformers.utils

        self.places = [(transformers.utils, "is_flash_attn_2_available", lambda: flash)]
        if hasattr(real.attention, "is_flash_attn_2_available"):
            self.places.append((real.attention, "is_flash_attn_2_available", lambda: flash))
        if hasattr(real.attention, "check_version"):
            self.places.append((real.attention, "check_version", lambda *a, **k: None))
        try:
            hub = importlib.import_module("transformers.integrations.hub_kernels")
            self.places.append((hub, "load_and_register_kernel", lambda *a, **k: None))
        except ImportError:
            pass

    def __enter__(self) -> None:
        self.saved = [(place, name, getattr(place, name, None)) for place, name, _ in self.places]
        for place, name, value in self.places:
            setattr(place, name, value)

    def __exit__(self, *_: object) -> None:
        for place, name, value in self.saved:
            setattr(place, name, value) if value is not None else delattr(place, name)


def made(kind: str) -> Any:
    """A tiny config of the type; of types that only remote code knows, an object with the attributes that are read."""
    from transformers import AutoConfig

    if kind in NOT_BUILT:
        if kind == "gpt_oss":
            try:
                return AutoConfig.for_model(kind)
            except ValueError:
                return types.SimpleNamespace(model_type=kind)
        parts = {"attn_implementation": "eager"} if kind == "internlm2" else {
            name: types.SimpleNamespace() for name in ("vision_config", "text_config")
        }  # fmt: skip
        return types.SimpleNamespace(model_type=kind, **parts)
    sliding = {"sliding_window": 8, "use_sliding_window": True} if kind.startswith("qwen") else {}
    return AutoConfig.for_model(kind, **SIZES, **sliding)


def collator_module() -> Any:
    """data/collator.py itself; `.template` and peft are for annotations and isinstance only."""
    stand_ins("PIL")
    return importlib.import_module("llamafactory.data.collator")


def collated(name: str, rows: int) -> Any:
    """The features of a packed batch as the real collator leaves them; its parents' padding is not needed here."""
    import torch

    module = collator_module()
    index = torch.tensor([[1] * 4 + [2] * 3 + [0]] * rows)
    features = {
        "input_ids": torch.zeros_like(index),
        "attention_mask": index,
        "position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0]] * rows),
    }
    parent = module.MultiModalDataCollatorForSeq2Seq
    original = parent.__call__
    parent.__call__ = lambda self, features: dict(features)
    try:
        collator = object.__new__(module.SFTDataCollatorWith4DAttentionMask)
        for key, value in {
            "block_diag_attn": True, "neat_packing": True, "attn_implementation": name, "compute_dtype": torch.float32,
            "model": None,
        }.items():  # fmt: skip
            setattr(collator, key, value)
        return collator(features)
    finally:
        parent.__call__ = original


class Ours:
    """attncheck's resolution of the same case."""

    def __init__(self, version: str) -> None:
        self.version = version

    def answer(self, case: dict[str, Any]) -> dict[str, Any]:
        import torch
        import transformers

        from attncheck.environment import Environment, Library
        from attncheck.frameworks import llama_factory
        from attncheck.frameworks.interface import ClassSupport
        from attncheck.frameworks.plugin import Asked, Fails, ModelFacts, Runs
        from attncheck.gpus import Gpu

        support = ClassSupport("", transformers.__version__)
        if case["type"] not in NOT_BUILT:
            from attncheck.probe.tiny.facts import describe

            config = made(case["type"]).to_dict()
            facts = describe({key: value for key, value in config.items() if value is not None}, False)
            support = ClassSupport(
                facts.model_class, facts.transformers, facts.supports, facts.compatible_flash,
                facts.default_implementation,
            )  # fmt: skip
        libraries = [Library("transformers", transformers.__version__), Library("torch", torch.__version__)]
        libraries += [Library("flash-attn", "2.8.3")] if case["flash"] else []
        gpus = (Gpu(0, "NVIDIA H100", (9, 0), 80 << 30, "580"),) if case["flash"] else ()
        environment = Environment("3.11", "Linux", tuple(libraries), gpus=gpus, torch_cuda="12.8" if gpus else "")
        asked = Asked({"model_name_or_path": "x", **case["settings"]}, version=self.version, file="train.yaml")
        llama_factory.plan(asked)
        resolution = llama_factory.resolve(asked, environment, ModelFacts("x", case["type"], {}, support))
        outcome = resolution.outcome
        if isinstance(outcome, Fails):
            return {"kind": "fails", "error": outcome.error, "reason": outcome.reason.splitlines()[0]}
        return {"kind": "runs", "implementation": outcome.implementation if isinstance(outcome, Runs) else None}


def main() -> None:
    """Answers to the cases on standard input, but for types nobody knows here: [{"case", "real", "ours"}]."""
    asked = json.load(sys.stdin)
    real = Real()
    from transformers import CONFIG_MAPPING

    asked = [one for one in asked if one["type"] in CONFIG_MAPPING or one["type"] in NOT_BUILT]
    ours = Ours(real.version)
    print(json.dumps([{"case": one, "real": real.answer(one), "ours": ours.answer(one)} for one in asked]))


if __name__ == "__main__":
    main()
