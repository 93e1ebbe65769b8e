"""Compares attncheck's selection of TransformerEngine's backend with the real `get_attention_backend`, on a CPU.

python -m tests.campaigns.te_selection FOLDER...   each FOLDER is named by a version and holds the `transformer_engine`
of its core wheel (`pip download --no-deps transformer-engine-cu12==VERSION`, then unzip the .py files): the function
is taken out of the real file and run with the compiled half replaced by one that always offers cuDNN's kernel for
arbitrary lengths. What cuDNN itself refuses is therefore left out of the comparison (`Drop.modelled`).
"""

from __future__ import annotations

import ast
import builtins
import functools
import logging
import math
import os
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from packaging.version import Version

from attncheck.frameworks import transformer_engine_filters as filters
from attncheck.frameworks.transformer_engine_call import MASK_TYPES, Written, rewritten
from attncheck.frameworks.transformer_engine_params import FLASH_2, FLASH_3, FLASH_4, FUSED, UNFUSED, Params
from attncheck.frameworks.transformer_engine_selection import VARIABLES, accepted, select

_FILES = ("pytorch/attention/dot_product_attention/utils.py", "pytorch/attention.py")
_WANTED = (
    "get_attention_backend",
    "check_set_window_size",
    "AttentionParams",
    "FlashAttentionUtils",
    "_get_supported_versions",
    "get_qkv_format",
)
#: Calls compared with each release.
CALLS = 4000


class _Any:
    """Stands for whatever of the package is not needed: any attribute, item or call gives another."""

    def __getattr__(self, name: str) -> Any:
        return _Any()

    def __getitem__(self, name: object) -> Any:
        return _Any()

    def __call__(self, *_: object, **__: object) -> Any:
        return _Any()


class _Names(dict[str, Any]):
    """Names of the module: those that are missing are whatever."""

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        return _Any()


class _Kernel(int):
    """cuDNN's kernel for arbitrary lengths, as number and as enumeration member."""

    @property
    def value(self) -> int:
        return int(self)


class _Kernels:
    """FusedAttnBackend: a mapping in old releases, an enumeration in new ones."""

    F16_max512_seqlen, F16_arbitrary_seqlen, FP8, No_Backend = _Kernel(0), _Kernel(1), _Kernel(2), _Kernel(-1)

    def __getitem__(self, name: str) -> _Kernel:
        found: _Kernel = getattr(self, name)
        return found


