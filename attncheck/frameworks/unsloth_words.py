"""What to change with Unsloth, in its own words: keep a mask, leave the fast path, or install another release."""

from __future__ import annotations

from attncheck.findings import Recommendation, Setting
from attncheck.frameworks.transformers import AUTO_CLASSES
from attncheck.frameworks.unsloth_history import CAUSAL_FIELD, HONOURS_IMPLEMENTATION, training_mask

NAME = "unsloth"

#: The Llama forward makes masks causal and takes 4D masks as they are; the edit reaches every kernel that gets no mask.
_NOT_CAUSAL = """\
import dataclasses
import sys

def bidirectional(run_attention):
    def run(*, config, context, **tensors):
        return run_attention(config=config, context=dataclasses.replace(context, is_causal=False), **tensors)
    return run

for name, module in list(sys.modules.items()):
    if name.startswith("unsloth.models.") and hasattr(module, "run_attention"):
        module.run_attention = bidirectional(module.run_attention)"""


def keep_mask(version: str) -> tuple[Recommendation, ...]:
    """How a mask gets through in training on the fast path; () where no release of that age lets it."""
    flag = training_mask(version).flag
    if not flag:
        return ()
    paste = f"model.get_base_model().model.{flag} = True  # without adapters: model.model.{flag} = True"
    return (
        Recommendation(
            "Keep the mask in training: attention then runs on SDPA, with a 4D float mask as you pass it (0.0 where a "
            "key is visible, the smallest number elsewhere; of booleans it raises) or a 2D mask made causal.",
            (Setting(NAME, flag, "True", paste),),
        ),
    )


def window_by_mask(version: str) -> tuple[Recommendation, ...]:
    """The only way to a window on the Llama forward: a mask that is kept is made with it, for every layer."""
    return tuple(
        Recommendation(
            "Where every layer has the window: keep the mask in training and pass an attention_mask of ones, which "
            "Unsloth then makes a causal mask with the window.",
            keep.settings,
        )
        for keep in keep_mask(version)
    )


def compiled_route(model: str, implementation: str, version: str) -> Recommendation:
    """Unsloth's other route, which compiles the classes of transformers and leaves masks to them."""
    name = f'"{model}"' if model else "model_id"
    honoured = HONOURS_IMPLEMENTATION.holds(version)
    argument = f', attn_implementation="{implementation}"' if honoured else ""
    text = f"use Unsloth's compiled route with {implementation if honoured else 'sdpa'}"
    paste = f"model, tokenizer = FastModel.from_pretrained({name}{argument})"
    return Recommendation(text, (Setting(NAME, "attn_implementation", implementation, paste),))


def by_transformers(model: str, implementation: str, kind: str = "causal-lm") -> Recommendation:
    """Without Unsloth. It must not be imported before, as it patches the classes of transformers."""
    name = f'"{model}"' if model else "model_id"
    auto = AUTO_CLASSES.get(kind, "AutoModel")
    paste = f'model = {auto}.from_pretrained({name}, attn_implementation="{implementation}")  # unsloth not imported'
    return Recommendation(
        f"load the model with transformers and {implementation}",
        (Setting("transformers", "attn_implementation", implementation, paste),),
    )


def not_causal(version: str) -> tuple[Recommendation, ...]:
    """How the fast path is made bidirectional, by editing its flags; () before its kernels knew anything but causal."""
    if not CAUSAL_FIELD.holds(version):
        return ()
    text = (
        "For fully bidirectional attention, edit the flag that no fast path sets; it acts where no mask is passed, and "
        "on SDPA only without a sliding window."
    )
    return (Recommendation(text, (Setting(NAME, "AttentionContext.is_causal", "False", _NOT_CAUSAL),)),)


def upgrade(release: str) -> Recommendation:
    """Install a release without the defect."""
    paste = f'pip install --upgrade "unsloth>={release}" "unsloth_zoo>={release}"'
    return Recommendation(f"Upgrade to Unsloth {release} or newer.", (Setting("shell", "pip", release, paste),))


def custom_mask(model: str, version: str) -> tuple[Recommendation, ...]:
    """Every way to a mask of one's own in training, the nearest first."""
    return (*keep_mask(version), compiled_route(model, "sdpa", version), by_transformers(model, "sdpa"))
