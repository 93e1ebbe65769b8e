"""Runs LLaMA-Factory as a whole: its parser, its loader on a tiny checkpoint, its collator; answers as JSON.

Standard input: [{"type", "settings"}]. For each: the implementation of the loaded model, or the error that ends the
run, and the shape of the mask that the collator hands to the model in a packed batch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

os.environ["DISABLE_VERSION_CHECK"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

from real_llama_factory import Ours, collated, made, stand_ins


def checkpoint(kind: str, folder: str) -> str:
    """A tiny checkpoint of the type with random weights."""
    from transformers import AutoModelForCausalLM

    path = os.path.join(folder, kind)
    if not os.path.isdir(path):
        AutoModelForCausalLM.from_config(made(kind)).save_pretrained(path)
    return path


def answer(case: dict[str, Any], folder: str) -> dict[str, Any]:
    """What the real package does with the settings."""
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model

    settings = {
        "model_name_or_path": checkpoint(case["type"], folder),
        "dataset": "identity",
        "template": "qwen",
        "output_dir": os.path.join(folder, "out"),
        "finetuning_type": "full",
        "report_to": "none",
        "use_cpu": True,
        **case["settings"],
    }
    try:
        model_args, data_args, training_args, finetuning_args, _ = get_train_args(settings)
        model_args.device_map = None
        tokenizer = types.SimpleNamespace(init_kwargs={})  # it is asked for its remote code only
        model = load_model(tokenizer, model_args, finetuning_args, training_args.do_train)
        name = model.config._attn_implementation
        mask = None
        if data_args.neat_packing:
            features = collated(name, training_args.per_device_train_batch_size)
            mask = None if features["attention_mask"] is None else features["attention_mask"].dim()
    except Exception as error:
        return {"kind": "fails", "error": type(error).__name__, "reason": str(error).splitlines()[0]}
    return {"kind": "runs", "implementation": name, "mask": mask, "cutoff_len": model_args.model_max_length}


def keys() -> list[str]:
    """Every key that the real parser takes."""
    from llamafactory.hparams import parser

    return sorted({f.name for one in parser._TRAIN_ARGS for f in dataclasses.fields(one) if f.init})


def main() -> None:
    """{"keys": [...], "cases": [{"case", "real", "ours"}]}."""
    import llamafactory.hparams
    import llamafactory.model  # noqa: F401  both look for further packages; the data module needs stand-ins

    stand_ins("torchaudio")
    asked = json.load(sys.stdin)
    ours = Ours("0.9.5")
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            {"case": one, "real": answer(one, folder), "ours": ours.answer({"flash": False, **one})} for one in asked
        ]
    print("\n" + json.dumps({"keys": keys(), "cases": cases}))


if __name__ == "__main__":
    main()
