"""torch's scaled_dot_product_attention: which of its kernels may serve a call, and calling one of them alone."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from attncheck.backends.interface import Api, Ask, Attend, Backend, Call, Spelling, Usable, judge
from attncheck.backends.masks import Biased, Drawn, band, shift
from attncheck.backends.sdpa_limits import CPU_LIMITS, CUDA_LIMITS, SDPA_LIMITS
from attncheck.backends.spelling import lacking
from attncheck.backends.torch_limits import TORCH_LIMITS, rocm_note
from attncheck.environment import Environment
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window

#: The kernels that can be forced -> torch's name for them in `torch.nn.attention.SDPBackend`.
KERNELS: Mapping[str, str] = {
    "math": "MATH",
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
}
#: First torch whose function has `enable_gqa` (release notes).
_GQA_SINCE = "2.5"
_FUNCTION = "torch.nn.functional.scaled_dot_product_attention"


@contextmanager
def forced(kernel: str) -> Iterator[None]:
    """Let scaled_dot_product_attention use this kernel only; it raises RuntimeError where the kernel cannot serve.

    kernel: a key of `KERNELS`; "" leaves the choice to torch. torch warns of why a kernel refuses instead of saying it
    in the error: the warnings are kept quiet, and the error raised here says it.
    """
    if not kernel:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = getattr(SDPBackend, KERNELS[kernel])
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        try:
            with sdpa_kernel([backend]):
                yield
        except RuntimeError as error:
            reasons = _reasons([str(remark.message) for remark in remarks])
            if reasons and str(error).startswith("No available kernel"):
                raise RuntimeError(f"No available kernel: {reasons}") from error
            raise


def _reasons(remarks: Sequence[str]) -> str:
    """What torch says against the one kernel that was enabled: the rest is that the others are disabled."""
    said = [remark.partition(" (Triggered internally")[0].strip() for remark in remarks]
    return "; ".join(dict.fromkeys(x for x in said if "kernel not used because" not in x and "disabled" not in x))


def load(kernel: str) -> Attend:
    """The function with one kernel forced, as `attend(q, k, v, ...)`; imports torch.

    q: batch x num_heads x q_len x head_dim; k, v: batch x num_kv_heads x kv_len x width. attn_mask: tensor (bool, True
    = visible, or additive), or a function of (q, k) that gives one, such as `Drawn`. is_causal, scale, dropout_p: as
    torch has them. enable_gqa: None uses torch's own grouped heads where the head numbers differ, False repeats the kv
    heads before the call as transformers' `repeat_kv` does. Raises RuntimeError where the kernel refuses.
    """
    import torch
    from packaging.version import Version

    own_groups = Version(torch.__version__) >= Version(_GQA_SINCE)

    def attend(
        query: Any,
        key: Any,
        value: Any,
        *,
        attn_mask: Any = None,
        is_causal: bool = False,
        scale: float | None = None,
        dropout_p: float = 0.0,
        enable_gqa: bool | None = None,
    ) -> Any:
        if isinstance(attn_mask, torch.Tensor):
            attn_mask = attn_mask.to(query.device)
            attn_mask = attn_mask if attn_mask.dtype == torch.bool else attn_mask.to(query.dtype)
        elif attn_mask is not None:
            attn_mask = attn_mask(query, key)
        further: dict[str, Any] = {}
        groups = query.shape[1] // key.shape[1]
        if groups > 1 and own_groups and enable_gqa is not False:
            further["enable_gqa"] = True
        elif groups > 1:
            # torch before 2.5 knows no grouped heads; users of such a version repeat the kv heads themselves.
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        with forced(kernel):
            return torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **further
            )

    return attend


def spell(ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any] | Rejected:
    """`is_causal` for what it can say (a plain causal mask from the top left), a mask for everything else.

    A mask is spelled for every kernel: that FLASH refuses it on a GPU, but not on a CPU, is `decide`'s to say.
    """
    if reasons := lacking(ask, "scaled_dot_product_attention", _FUNCTION, "softcap", "sinks"):
        return Rejected(reasons)
    arguments: dict[str, Any] = {"scale": ask.scale} if ask.scale is not None else {}
    if ask.dropout:
        arguments["dropout_p"] = ask.dropout
    diagonal = shift(ask.alignment, q_len, kv_len)
    if ask.mask is not None:
        arguments["attn_mask"] = ask.mask if ask.slopes is None else Biased(ask.mask, ask.slopes, diagonal)
    elif ask.slopes is None and ask.window == CAUSAL and diagonal == 0:
        arguments["is_causal"] = True
    elif ask.slopes is not None or ask.window != FULL:
        arguments["attn_mask"] = Drawn(band(ask.window, diagonal), slopes=ask.slopes, diagonal=diagonal)
    return arguments


def _biases() -> Any:
    """`torch.nn.attention.bias`, without torch's compiler where that is switched off anyway.

    The module registers four functions with the compiler, whose import alone takes longer than all readings on a CPU.
    """
    name, compiler = "torch.nn.attention.bias", "torch._dynamo"
    if name not in sys.modules and compiler not in sys.modules and os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        stand_in: Any = ModuleType(compiler)
        stand_in.allow_in_graph = lambda function: function
        sys.modules[compiler] = stand_in
        try:
            return importlib.import_module(name)
        except (AttributeError, ImportError):  # another torch needs more of its compiler there: it gets the real one
            sys.modules.pop(name, None)
        finally:
            del sys.modules[compiler]
    return importlib.import_module(name)


def _upper_left(query: Any, key: Any) -> Any:
    return _biases().causal_upper_left(query.shape[-2], key.shape[-2])


def _lower_right(query: Any, key: Any) -> Any:
    return _biases().causal_lower_right(query.shape[-2], key.shape[-2])


def _eight(i: Any, j: Any) -> Any:
    return (j <= i) & (i - j < 8)


_DOC = f"{_FUNCTION}: "
_BOOL = _DOC + "a bool attn_mask is True where a key takes part"
_FLOAT = _DOC + "a float attn_mask is added to the attention score"
_SQUARE = _DOC + "is_causal is the upper left causal bias when the mask is not square"
_BIAS = "torch.nn.attention.bias."
_UNEQUAL = ((32, 64), (64, 32))

#: The same for every kernel; i is the query and j the key.
SPELLINGS = (
    Spelling(
        "window",
        "attn_mask=(j <= i) & (i - j < 8)",
        {"attn_mask": Drawn(_eight)},
        Window(7, 0),
        source=_BOOL,
        pattern="attn_mask=(j <= i) & (i - j < {})",
    ),
    Spelling(
        "window",
        "attn_mask=(j <= i) & (i - j <= 8)",
        {"attn_mask": Drawn(lambda i, j: (j <= i) & (i - j <= 8))},
        Window(8, 0),
        source=_BOOL,
        pattern="attn_mask=(j <= i) & (i - j <= {})",
    ),
    Spelling(
        "window",
        "attn_mask=0 where (j <= i) & (i - j < 8), else -inf",
        {"attn_mask": Drawn(_eight, hidden="-inf")},
        Window(7, 0),
        source=_FLOAT,
        pattern="attn_mask=0 where (j <= i) & (i - j < {}), else -inf",
    ),
    Spelling(
        "window",
        "attn_mask=0 where (j <= i) & (i - j < 8), else finfo.min",
        {"attn_mask": Drawn(_eight, hidden="min")},
        Window(7, 0),
        source=_FLOAT,
        pattern="attn_mask=0 where (j <= i) & (i - j < {}), else finfo.min",
    ),
    # The documentation says that this raises; what a kernel does that does not is worth a row.
    Spelling(
        "window",
        "attn_mask=(i - j < 8), is_causal=True",
        {"attn_mask": Drawn(lambda i, j: i - j < 8), "is_causal": True},
        source=_DOC + "an error is thrown if both attn_mask and is_causal are set",
        pattern="attn_mask=(i - j < {}), is_causal=True",
    ),
    Spelling("unbounded", "attn_mask=None, is_causal=False", {}, FULL, source=_FUNCTION),
    Spelling("causal", "is_causal=True", {"is_causal": True}, CAUSAL, Alignment.TOP_LEFT, _SQUARE, _UNEQUAL),
    Spelling(
        "causal",
        "attn_mask=causal_upper_left(q_len, kv_len)",
        {"attn_mask": _upper_left},
        CAUSAL,
        Alignment.TOP_LEFT,
        _BIAS + "causal_upper_left",
        _UNEQUAL,
    ),
    Spelling(
        "causal",
        "attn_mask=causal_lower_right(q_len, kv_len)",
        {"attn_mask": _lower_right},
        CAUSAL,
        Alignment.BOTTOM_RIGHT,
        _BIAS + "causal_lower_right",
        _UNEQUAL,
    ),
    Spelling(
        "two-sided",
        "attn_mask=(i - j).abs() <= 8",
        {"attn_mask": Drawn(lambda i, j: (i - j).abs() <= 8)},
        Window(8, 8),
        source=_BOOL,
    ),
)


def decide(name: str, environment: Environment, call: Call) -> Usable | Rejected:
    """name: "sdpa", usable with the kernels left over, or one API ("sdpa-flash"), usable when its kernel is."""
    if reasons := judge(TORCH_LIMITS + SDPA_LIMITS, environment, call):
        return Rejected(reasons)
    kernels = CPU_LIMITS if call.device == "cpu" else CUDA_LIMITS
    note = rocm_note(environment, call)
    if name == "sdpa":
        left = [kernel for kernel, limits in kernels.items() if not judge(limits, environment, call)]
        return Usable(tuple(_shown(kernel, call) for kernel in left), note)
    kernel = name.removeprefix("sdpa-")
    reasons = judge(kernels[kernel], environment, call)
    return Rejected(reasons) if reasons else Usable((_shown(kernel, call),), note)


def _shown(kernel: str, call: Call) -> str:
    return "flash-cpu" if kernel == "flash" and call.device == "cpu" else kernel


def _api(kernel: str, devices: tuple[str, ...], dtypes: tuple[str, ...], launches: str = "") -> Api:
    return Api(
        f"sdpa-{kernel}",
        f"{_FUNCTION} with sdpa_kernel([SDPBackend.{KERNELS[kernel]}])",
        "bhsd",
        partial(load, kernel),
        spell,
        SPELLINGS,
        devices,
        dtypes,
        launches=launches,
        serves="sdpa",
    )


_WITH_FLOAT = ("float16", "bfloat16", "float32")

BACKEND = Backend(
    "sdpa",
    ("sdpa",),
    decide,
    (
        # MATH is a composition of plain operators: no kernel name gives it away.
        _api("math", ("cuda", "cpu"), (*_WITH_FLOAT, "float64")),
        # On a GPU it is half precision only; the fused CPU kernel of the same name takes float32 too.
        _api("flash", ("cuda", "cpu"), _WITH_FLOAT, "pytorch_flash::"),
        _api("efficient", ("cuda",), _WITH_FLOAT, "fmha_cutlass[FB]"),
        _api("cudnn", ("cuda",), ("float16", "bfloat16"), "cudnn_generated_.*sdpa"),
    ),
)
