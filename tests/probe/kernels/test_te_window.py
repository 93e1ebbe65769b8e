"""The window incident measured on kernels in plain torch: numbers, exact cells, and every way it can go differently."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from attncheck.backends.interface import Backend
from attncheck.probe.kernels import te_window
from attncheck.semantics.incident import WindowIncident
from attncheck.semantics.observation import Crashed, Rejected
from tests.plugins import window_kernels
from tests.plugins.window_kernels import backend, exclusive

WINDOW, TOKENS = 16, 72
SETTING = {
    "batch": 2,
    "length": TOKENS,
    "heads": 3,
    "head_dim": 16,
    "dtype": "float16",
    "scale": 1.0,
    "device": "cpu",
    "seed": 0,
    "window": WINDOW,
    "first": "flash-attn-2",
    "second": "cudnn-graph",
}
_NUMBERS = itertools.count()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a step on the kernels of a backend, which stand in a module of this test's own."""

    def run(given: Backend, step: str = te_window.PAIR, **changes: Any) -> Any:
        module = ModuleType(f"kernels_{next(_NUMBERS)}")  # an API is loaded once for each module name
        module.BACKEND = given  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return te_window.run(step, {**SETTING, **changes, "plugins": (module.__name__,)})

    return run


def test_the_same_number_hides_one_key_and_the_next_number_shows_it(measured: Callable[..., Any]) -> None:
    found = measured(backend())
    assert isinstance(found, WindowIncident)
    assert found.before > 0.5 > 0.01 > found.after
    assert found.usual_before > 0.05 > 0.001 > found.usual_after
    assert found.before > found.usual_before
    assert (found.cells, found.distance, found.first_query, found.cells_after) == (TOKENS - WINDOW, WINDOW, WINDOW, 0)
    assert found.exact is True
    assert found.heads_agree is True
    assert found.reproduced
    assert found.keys == {"flash-attn-2": WINDOW + 1, "cudnn-graph": WINDOW}
    assert "batch 2, 72 tokens, 3 heads, head_dim 16, float16, softmax_scale 1.0" in found.shape


@pytest.mark.parametrize("window", [1, 5, TOKENS - 1])
def test_every_window_moves_the_cells_with_it(measured: Callable[..., Any], window: int) -> None:
    found = measured(backend(), window=window)
    assert (found.distance, found.first_query, found.cells) == (window, window, TOKENS - window)
    assert found.exact is True


def test_kernels_that_agree_are_no_incident(measured: Callable[..., Any]) -> None:
    found = measured(backend(exclusive(extra=1)))
    assert (found.cells, found.before, found.distance, found.first_query) == (0, 0.0, None, None)
    assert found.cells_after == TOKENS - WINDOW - 1
    assert not found.reproduced


def test_a_further_cell_is_not_what_was_published(measured: Callable[..., Any]) -> None:
    def without_one(keep: Tensor) -> Tensor:
        changed = keep.clone()
        changed[40, 38] = False
        return changed

    found = measured(backend(exclusive(without_one)))
    assert found.cells == TOKENS - WINDOW + 1
    assert found.exact is False
    assert found.distance is None
    assert found.cells_after == 1
    assert not found.reproduced


def test_a_row_less_is_not_what_was_published(measured: Callable[..., Any]) -> None:
    def with_one(keep: Tensor) -> Tensor:
        changed = keep.clone()
        changed[TOKENS - 1, TOKENS - 1 - WINDOW] = True
        return changed

    found = measured(backend(exclusive(with_one)))
    assert (found.distance, found.cells) == (WINDOW, TOKENS - WINDOW - 1)
    assert found.exact is False


def test_a_head_of_its_own_is_told(measured: Callable[..., Any]) -> None:
    def last_head_wider(keep: Tensor) -> Tensor:
        changed = keep.expand(3, *keep.shape).clone()
        changed[2, 50, 0] = True
        return changed

    found = measured(backend(exclusive(last_head_wider)))
    assert found.heads_agree is False
    assert found.exact is True  # of the first head


def test_masks_are_read_where_no_weight_underflows() -> None:
    """At the published scale many visible keys have weight 0 in float16: read there, the mask would lose them."""
    one = te_window.subject("flash-attn-2", {**SETTING, "plugins": (window_kernels.__name__,)})
    inputs = te_window.made(one, {**SETTING, "head_dim": 64})
    flat, _ = te_window.visible(te_window.asked(one, WINDOW, inputs.usual * te_window.FLAT), inputs)
    steep, _ = te_window.visible(te_window.asked(one, WINDOW, 1.0), inputs)
    expected = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril().triu(-WINDOW)
    assert torch.equal(flat, expected)
    assert int(steep.sum()) < int(expected.sum())


def test_every_step_feeds_the_same_values() -> None:
    arguments = {**SETTING, "plugins": (window_kernels.__name__,)}
    one = te_window.subject("flash-attn-2", arguments)
    first, second = (te_window.made(one, arguments) for _ in range(2))
    assert torch.equal(first.query, second.query)
    assert not torch.equal(first.query, first.key)


def test_nan_is_a_result(measured: Callable[..., Any]) -> None:
    def poisoned(q: Tensor, k: Tensor, v: Tensor, **arguments: Any) -> Tensor:
        output = exclusive()(q, k, v, **arguments)
        output[0, 0, 5] = float("nan")
        return output

    found = measured(backend(poisoned))
    assert isinstance(found, Crashed)
    assert found.reason == f"cudnn-graph gave NaN or Inf in 1 of {2 * TOKENS} rows"


def test_a_refusal_and_a_slip_are_results(measured: Callable[..., Any]) -> None:
    def refusing(*_: Any, **__: Any) -> Tensor:
        raise NotImplementedError("cuDNN declines sdpa: no engine. Upgrade")

    found = measured(backend(refusing))
    assert isinstance(found, Rejected)
    assert found.reasons[0].text == "cuDNN declines sdpa: no engine"

    def slipping(*_: Any, **__: Any) -> Tensor:
        raise AttributeError("slip")

    with pytest.raises(AttributeError):  # the worker makes `Crashed` of it
        measured(backend(slipping))


def test_further_apis_are_compared_by_what_they_left(measured: Callable[..., Any], tmp_path: Any) -> None:
    def louder(*args: Any, **kwargs: Any) -> Tensor:
        return window_kernels.inclusive(*args, **kwargs) + 0.5

    kernels = backend(None, te_flash=window_kernels.inclusive, te_fused=louder)
    for name in ("te-flash", "te-fused"):
        assert isinstance(measured(kernels, name, folder=str(tmp_path)), str)
    pairs = measured(kernels, te_window.OTHERS, folder=str(tmp_path))
    assert list(pairs) == ["te-flash - te-fused"]
    assert pairs["te-flash - te-fused"] == pytest.approx(0.5, abs=0.01)
