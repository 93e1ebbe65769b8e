"""Keeps every random generator that a probe may draw from as it was, and seeds them where runs must be alike."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_CPU = torch.device("cpu")


@contextmanager
def random_state_kept(device: torch.device = _CPU) -> Iterator[None]:
    """Put the random states of Python, numpy, torch's CPU and this device back as they were."""
    python, arrays, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)


def seed_library_generators(seed: int) -> None:
    """Seed Python's and numpy's generators, from which big_bird and reformer draw in forward."""
    random.seed(seed)
    np.random.seed(seed)
