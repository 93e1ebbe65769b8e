"""Tiny live models for tests of `verify`, and batches to feed them."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch

from attncheck.probe.tiny.build import TinyModel, build
from tests import faults


@functools.cache
def built(model_type: str, **changes: Any) -> TinyModel:
    """The tiny model of a type; changes: config keys."""
    found = build({"model_type": model_type, **changes})
    assert isinstance(found, TinyModel), found
    return found


def model(model_type: str = "mistral", implementation: str = "sdpa", **changes: Any) -> Any:
    """A fresh model in eval mode; `planted` is the function of `tests/faults.py`."""
    if implementation == faults.NAME:
        faults.install()
    return copy.deepcopy(built(model_type, **changes).instantiate(implementation)).eval()


def tokens(rows: int = 2, length: int = 40) -> torch.Tensor:
    """Token ids that every tiny vocabulary has."""
    return torch.randint(64, 120, (rows, length), generator=torch.Generator().manual_seed(1))


def padded(rows: int = 2, length: int = 40, *, left: int = 0, right: int = 7) -> dict[str, torch.Tensor]:
    """A batch whose last row is padded."""
    ids = tokens(rows, length)
    mask = torch.ones_like(ids)
    mask[-1, :left] = 0
    mask[-1, length - right :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def packed(*lengths: int) -> dict[str, Any]:
    """Documents in one row, told apart by their positions."""
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return {"input_ids": tokens(1, sum(lengths)), "position_ids": positions, "use_cache": False}


def slugs(report: Any) -> set[str]:
    """What a report finds, notes apart."""
    return {finding.slug for finding in report.findings if finding.severity.value != "note"}


def verdicts(report: Any, scenario: str) -> set[str]:
    """The verdicts of a scenario."""
    return {cell.verdict.value for cell in report.matrix if cell.scenario == scenario}