class Real:
    """The selection of one release."""

    def __init__(self, folder: Path) -> None:
        self.version = Version(folder.name)
        root = folder / "transformer_engine"
        path = next(root / name for name in _FILES if (root / name).exists())
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kept = [node for node in tree.body if getattr(node, "name", "") in _WANTED]
        for node in kept:
            node.decorator_list = [d for d in node.decorator_list if "dataclass" in ast.unparse(d)]  # type: ignore[attr-defined]
        self.names = self._names()
        future = ast.parse("from __future__ import annotations").body
        exec(compile(ast.Module([*future, *kept], []), str(path), "exec"), self.names)

    def _names(self) -> _Names:
        import torch

        name = f"transformer_engine_{self.version}".replace(".", "_")
        sys.modules[name] = ModuleType(name)  # dataclasses looks its classes' module up
        names = _Names()
        names.update(
            os=os, logging=logging, functools=functools, warnings=warnings, dataclass=dataclass, fields=fields,
            torch=torch, PkgVersion=Version, Float8Tensor=_Any, Float8TensorStorage=_Any, math=math,
            FusedAttnBackend=_Kernels(), __builtins__=builtins, __name__=name,
            is_in_onnx_export_mode=lambda: False, _NVTE_FLASH_ATTN=0,
        )  # fmt: skip
        return names

    def select(self, params: Params) -> str | None:
        """The backend it selects."""
        import torch

        names = self.names
        old = self.version < Version("2.3")
        names["get_device_compute_capability"] = lambda: params.capability
        names["get_cudnn_version"] = lambda: params.cudnn
        offered: Any = _Kernel(1)
        quiet = {"_log_level": logging.WARNING, "_stream_handler": logging.NullHandler()}
        names["AttentionLogging"] = SimpleNamespace(**quiet)
        names["tex"] = SimpleNamespace(
            get_fused_attn_backend=lambda *_: offered, NVTE_Fused_Attn_Backend=SimpleNamespace(NVTE_No_Backend=-1)
        )
        names["_get_fused_attn_backend"] = lambda *_, **named: (offered, "") if named else offered
        self._install(params, old)
        asked = {
            "qkv_type": torch.Tensor,
            "qkv_dtype": getattr(torch, params.dtype),
            "qkv_layout": "_".join([f"{params.qkv_format}"] * 3),
            "num_heads": params.num_heads,
            "num_gqa_groups": params.num_kv_heads,
            "max_seqlen_q": params.q_len,
            "max_seqlen_kv": params.kv_len,
            "head_dim": params.head_dim,
            "head_dim_qk": params.head_dim,
            "head_dim_v": params.head_dim_v,
            "attn_mask_type": params.mask_type,
            "window_size": params.window,
            "bottom_right_diagonal": params.bottom_right,
            "softcap": params.softcap,
            "core_attention_bias_type": params.bias_type,
            "core_attention_bias_requires_grad": False,
            "attention_dropout": params.dropout,
            "deterministic": params.deterministic,
            "is_training": params.training,
            "softmax_type": params.softmax_type,
        }
        asked["core_attention_bias_shape"] = None
        if params.bias_type in ("pre_scale_bias", "post_scale_bias"):
            shape = (1, params.num_heads, params.q_len, params.kv_len)
            asked["core_attention_bias_shape"] = shape if self.version >= Version("2.20") else "1hss"
        made = names["AttentionParams"]
        known = made.__dataclass_fields__
        before = dict(os.environ)
        os.environ.update(params.variables)
        try:
            answer = names["get_attention_backend"](made(**{k: v for k, v in asked.items() if k in known}))
        finally:
            os.environ.clear()
            os.environ.update(before)
        return self._named(answer, params)

    def _install(self, params: Params, old: bool) -> None:
        """The flash-attention packages of the machine, as the module's own import code would note them."""
        two, three, four = (params.flash.get(name) for name in (FLASH_2, FLASH_3, FLASH_4))
        if two is not None and not accepted(self.version).takes(two, params.capability):
            two = None
        least = {"v2_plus": "2", "v2_1_plus": "2.1", "v2_3_plus": "2.3", "v2_4_plus": "2.4", "v2_4_1_plus": "2.4.1",
                 "v2_5_plus": "2.5", "v2_6_0_plus": "2.6"}  # fmt: skip
        if not old:
            flash = self.names["FlashAttentionUtils"]
            flash.is_installed, flash.version = two is not None, two
            for name, oldest in least.items():
                setattr(flash, name, two is not None and two >= Version(oldest))
            flash.v3_is_installed, flash.fa3_version = three is not None, three
            flash.v4_is_installed, flash.fa4_version = four is not None, four
            flash.fa3_supports_softcap = True
            flash.v4_validate_head_dims = _validate
            return
        names = self.names
        names.update(
            _flash_attn_is_installed=two is not None, _flash_attn_version=two, _flash_attn_3_plus=three is not None,
            _use_flash_attn_3=three is not None, _flash_attn_3_is_installed=three is not None,
            _flash_attn_3_version=three, _flash_attn_version_required=Version("2"),
            _flash_attn_max_version=Version("9"),
            _attention_backends={}, _log_level=logging.WARNING, _stream_handler=logging.NullHandler(),
        )  # fmt: skip
        for name, oldest in least.items():
            names[f"_flash_attn_{name.removeprefix('v')}"] = two is not None and two >= Version(oldest)

    def _named(self, answer: Any, params: Params) -> str | None:
        flash, *rest = answer
        if self.version >= Version("2.3"):
            which, fused, _, unfused, _ = rest
            found = next((name for name in (FLASH_4, FLASH_3, FLASH_2) if params.flash.get(name) == which), None)
        else:
            fused, _, unfused, _ = rest
            three = self.version >= Version("1.11") and self.names["_use_flash_attn_3"]
            found = FLASH_3 if three else FLASH_2
        if flash:
            return found
        return FUSED if fused else UNFUSED if unfused else None


