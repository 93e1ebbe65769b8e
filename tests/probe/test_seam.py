"""Every attention function a model may reach is replaced, and put back whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attncheck.probe.reading.seam import replaced


@pytest.fixture
def modeling_file() -> Iterator[ModuleType]:
    """A modeling file of its own: two eager functions, a mapping with a local entry, a base class defined elsewhere."""
    base, file = ModuleType("invented_base"), ModuleType("invented_modeling")
    base.eager_attention_forward = lambda *args: "base eager"  # type: ignore[attr-defined]
    file.eager_attention_forward = lambda *args: "eager"  # type: ignore[attr-defined]
    file.vision_eager_attention_forward = lambda *args: "vision eager"  # type: ignore[attr-defined]
    file.ALL_ATTENTION_FUNCTIONS = AttentionInterface()  # type: ignore[attr-defined]
    file.ALL_ATTENTION_FUNCTIONS["local_flex"] = lambda *args: "local"  # type: ignore[attr-defined]
    sys.modules.update({"invented_base": base, "invented_modeling": file})
    yield file
    del sys.modules["invented_base"], sys.modules["invented_modeling"]


def model() -> Any:
    parent = type("Parent", (torch.nn.Module,), {"__module__": "invented_base"})
    return type("Model", (parent,), {"__module__": "invented_modeling"})()


def marked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: (name, function(*args))


def snapshot(file: ModuleType) -> tuple[Any, ...]:
    local = file.ALL_ATTENTION_FUNCTIONS._local_mapping
    eager = file.eager_attention_forward, file.vision_eager_attention_forward
    return (
        eager,
        sys.modules["invented_base"].eager_attention_forward,
        dict(AttentionInterface._global_mapping),
        dict(local),
    )


def test_global_local_eager_and_inherited_functions_are_replaced_under_their_own_names(
    modeling_file: ModuleType,
) -> None:
    before = snapshot(modeling_file)
    with replaced(model(), marked):
        assert modeling_file.eager_attention_forward() == ("eager", "eager")
        assert modeling_file.vision_eager_attention_forward() == ("eager", "vision eager")
        assert sys.modules["invented_base"].eager_attention_forward() == ("eager", "base eager")
        assert modeling_file.ALL_ATTENTION_FUNCTIONS["local_flex"]() == ("local_flex", "local")
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not before[2]["sdpa"]
        assert set(AttentionInterface._global_mapping) == set(before[2])
    assert snapshot(modeling_file) == before


def test_everything_is_put_back_when_the_body_or_the_replacement_itself_fails(modeling_file: ModuleType) -> None:
    before = snapshot(modeling_file)
    with pytest.raises(KeyError), replaced(model(), marked):
        raise KeyError("body")

    def stand_in(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if name == "eager":
            raise ValueError("replacement")
        return marked(name, function)

    with pytest.raises(ValueError, match="replacement"), replaced(model(), stand_in):
        pass
    assert snapshot(modeling_file) == before
