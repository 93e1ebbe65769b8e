"""The masks that attncheck feeds for LLaMA-Factory are those that its own functions make, number by number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.legacy import environments

pytestmark = pytest.mark.legacy
HERE = Path(__file__).parent

_FOUR = """
import torch
from real_llama_factory import bare_packages, collator_module
from attncheck.probe.feeding import same_document
from attncheck.probe.scenarios.neat_packing import padded
from attncheck.semantics.layout import PAD, Layout

bare_packages()
row = padded(4, 3)
layout = Layout((row,), ((0, len(row)),))
index = torch.tensor([[document + 1 for document in row.document]])
real = collator_module().prepare_4d_attention_mask(index, torch.float32)
keep = same_document(layout, "cpu")
ours = torch.zeros(keep.shape).masked_fill(~keep, torch.finfo(torch.float32).min)
assert real.shape == ours.shape == (1, 1, len(row), len(row)), (real.shape, ours.shape)
assert torch.equal(real, ours)
assert index[0, -1] == 0 and PAD == -1
"""

_UNPAD = """
import importlib
import torch
from real_llama_factory import bare_packages
from attncheck.probe.flash.index_mask import unpad_data

bare_packages()
packing = importlib.import_module("llamafactory.model.model_utils.packing")
index = torch.tensor([[1, 1, 2, 2, 2, 0], [1, 2, 2, 3, 3, 3]])
for mask in (index, index.to(torch.int32), index.bool(), index[:1]):
    real, ours = packing.get_unpad_data(mask), unpad_data(mask)
    assert all(torch.equal(a, b) for a, b in zip(real[:2], ours[:2])), (real, ours)
    assert real[2] == ours[2]
    assert real[1].dtype == ours[1].dtype
"""


@pytest.fixture(scope="module")
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = getattr(request.config, "cache", None)
    return Path(cache.mkdir("legacy")) if cache is not None else tmp_path_factory.getbasetemp().parent / "legacy"


@pytest.mark.parametrize("code", [_FOUR, _UNPAD], ids=["4d-mask", "unpadding"])
def test_the_same_numbers_as_the_real_function(code: str, root: Path) -> None:
    path = (environments._folder(root, ("llamafactory==0.9.5",), True), HERE)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=dict(environments.variables(path)),
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
