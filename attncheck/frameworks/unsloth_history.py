"""What each Unsloth release does with masks, causality and windows on its fast path, as data read in its sources.

Every row is checked against the released wheels by `tests/frameworks/test_unsloth_sources.py`: the rule is there in
`first` and `last` and in no release right before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

from attncheck.frameworks.flash_kernels import parsed

OLDEST, NEWEST = "2024.8", "2026.10.9"

#: Kernels of the fast path in Unsloth's order of preference (`select_attention_backend`; before 2025.12.4 the same
#: order stands inline in each attention forward).
FLASH, XFORMERS, SDPA = "flash-attn", "xformers", "sdpa"
KERNELS = (FLASH, XFORMERS, SDPA)

#: Files of the package in which the rows were read.
LLAMA, MISTRAL, DISPATCH = "models/llama.py", "models/mistral.py", "utils/attention_dispatch.py"
LOADER = "models/loader.py, FastLanguageModel.from_pretrained"


@dataclass(frozen=True, slots=True)
class Span:
    """Releases from `first` to `last`, both inclusive; last "" is the newest that was read, and on."""

    first: str = OLDEST
    last: str = ""

    def holds(self, version: str) -> bool:
        """True for a release of the span."""
        at = parsed(version)
        return parsed(self.first) <= at and (not self.last or at <= parsed(self.last))

    @property
    def words(self) -> str:
        """`2025.2.2 to 2025.7.1`, `since 2026.10.4`, `every release read`."""
        if not self.last:
            return "every release read" if self.first == OLDEST else f"since {self.first}"
        return f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class FastType:
    """A model type whose classes get forwards of Unsloth's own. family: whose attention forward it is."""

    model_type: str
    family: str
    span: Span = Span()


#: Every other type is handed on to FastModel, which compiles the classes of transformers ("compiled route").
FAST_TYPES = (
    FastType("llama", "llama"),
    FastType("mistral", "mistral"),
    FastType("qwen2", "llama"),
    FastType("gemma", "llama"),
    FastType("gemma2", "gemma2"),
    FastType("qwen3", "qwen3", Span("2025.4.2")),
    FastType("falcon_h1", "falcon_h1", Span("2025.6.9", "2025.7.4")),
)

#: Arguments of from_pretrained that take any model to the compiled route.
DELEGATING = (
    ("full_finetuning", Span("2025.3.10")),
    ("load_in_8bit", Span("2025.3.10")),
    ("qat_scheme", Span("2025.9.3")),
)

#: Without a usable xformers, Mistral's causal-LM forward raises: it makes xformers' mask whatever runs afterwards.
MISTRAL_NEEDS_XFORMERS = Span("2025.2.2", "2025.7.1")

#: `FastModel.from_pretrained(..., attn_implementation=)` is honoured; earlier releases overwrote it with sdpa.
HONOURS_IMPLEMENTATION = Span("2025.4.1")

#: The dispatcher, shared by all families; before it each attention forward chose by itself.
DISPATCHER = Span("2025.12.4")

#: `AttentionContext.is_causal`: the kernels can run without causality, though no fast path asks for it.
CAUSAL_FIELD = Span("2026.10.1")


@dataclass(frozen=True, slots=True)
class TrainingMask:
    """Whether `LlamaModel_fast_forward` lets an attention_mask through in train mode. unless: the only way it does.

    flag: attribute of the inner model that keeps the mask, "" without one.
    """

    span: Span
    unless: str = ""
    flag: str = ""


