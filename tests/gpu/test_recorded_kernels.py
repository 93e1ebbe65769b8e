"""What single kernels did on the H100: a wrong backward at one head size, rare sizes, the windows of FlashInfer."""

from attncheck.render.kernels import rows
from tests.gpu.reports import stored, wire


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


def test_a_window_of_32768_at_its_true_size() -> None:
    shapes = {(shape["api"], shape["variant"]): shape for shape in wire("ministral")["shapes"]}
    told = {api: shape for (api, variant), shape in shapes.items() if not variant}
    assert {shape["shape"]["window"][0] for shape in told.values()} == {32767}
    assert told.pop("sdpa-flash")["outcome"] == "refused"
    assert set(told) >= {"sdpa-cudnn", "flash-attn-2", "flash-attn-4-varlen", "flex_attention"}
    for shape in told.values():
        assert shape["kv_len"] > 32768
        assert (shape["mask_ok"], shape["heads_ok"], shape["backward"]) == (True, True, "read")


def test_flex_attention_is_read_uncompiled_and_its_true_size_compiled() -> None:
    found = wire("ministral")
    (compiled,) = (shape["launched"] for shape in found["shapes"] if shape["api"] == "flex_attention")
    assert compiled.startswith("triton_tem_fused")
    kernels = [row for row in rows(stored("ministral")) if row[0] == "flex_attention"]
    assert [(way, "gemm" in name) for _, way, name in kernels] == [("uncompiled", True)]


def test_values_that_are_narrower_than_their_keys() -> None:
    """DeepSeek-V3: transformers pads the values for flash attention, SDPA takes both widths."""
    found = wire("deepseek_v3")
    read_there = {shape["api"]: shape["shape"] for shape in found["shapes"] if shape["outcome"] == "read"}
    assert {(shape["head_dim"], shape["head_dim_v"]) for shape in read_there.values()} == {(192, 128), (192, 192)}
    assert all(read_there[api]["head_dim_v"] == 192 for api in ("flash-attn-2", "flash-attn-4"))
    assert read_there["sdpa-cudnn"]["head_dim_v"] == 128
    assert all(shape["mask_ok"] for shape in found["shapes"] if shape["outcome"] == "read")
    (note,) = (finding for finding in found["findings"] if finding["severity"] == "note")
    assert (note["slug"], note["kernel"]) == ("shape-unsupported", "flash-attn-2")
