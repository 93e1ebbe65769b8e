"""What single kernels did on the H100: a backward that is wrong at one head size, and FlashInfer's windows."""

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"


def wire(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return loaded


def test_flash_attn_4_loses_gradients_at_the_head_size_of_phi_2() -> None:
    found = wire("phi2_flash_4")
    sizes = {shape["api"]: shape["kernel"] for shape in found["shapes"]}
    assert all(shape["shape"]["head_dim"] == 80 for shape in found["shapes"])
    for api in ("flash-attn-4", "flash-attn-4-varlen"):
        assert sizes[api]["dq"] > 1
        assert max(sizes[api][name] for name in ("output", "dk", "dv")) < 0.01
    for api in ("flash-attn-2", "flash-attn-2-varlen"):
        assert max(sizes[api].values()) < 0.01
    (wrong,) = (finding for finding in found["findings"] if finding["slug"] == "gradient-mismatch")
    assert (wrong["implementation"], wrong["kernel"]) == ("flash_attention_4", "flash-attn-4")
    (fix,) = wrong["recommendations"]
    assert fix["settings"]["transformers"]["attn_implementation"] == '"flash_attention_2"'


def test_flashinfer_ran_and_its_window_is_that_of_flash_attention() -> None:
    rows = wire("flashinfer")["conventions"]
    assert {row["api"] for row in rows} == {"flashinfer"}
    assert all(row["outcome"] == "read" and row["agrees"] for row in rows)
    assert all(row["kernel"] == "flashinfer::PrefillWithKVCacheKernel" for row in rows)
    keys = {row["call"]: row["keys"] for row in rows if row["question"] == "window"}
    assert keys == {"causal=True, window_left=7": 8, "causal=True, window_left=8": 9, "window_left=8": None}
    unequal = {row["alignment"] for row in rows if row["q_len"] != row["kv_len"]}
    assert unequal == {"bottom-right"}
    (empty,) = {row["empty_rows"] for row in rows if row["q_len"] > row["kv_len"] and row["right"] == 0}
    assert empty == 32
