"""LLaVA by version: how training and inference choose attention there, as data read from its sources.

Read: the wheels llava-torch 1.1.1 and 1.2.2.post1 of PyPI, haotian-liu/LLaVA and LLaVA-VL/LLaVA-NeXT (which calls its
package llava 1.7.0.dev0), transformers 4.36.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.version import InvalidVersion, Version

#: What the default stands for: nothing is passed on, so transformers picks.
DEFAULT = "default"
#: Its own function in the place of `LlamaAttention.forward`.
PATCHED = "patched"
#: An implementation that the user names.
NAMED = "named"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to start LLaVA.

    gives: what it leads to: `DEFAULT`, `PATCHED`, `NAMED`, or transformers' name. does: a clause. source: file, line.
    inert: why a patch does nothing, "" where it acts.
    """

    gives: str
    does: str
    source: str
    inert: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """LLaVA from a version on.

    scripts: training script -> what it leads to. flash, plain: inference with `use_flash_attn` true and false; None
    where the argument does not exist. named: inference and training take `attn_implementation`; its default.
    settings: names that it has. line: file and line that decides training. requires: package -> its pin. default_here:
    what transformers picks under those pins. tower: how the vision tower is loaded.
    """

    since: str
    title: str
    scripts: Mapping[str, Way]
    plain: Way
    flash: Way | None = None
    named: str = ""
    settings: tuple[str, ...] = ()
    line: str = ""
    statement: str = ""
    requires: Mapping[str, str] = field(default_factory=dict)
    default_here: str = ""
    tower: str = (
        "CLIPVisionTower.load_model calls CLIPVisionModel.from_pretrained(name) and passes no attn_implementation"
    )


_BUILDER = "llava/model/builder.py, load_pretrained_model"
_MEM = "llava/train/train_mem.py"
_PATCH = Way(
    PATCHED,
    "calls replace_llama_attn_with_flash_attn(), which puts flash-attn in the place of LlamaAttention.forward: always "
    "causal, no window",
    f"{_MEM}, line 8; llava/train/llama_flash_attn_monkey_patch.py",
)
_XFORMERS = "llava/train/train_xformers.py, line 8; llava/train/llama_xformers_attn_monkey_patch.py"

RELEASES = (
    Release(
        since="1.0",
        title="LLaVA 1.0 and 1.1",
        scripts={
            "train_mem.py": _PATCH,
            "train.py": Way(DEFAULT, "loads the model and passes no attn_implementation", "llava/train/train.py"),
        },
        plain=Way(DEFAULT, "loads the model and passes no attn_implementation", _BUILDER),
        settings=("script",),
        line=f"{_MEM}, line 8",
        statement="replace_llama_attn_with_flash_attn()",
        requires={"transformers": "==4.31.0"},
        default_here="eager: transformers 4.31 has no other",
    ),
    Release(
        since="1.2",
        title="LLaVA 1.2",
        scripts={
            "train_mem.py": Way(
                "flash_attention_2", 'calls train(attn_implementation="flash_attention_2")', f"{_MEM}, line 4"
            ),
            "train.py": Way(
                DEFAULT, "calls train(), whose attn_implementation is None: nothing is passed", "llava/train/train.py"
            ),
            "train_xformers.py": Way(
                DEFAULT,
                "puts xformers in the place of LlamaAttention.forward",
                _XFORMERS,
                "transformers builds LlamaSdpaAttention, which has a forward of its own: the patch is never called "
                "(4.36 with torch 2.1.1 and newer), and from 4.48 on the forward takes other arguments",
            ),
        },
        plain=Way(DEFAULT, "passes no attn_implementation: false means transformers' default, not eager", _BUILDER),
        flash=Way("flash_attention_2", 'passes attn_implementation="flash_attention_2"', f"{_BUILDER}, line 46"),
        settings=("script", "use_flash_attn", "attn_implementation"),
        line=f"{_MEM}, line 4",
        statement='train(attn_implementation="flash_attention_2")',
        requires={"transformers": "<4.38,>=4.36"},
        default_here="sdpa with torch 2.1.1 and newer, eager with torch 2.0.1, which llava-torch 1.2.2.post1 pins",
    ),
    Release(
        since="1.5",
        title="LLaVA-NeXT",
        scripts={
            name: Way(NAMED, "passes --attn_implementation on", "llava/train/train.py, TrainingArguments")
            for name in ("train_mem.py", "train.py")
        },
        plain=Way(NAMED, "passes attn_implementation on", _BUILDER),
        named="flash_attention_2",
        settings=("script", "attn_implementation", "model_base"),
        line="llava/train/train.py, TrainingArguments.attn_implementation",
        statement='attn_implementation: str = field(default="flash_attention_2")',
        requires={"transformers": "<4.41,>=4.39"},
        default_here="sdpa",
        tower="CLIPVisionTower passes no attn_implementation; SigLipVisionTower is code of its own, which is eager",
    ),
)
#: The newest version of the original repository: what is assumed where nobody says.
NEWEST = "1.2.2.post1"
#: Language models that only LLaVA-NeXT has classes for, and its version.
NEXT_LANGUAGES = ("qwen2", "qwen2_moe", "mixtral", "gemma")
NEXT = "1.7.0.dev0"
#: The distribution `llava` on PyPI holds no code.
PLACEHOLDER = "0.0.1.dev0"


def newest(language: str) -> str:
    """The newest version that loads a checkpoint with this language model."""
    return NEXT if language in NEXT_LANGUAGES else NEWEST


def release(version: str) -> Release | None:
    """The release that a version belongs to; None for one that is none."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        return None
    found = [entry for entry in RELEASES if Version(entry.since) <= wanted]
    return found[-1] if found else None