TRAINING_MASKS = (
    TrainingMask(Span("2024.8", "2025.6.5")),
    TrainingMask(Span("2025.6.6", "2025.7.1"), "UNSLOTH_KEEP_PADDING=1 is set"),
    TrainingMask(Span("2025.7.2", "2026.10.3")),
    TrainingMask(
        Span("2026.10.4"),
        "model.model._unsloth_keep_padding_mask is set (its RL trainers do), or there are no labels and the batch is "
        "left-padded",
        "_unsloth_keep_padding_mask",
    ),
)


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that changes which attention runs. does: a clause with {value}."""

    name: str
    span: Span
    does: str


#: Read at import or in each call. None of them switches flash-attn off.
VARIABLES = (
    Variable("UNSLOTH_KEEP_PADDING", Span("2025.6.6", "2025.7.1"), "1 keeps the attention_mask in training"),
    Variable("UNSLOTH_ENABLE_FLEX_ATTENTION", Span("2026.2.1"), "0 keeps the compiled route off flex_attention"),
    Variable("UNSLOTH_SDPA_PACKED_SEGMENTS", Span("2026.10.1"), "0 hands packed rows to SDPA with one dense mask"),
    Variable("UNSLOTH_TORCH_VARLEN", Span("2026.10.4"), "0 keeps packed rows off torch's variable-length kernel"),
    Variable("UNSLOTH_GEMMA2_FLASH_DECODE", Span("2026.9.12"), "0 decodes Gemma 2 without flash-attn"),
    Variable("UNSLOTH_PADDING_CHOICE", Span("2026.10.9"), "padded or padding_free decides how its trainer batches"),
    Variable("UNSLOTH_SDPA_CUDNN_BUCKET", Span("2026.10.9"), "pads sequences for SDPA's cuDNN kernel; 0 does not"),
    Variable("UNSLOTH_SDPA_TRAIN_CUDNN", Span("2026.10.9"), "1 lets training on sm_100 use SDPA's cuDNN kernel"),
    Variable(
        "UNSLOTH_SDPA_DECODE_CUDNN", Span("2026.10.9"), "1 lets decoding on sm_90 and sm_100 use SDPA's cuDNN kernel"
    ),
    Variable(
        "UNSLOTH_FLASH_ATTENTION_IMPL",
        Span("2026.10.4"),
        "fa3, fa4 or off decides which flash kernel torch has in its trainer",
    ),
)

#: What releases ask of transformers (their own metadata); those between two rows were not read.
TRANSFORMERS = (
    (Span("2026.10.1"), ">=4.52.4,<=5.17.0,!=4.53.0,!=4.54.0,!=4.55.0,!=4.55.1,!=4.57.0,!=5.0.0,!=5.1.0"),
    (Span("2026.4.8", "2026.9.14"), ">=4.51.3,<=5.5.0,!=4.53.0,!=4.54.0,!=4.55.0,!=4.55.1,!=4.57.0,!=5.0.0,!=5.1.0"),
    (Span("2026.1.4", "2026.2.1"), ">=4.51.3,<=4.57.6,!=4.53.0,!=4.54.0,!=4.55.0,!=4.55.1,!=4.57.0"),
    (Span("2025.12.1", "2026.1.1"), ">=4.51.3,<=4.57.3,!=4.53.0,!=4.54.0,!=4.55.0,!=4.55.1,!=4.57.0"),
    (Span("2025.11.6", "2025.11.6"), ">=4.51.3,<=4.57.2,!=4.53.0,!=4.54.0,!=4.55.0,!=4.55.1,!=4.57.0"),
    (Span("2025.9.11", "2025.9.11"), ">=4.51.3,<=4.56.2,!=4.53.0,!=4.54.0,!=4.55.0,!=4.55.1"),
    (Span("2025.7.3", "2025.9.1"), ">=4.51.3,!=4.53.0"),
    (Span("2025.5.9", "2025.7.2"), ">=4.51.3"),
    (Span("2024.12.9", "2025.3.19"), ">=4.46.1,!=4.47.0"),
)


def transformers_for(version: str) -> str:
    """What a release asks of transformers, in pip's words; "" where that was not read."""
    return next((wanted for span, wanted in TRANSFORMERS if span.holds(version)), "")


def fast_type(model_type: str, version: str) -> FastType | None:
    """The row of a model type with a fast path in that release; None for the compiled route."""
    return next((row for row in FAST_TYPES if row.model_type == model_type and row.span.holds(version)), None)


def training_mask(version: str) -> TrainingMask:
    """What becomes of a mask in training. Releases before the first row are taken to follow it."""
    return next((row for row in TRAINING_MASKS if row.span.holds(version)), TRAINING_MASKS[0])