def _validate(head_dim: int, head_dim_v: int, major: int, _: int) -> None:
    params = Params((major, 0), head_dim=head_dim, head_dim_v=head_dim_v)
    assert not filters.fa4_sizes(params)


def calls(version: Version, seed: int = 0) -> Iterator[Params]:
    """Calls whose arguments that release takes."""
    draw = random.Random(seed)
    switches = [name for name in VARIABLES if name.endswith(("ATTN", "_V2", "_V3", "_V4"))]
    softmax = ["vanilla"] * 6 + (["learnable", "off-by-one"] if version >= Version("2.8") else [])
    for _ in range(CALLS):
        size = draw.choice([None, (-1, -1), (-1, 0), (8, 0), (8, 8), (1024, 0), (0, 0)])
        kind = draw.choice(MASK_TYPES)
        window = rewritten(Written(size, kind), version).size
        assert window is not None
        flash = {name: Version(draw.choice(found)) for name, found in (
            (FLASH_2, ["2.0.6", "2.2.0", "2.3.6", "2.4.0", "2.5.8", "2.6.3", "2.7.4.post1", "2.8.1", "2.8.3"]),
            (FLASH_3, ["3.0.0b1"]), (FLASH_4, ["4.0.0b11"])) if draw.random() < 0.6}  # fmt: skip
        if version < Version("1.12"):
            flash.setdefault(FLASH_2, Version("2.5.8"))  # it cannot be imported without one
        width = draw.choice([64, 80, 96, 128, 192, 256])
        q_len = draw.choice([32, 2048, 4096])
        heads = draw.choice([8, 16])
        yield Params(
            capability=draw.choice([(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]),
            cudnn=draw.choice([(9, 3, 0), (9, 10, 2), (9, 19, 0)]),
            flash=flash,
            variables={name: draw.choice("01") for name in switches if draw.random() < 0.2},
            dtype=draw.choice(["bfloat16"] * 8 + ["float32"]),
            num_heads=heads,
            num_kv_heads=draw.choice([heads, 4]),
            head_dim=width,
            head_dim_v=draw.choice([width, width, width, 64]) if version >= Version("1.11") else width,
            q_len=q_len,
            kv_len=q_len if draw.random() < 0.7 else 4096,
            window=window,
            mask_type=kind,
            softmax_type=draw.choice(softmax),
            qkv_format=draw.choice(["sbhd", "bshd", "thd"]),
            bias_type=draw.choice(["no_bias"] * 6 + ["alibi", "post_scale_bias"]),
            dropout=draw.choice([0.0, 0.0, 0.0, 0.1]),
            softcap=draw.choice([0.0, 0.0, 0.0, 50.0]) if version >= Version("2.20") else 0.0,
            bottom_right=kind not in ("causal", "padding_causal"),
            training=draw.choice([True, False]),
            deterministic=draw.random() < 0.15,
        )  # fmt: skip


def compare(folder: Path) -> tuple[int, list[tuple[Params, str | None, str | None]], Counter[str]]:
    """(calls compared, those with another answer, how often each backend was selected)."""
    real = Real(folder)
    wrong: list[tuple[Params, str | None, str | None]] = []
    counts: Counter[str] = Counter()
    compared = 0
    for params in calls(real.version):
        ours = select(real.version, params)
        if any(entry.drop is not None and not entry.drop.modelled for entry in ours.against):
            continue
        theirs = real.select(params)
        compared += 1
        counts[str(theirs)] += 1
        if ours.chosen != theirs:
            wrong.append((params, theirs, ours.chosen))
    return compared, wrong, counts


def main(folders: list[str]) -> int:
    """0 when every release agrees."""
    logging.disable(logging.CRITICAL)
    bad = 0
    for folder in folders:
        compared, wrong, counts = compare(Path(folder))
        print(f"{Path(folder).name}: {compared - len(wrong)} of {compared} calls agree; {dict(counts)}")
        for params, theirs, ours in wrong[:3]:
            print(f"  TransformerEngine: {theirs}, attncheck: {ours}: {params}")
        bad += bool(wrong)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
