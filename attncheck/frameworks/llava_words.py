"""What to change in LLaVA, in its own words: the line of its training script, the argument of its loader."""

from __future__ import annotations

from attncheck.findings import Recommendation, Setting
from attncheck.frameworks.llava_versions import RELEASES, Release, newest, release

NAME = "llava"


def for_language(language: str, implementation: str, *, training: bool = False) -> Recommendation:
    """The same in the newest version that loads a checkpoint with this language model."""
    return recommend(implementation, release(newest(language)), training=training)


def recommend(implementation: str, known: Release | None = None, *, training: bool = False) -> Recommendation:
    """How to make LLaVA run an implementation: the line to edit for training, the argument for inference."""
    known = known or RELEASES[1]
    value = f'"{implementation}"'
    if known.named:
        flag = Setting(NAME, "--attn_implementation", implementation, f"--attn_implementation {implementation}")
        load = f"load_pretrained_model(model_path, None, model_name, attn_implementation={value})"
        call = Setting(NAME, "attn_implementation", value, load)
        return Recommendation(f"use {implementation} in LLaVA-NeXT", (flag, call) if training else (call, flag))
    if known.flash is None:
        if implementation == "flash_attention_2":
            launch = Setting(NAME, "script", "train_mem.py", "torchrun llava/train/train_mem.py ...")
        else:
            launch = Setting(NAME, "script", "train.py", "torchrun llava/train/train.py ...  # not train_mem.py")
        return Recommendation(f"launch {launch.value} in {known.title}", (launch,))
    edit = f"train(attn_implementation={value})  # {known.line}, instead of {known.statement}"
    line = Setting(NAME, "train_mem.py", value, edit)
    flash = "True" if implementation == "flash_attention_2" else "False"
    further = "" if implementation == "flash_attention_2" else f", attn_implementation={value}"
    load = f"load_pretrained_model(model_path, None, model_name, use_flash_attn={flash}{further})"
    call = Setting(NAME, "use_flash_attn", flash, load)
    return Recommendation(f"use {implementation} in LLaVA 1.2", (line, call) if training else (call, line))


def without_flash() -> tuple[str, ...]:
    """How LLaVA is started without flash attention, version by version, in full sentences."""
    older, newer, after = RELEASES
    return (
        f'training: {newer.title} has no flag for it: write "sdpa" or "eager" into {newer.line}, '
        f"{newer.statement}; {older.title}: launch train.py instead of train_mem.py, whose line 8 is {older.statement};"
        f" {after.title}: --attn_implementation eager, the default is {after.named}",
        "inference: use_flash_attn=False passes nothing on: it means transformers' default, not eager; in "
        f"{after.title} the argument is attn_implementation, and its default is {after.named}",
        "the vision tower is loaded by itself, without attn_implementation: only torch's switches reach it",
        "no environment variable does it: none is read for this by LLaVA, transformers, torch or flash-attn",
    )
