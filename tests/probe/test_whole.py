"""The tiny model whole: every tower in it, heads as wide as asked for, the original format's language model."""

from __future__ import annotations

from typing import Any

import pytest

from attncheck.declared import catalog
from attncheck.probe.tiny import whole as module
from attncheck.probe.tiny.target import NoModelClass
from attncheck.probe.tiny.whole import whole
from attncheck.semantics.spec import Part
from attncheck.semantics.sub_models import Asked

LLAVA = {"model_type": "llava"}


def built(config: dict[str, Any], **widths: int) -> tuple[Any, Any]:
    made = whole(config, widths)
    return made, made.build(Asked(""), "float32", "cpu")


def test_the_towers_of_a_composite_and_their_heads() -> None:
    made, model = built(LLAVA, text_config=128, vision_config=64)
    tower, text = made.members(model)
    assert (tower.key, tower.title, tower.part, tower.path) == (
        "vision_config", "vision tower", Part.VISION, "model.vision_tower",
    )  # fmt: skip
    assert tower.plain
    assert (text.key, text.title, text.part) == ("text_config", "language model", Part.DECODER)
    assert not text.plain
    assert tower.config.hidden_size // tower.config.num_attention_heads == 64
    assert tower.config.image_size == 4 * tower.config.patch_size
    assert text.config.head_dim == 128


def test_weights_are_the_same_under_every_implementation() -> None:
    made = whole(LLAVA)
    first = made.build(Asked("", "eager"), "float32", "cpu").state_dict()
    second = made.build(Asked("", "sdpa"), "float32", "cpu").state_dict()
    assert first.keys() == second.keys()
    assert all(bool((value == second[name]).all()) for name, value in first.items())


def test_a_model_without_towers_is_one_member() -> None:
    made, model = built({"model_type": "qwen2"}, text_config=32)
    (member,) = made.members(model)
    assert (member.key, member.title, member.module) == ("", "model", model)


@pytest.mark.parametrize(
    ("name", "model_class"),
    [
        ("liuhaotian/llava-v1.5-7b", "LlamaForCausalLM"),
        ("lmms-lab/llava-onevision-qwen2-7b-ov", "Qwen2ForCausalLM"),
    ],
)
def test_the_original_format_is_built_as_its_language_model(name: str, model_class: str) -> None:
    entry = catalog.lookup(name)
    assert entry is not None
    made, model = built(dict(entry.config))
    assert type(model).__name__ == model_class
    assert [member.title for member in made.members(model)] == ["language model"]


def test_an_original_file_without_a_class_is_not_guessed() -> None:
    with pytest.raises(NoModelClass, match="names no class"):
        whole({"model_type": "llava", "mm_vision_tower": "x", "hidden_size": 64})


def test_a_tower_by_itself() -> None:
    made, model = built({"model_type": "clip_vision_model"})
    (member,) = made.members(model)
    assert (member.title, member.part, member.plain) == ("vision tower", Part.VISION, True)


def test_what_is_too_large_is_not_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(MemoryError, match="would still take"):
        whole(LLAVA).build(Asked(""), "float32", "cpu")
