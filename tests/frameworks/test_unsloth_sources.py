"""Unsloth's tables against the released wheels: every rule is there at both ends of its row, and beyond them not.

`beyond`: the releases right before and after a row that were published. Nothing is imported. Releases of 2026 are
large (30 to 70 MB each), so rows that end there are `slow`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from attncheck.frameworks import unsloth_history as history
from attncheck.frameworks.unsloth_defects import DEFECTS
from attncheck.frameworks.unsloth_history import LLAMA, MISTRAL, NEWEST, Span
from tests.frameworks.unsloth_wheels import Source, source
from tests.legacy.environments import CACHE_VARIABLE

LOADER, VISION, DISPATCH = "models/loader.py", "models/vision.py", "utils/attention_dispatch.py"
ATTENTION = {
    "llama": (LLAMA, "LlamaAttention_fast_forward"),
    "mistral": (MISTRAL, "MistralAttention_fast_forward"),
    "qwen3": ("models/qwen3.py", "Qwen3Attention_fast_forward"),
    "gemma2": ("models/gemma2.py", "Gemma2Attention_fast_forward"),
}


@dataclass(frozen=True)
class Rule:
    """One row and what shows it in a source. beyond: releases just outside of it."""

    name: str
    span: Span
    there: Callable[[Source], bool]
    beyond: tuple[str, ...] = ()


def attention(family: str) -> Callable[[Source], str]:
    return lambda one: one.function(*ATTENTION[family])


def model(one: Source) -> str:
    return one.function(LLAMA, "LlamaModel_fast_forward")


def fast(model_type: str) -> Callable[[Source], bool]:
    """The loader has a branch of its own for the type (llama's stands first, or is a comparison of its own)."""
    pattern = rf'^\s*(el)?if (not )?model_type == "{model_type}"'
    return lambda one: bool(re.search(pattern, one.text(LOADER), re.M))


def bidirectional(family: str) -> Callable[[Source], bool]:
    """SDPA without a mask and without causality can be reached: no dispatcher, is_causal fixed, xformers optional."""

    def there(one: Source) -> bool:
        body = " ".join(attention(family)(one).split())
        optional = "not HAS_FLASH_ATTENTION and HAS_XFORMERS" in body
        guarded = "if attention_mask is None and Q_len == K_len" in body
        return "run_attention(" not in body and "is_causal = False" in body and optional and not guarded

    return there


def plus_one(family: str) -> Callable[[Source], bool]:
    return lambda one: bool(re.search(r"\((sw, sw|sliding_window, sliding_window)\)", attention(family)(one)))


def no_window(family: str) -> Callable[[Source], bool]:
    return lambda one: (
        bool(body := attention(family)(one)) and "sliding_window" not in body and "sw" not in body.split()
    )


def dispatched_without_window(one: Source) -> bool:
    body = attention("mistral")(one)
    return "run_attention(" in body and "sliding_window = None if" not in body


def windowed_by_model_mask(one: Source) -> bool:
    body = model(one)
    return "_prepare_4d_causal_attention_mask_for_sdpa(" in body and 'getattr(self.config, "sliding_window"' in body


HONOURS = re.compile(r'attn_implementation" in kwargs|requested_attn_implementation = kwargs')
DROPS = re.compile(r"elif self\.training:\s*\n(\s*#.*\n)*\s*attention_mask = None")
RULES = (
    Rule("fast-qwen3", history.FAST_TYPES[5].span, fast("qwen3"), ("2025.4.1",)),
    Rule("fast-falcon_h1", history.FAST_TYPES[6].span, fast("falcon_h1"), ("2025.6.8", "2025.7.5")),
    *(Rule(f"fast-{name}", Span(), fast(name)) for name in ("mistral", "qwen2", "gemma", "gemma2")),
    *(
        Rule(
            f"delegates-{name}", span,
            lambda one: "if load_in_8bit or full_finetuning" in one.text(LOADER), ("2025.3.9",),
        )
        for name, span in history.DELEGATING[:2]
    ),
    Rule(
        "delegates-qat", history.DELEGATING[2][1],
        lambda one: "full_finetuning or qat_scheme is not None" in one.text(LOADER), ("2025.9.2",),
    ),
    Rule(
        "honours-implementation", history.HONOURS_IMPLEMENTATION,
        lambda one: bool(HONOURS.search(one.text(VISION))),
        ("2025.3.19",),
    ),
    Rule("dispatcher", history.DISPATCHER, lambda one: bool(one.text(DISPATCH)), ("2025.12.1",)),
    Rule(
        "causal-field", history.CAUSAL_FIELD,
        lambda one: "is_causal: bool = True" in one.text(DISPATCH), ("2026.9.14",),
    ),
    Rule(
        "mistral-needs-xformers", history.MISTRAL_NEEDS_XFORMERS,
        lambda one: "HAS_XFORMERS" not in one.function(MISTRAL, "MistralForCausalLM_fast_forward")
        and "HAS_XFORMERS" in attention("llama")(one),
        ("2025.1.8", "2025.7.2"),
    ),
    Rule("drops-1", history.TRAINING_MASKS[0].span, lambda one: bool(DROPS.search(model(one))), ("2025.6.6",)),
    Rule(
        "drops-2", history.TRAINING_MASKS[1].span,
        lambda one: 'elif self.training and os.environ.get("UNSLOTH_KEEP_PADDING", "0") != \'1\'' in model(one),
        ("2025.6.5", "2025.7.2"),
    ),
    Rule(
        "drops-3", history.TRAINING_MASKS[2].span,
        lambda one: bool(DROPS.search(model(one))), ("2025.7.1", "2026.10.4"),
    ),
    Rule(
        "drops-4", history.TRAINING_MASKS[3].span,
        lambda one: "_unsloth_keep_padding_mask" in model(one) and "_is_left_padded(attention_mask)" in model(one),
        ("2026.10.3",),
    ),
)  # fmt: skip

#: By name of the defect: what shows it, and the releases beyond its row.
SHOWN: dict[str, tuple[Callable[[Source], bool], tuple[str, ...]]] = {
    "bidirectional-llama": (bidirectional("llama"), ("2025.1.8", "2025.7.2")),
    "bidirectional-qwen3": (bidirectional("qwen3"), ("2025.7.1", "2025.8.10")),
    "bidirectional-mistral": (bidirectional("mistral"), ("2025.7.1", "2025.12.4")),
    "window-plus-one": (plus_one("mistral"), ("2026.10.4",)),
    "window-plus-one-gemma2": (plus_one("gemma2"), ("2026.10.6",)),
    "window-ignored-mistral-sdpa": (dispatched_without_window, ("2025.12.1", "2026.8.10")),
    "window-ignored": (no_window("llama"), ()),
    "window-ignored-qwen3": (
        lambda one: no_window("qwen3")(one) and "run_attention(" in attention("qwen3")(one), ("2025.12.1",),
    ),
    "window-by-mask": (windowed_by_model_mask, ()),
    "mask-window-plus-one": (
        lambda one: windowed_by_model_mask(one) and "sliding_window = band" not in model(one), ("2026.10.7",),
    ),
    "packed-unknown": (lambda one: "get_packed_info_from_kwargs" not in one.text(LLAMA), ("2025.12.4",)),
    "packed-window": (
        lambda one: "window_size == (-1, -1)" in attention("mistral")(one).partition("backend =")[0],
        ("2025.12.1", "2026.10.4"),
    ),
    "packed-positions": (
        lambda one: "get_packed_info_from_kwargs" in one.text(LLAMA) and "get_packed_info" not in model(one),
        ("2025.12.1", "2026.10.8"),
    ),
}  # fmt: skip

VARIABLE_BEYOND = {
    "UNSLOTH_KEEP_PADDING": ("2025.6.5", "2025.7.2"),
    "UNSLOTH_SDPA_PACKED_SEGMENTS": ("2026.9.14",),
    "UNSLOTH_TORCH_VARLEN": ("2026.10.3",),
    "UNSLOTH_GEMMA2_FLASH_DECODE": ("2026.9.11",),
    "UNSLOTH_PADDING_CHOICE": ("2026.10.8",),
    "UNSLOTH_SDPA_CUDNN_BUCKET": ("2026.10.8",),
    "UNSLOTH_SDPA_TRAIN_CUDNN": ("2026.10.8",),
    "UNSLOTH_SDPA_DECODE_CUDNN": ("2026.10.8",),
    "UNSLOTH_FLASH_ATTENTION_IMPL": ("2026.10.3",),
}


@pytest.fixture(scope="session")
def releases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    cache = getattr(request.config, "cache", None)
    return Path(cache.mkdir("legacy")) if cache is not None else tmp_path_factory.getbasetemp().parent / "legacy"


def rules() -> Iterator[Rule]:
    yield from RULES
    for defect in DEFECTS:
        there, beyond = SHOWN[defect.name]
        yield Rule(defect.name, defect.span, there, beyond)
    for variable in history.VARIABLES:
        name = variable.name
        yield Rule(name, variable.span, lambda one, n=name: one.anywhere(n), VARIABLE_BEYOND.get(name, ()))  # type: ignore[misc]


def ends() -> Iterator[pytest.param]:  # type: ignore[valid-type]
    """(rule, release, whether it is there) for both ends and beyond them."""
    for rule in rules():
        inside = dict.fromkeys((rule.span.first, rule.span.last or NEWEST))
        for version, there in (*((v, True) for v in inside), *((v, False) for v in rule.beyond)):
            marks = [pytest.mark.slow] if version.startswith("2026") else []
            yield pytest.param(rule, version, there, id=f"{rule.name}-{version}", marks=marks)


@pytest.mark.legacy
@pytest.mark.parametrize(("rule", "version", "there"), list(ends()))
def test_a_rule_is_in_the_sources_of_its_releases_and_no_others(
    rule: Rule, version: str, there: bool, releases: Path
) -> None:
    assert rule.there(source(version, releases)) is there
    assert rule.span.holds(version) is there


@pytest.mark.legacy
@pytest.mark.parametrize("version", ["2024.12.9", "2025.3.19", "2025.9.11", "2025.11.6", "2025.12.1"])
def test_the_required_transformers_is_that_of_the_metadata(version: str, releases: Path) -> None:
    said = SpecifierSet(source(version, releases).requires.removeprefix("Requires-Dist: transformers").strip(" ()"))
    ours = SpecifierSet(history.transformers_for(version))
    for candidate in (
        "4.46.1",
        "4.47.0",
        "4.51.3",
        "4.53.0",
        "4.56.2",
        "4.57.2",
        "4.57.3",
        "5.0.0",
        "5.17.0",
        "5.18.0",
    ):
        assert (candidate in ours) is (candidate in said), candidate


def test_every_defect_has_something_that_shows_it() -> None:
    assert set(SHOWN) == {defect.name for defect in DEFECTS}
    assert len({rule.name for rule in rules()}) == len(list(rules()))
