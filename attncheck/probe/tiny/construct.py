"""Constructs a model from a config as the library would, with seeded weights, and copies of it that share them."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from attncheck.probe.tiny import library

#: Seed of the weights; any fixed number does.
SEED = 0
#: Standard deviation of weights that the library left as it found the memory: its usual `initializer_range`.
_STD = 0.02


def construct(config_class: Any, model_class: Any, raw: Mapping[str, Any], implementation: str, dtype: str) -> Any:
    """The model with seeded weights; every RNG that construction may draw from is put back.

    Weights that the library forgets to initialize (experts of some mixtures) are drawn too: what the memory happens to
    hold would make the model usable in one run and not in the next.
    """
    with seeded(), _empty_is_nan():
        model = _construct(config_class, model_class, raw, implementation, dtype)
        _draw_forgotten(model)
    return model


def _construct(config_class: Any, model_class: Any, raw: Mapping[str, Any], implementation: str, dtype: str) -> Any:
    import torch

    config = library.make_config(config_class, {**raw, "attn_implementation": implementation})
    precision = getattr(torch, dtype)
    # The name of the dtype argument, and whether the implementation may be passed beside the config, changed over time.
    spellings: tuple[dict[str, Any], ...] = (
        {"dtype": precision, "attn_implementation": implementation},
        {"torch_dtype": precision, "attn_implementation": implementation},
        {"torch_dtype": precision},
    )
    for arguments in spellings[:-1]:
        try:
            return model_class._from_config(config, **arguments)
        except TypeError as error:
            if not any(f"'{name}'" in str(error) for name in arguments):
                raise
    return model_class._from_config(config, **spellings[-1])


@contextlib.contextmanager
def _empty_is_nan() -> Iterator[None]:
    """Memory that torch hands out uninitialized holds NaN, where this torch can do that (2.2 and later)."""
    import torch

    if not hasattr(torch.utils, "deterministic"):
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled


def _draw_forgotten(model: Any) -> None:
    import torch

    with torch.no_grad():
        for tensor in itertools.chain(model.parameters(), model.buffers()):
            if tensor.is_floating_point() and not tensor.is_meta and bool(tensor.isnan().any()):
                tensor.normal_(std=_STD)


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Seeds the generators of torch (CPU: CUDA's are not drawn from), Python and numpy; restores them after."""
    import torch

    from attncheck.probe.randomness import random_state_kept, seed_library_generators

    dtype = torch.get_default_dtype()
    with random_state_kept():
        torch.random.default_generator.manual_seed(SEED)
        seed_library_generators(SEED)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def share(model: Any) -> Any:
    """A copy of the module structure and its configs over the same weights and buffers."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = tensor
    return copy.deepcopy(model, memo)
