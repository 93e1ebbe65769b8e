"""The TransformerEngine incident on a real GPU: numbers before and after, and the exact keys."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(find_spec("flash_attn") is None, reason="needs flash-attn"),
    pytest.mark.skipif(find_spec("cudnn") is None, reason="needs nvidia-cudnn-frontend"),
]

ROOT = Path(__file__).parents[2]


def incident(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "attncheck", "doctor", "--reproduce", "te-window", *arguments, "--format", "json"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(process.stdout)["incident"]
    return found


def test_the_published_window() -> None:
    found = incident()
    assert found["before"] > 1
    assert found["after"] < 0.05
    assert found["usual_before"] > 10 * found["usual_after"]
    assert (found["cells"], found["distance"], found["first_query"]) == (1024, 1024, 1024)
    assert found["cells_after"] == 0
    assert found["exact"] is found["heads_agree"] is found["reproduced"] is True
    assert found["keys"] == {"flash-attn-2": 1025, "cudnn-graph": 1024}
    assert "flash" in found["kernels"]["flash-attn-2"]
    if find_spec("transformer_engine") is not None:
        assert found["others"]["te-flash - te-fused"] < 0.05


def test_another_window() -> None:
    found = incident("--window", "512")
    assert (found["cells"], found["distance"], found["first_query"]) == (2048 - 512, 512, 512)
    assert found["exact"] is True
