"""A hand-built report of a watched script, for tests of what reads it."""

from __future__ import annotations

from attncheck.checks import watched
from attncheck.live.script import summary
from attncheck.report import Report
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout, left_padded, sequence
from attncheck.semantics.observation import HeadMask
from attncheck.semantics.spec import Part
from attncheck.semantics.watched import Tokens, Watch, WatchedCall, WatchedModel, WatchedProcess
from tests.builders import ENVIRONMENT, causal

CONFIG = {
    "model_type": "mistral",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "sliding_window": 5,
}


def raw_call(**given: object) -> WatchedCall:
    """A call of torch's own function by a script: 4 queries on 10 keys, torch's top-left diagonal."""
    seen = HeadMask(0, (), KeepMask.from_rule(4, 10, lambda query, key: key <= query))
    usual = {
        "kernel": "flash",
        "where": "train.py:8 in forward",
        "module": "blocks.0",
        "module_class": "Block",
        "query": (1, 2, 4, 8),
        "key": (1, 2, 10, 8),
        "value": (1, 2, 10, 8),
        "q_len": 4,
        "kv_len": 10,
        "num_heads": 2,
        "dtype": "float32",
        "device": "cpu",
        "is_causal": True,
        "rows": (0,),
        "seen": (seen,),
        "asked": (seen,),
        "hidden_keys_used": True,
    }
    return WatchedCall("sdpa", "scaled_dot_product_attention", **{**usual, **given})  # type: ignore[arg-type]


def square(keep: KeepMask, **given: object) -> WatchedCall:
    """A call of as many queries as keys that lets them see `keep`."""
    size = keep.kv_len
    seen = (HeadMask(0, (), keep),)
    shape = (1, 2, size, 8)
    usual = {"query": shape, "key": shape, "value": shape, "q_len": size, "kv_len": size, "seen": seen, "asked": seen}
    return raw_call(**{"is_causal": False, "hidden_keys_used": None, **usual, **given})


def model_call(layer: int, keep: tuple[KeepMask, ...], layout: Layout, **given: object) -> WatchedCall:
    """A call of a layer of the model that `CONFIG` declares; keep: one mask a batch row."""
    size = keep[0].q_len
    shape = (len(keep), 4, size, 8)
    usual = {
        "api": "transformers",
        "function": "sdpa_attention_forward",
        "implementation": "sdpa",
        "configured": "sdpa",
        "kernel": "efficient",
        "where": "modeling_mistral.py:163 in forward",
        "module": f"model.layers.{layer}.self_attn",
        "module_class": "MistralAttention",
        "model": 0,
        "part": Part.DECODER,
        "layer": layer,
        "switched": True,
        "training": True,
        "query": shape,
        "key": shape,
        "value": shape,
        "q_len": size,
        "kv_len": keep[0].kv_len,
        "num_heads": 4,
        "dtype": "bfloat16",
        "device": "cuda",
        "mask_kind": "bool",
        "mask_hides": True,
        "is_causal": True,
        "window": "5",
        "rows": tuple(range(len(keep))),
        "seen": tuple(HeadMask(row, (), mask) for row, mask in enumerate(keep)),
        "tokens": Tokens(decoder=layout, known=True),
    }
    return WatchedCall(**{**usual, **given})  # type: ignore[arg-type]


def processes() -> tuple[WatchedProcess, ...]:
    """Two ranks: a right layer, one that forgot its window, a wrong call of torch's function, one that was not read."""
    layout = Layout((sequence(9), left_padded(9, 3)), ((0, 9),))
    padded = KeepMask.from_rule(9, 9, lambda query, key: query >= 3 and 3 <= key <= query and query - key < 5)
    forgot = KeepMask.from_rule(9, 9, lambda query, key: query >= 3 and 3 <= key <= query)
    calls = (
        model_call(0, (causal(9, 5), padded), layout),
        model_call(1, (causal(9), forgot), layout, launched="void fmha_cutlassF_bf16_aligned(Params)"),
        raw_call(),
        raw_call(where="cache.py:3 in decode", seen=(), asked=(), unread="a second call would change its cache"),
    )
    versions = {"torch": "2.11.0", "transformers": "5.17.0"}
    model = WatchedModel("MistralForCausalLM", CONFIG)
    return tuple(
        WatchedProcess(100 + rank, rank, "train.py", versions, (model,), calls, failures=("one failure",), ended=True)
        for rank in (0, 1)
    )


def watch_report(status: int | None = 3) -> Report:
    """What `attncheck run` says of them."""
    from dataclasses import replace

    found = watched.conclude(processes(), "attncheck run -- python train.py")
    watch: Watch = replace(summary(processes(), found.sites, 3), script="python train.py", status=status, compiled=2)
    return Report(
        command="run", version="0.1.0", environment=ENVIRONMENT, findings=found.findings, watch=watch, fail_on="never"
    )
