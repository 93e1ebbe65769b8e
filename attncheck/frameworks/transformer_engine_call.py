"""One call of TransformerEngine's DotProductAttention as its user writes it, and the window it means, by version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from packaging.version import Version

from attncheck.semantics.spec import Alignment, Window

#: (left, right), both inclusive; -1 is unbounded.
WindowSize = tuple[int, int]

#: Values of `attn_mask_type` (docstring of DotProductAttention, equal from 1.9 to 2.20). A comma is written "_".
MASK_TYPES = (
    "no_mask",
    "padding",
    "causal",
    "padding_causal",
    "causal_bottom_right",
    "padding_causal_bottom_right",
    "arbitrary",
)
SOFTMAX_TYPES = ("vanilla", "off-by-one", "learnable")
QKV_FORMATS = ("sbhd", "bshd", "thd")
BIAS_TYPES = ("no_bias", "pre_scale_bias", "post_scale_bias", "alibi")

#: Argument -> first version whose constructor (or forward, for the bias) takes it. What came between two releases of
#: `transformer_engine_params.READ` is dated to the newer one.
TAKEN_SINCE: Mapping[str, str] = {
    "window_size": "1.9",
    "attn_mask_type": "1.9",
    "qkv_format": "1.9",
    "attention_dropout": "1.9",
    "softmax_scale": "1.9",
    "core_attention_bias_type": "1.9",
    "num_attention_heads": "1.9",
    "num_gqa_groups": "1.9",
    "kv_channels": "1.9",
    "softmax_type": "2.8",
    "bottom_right_diagonal": "2.14",
    "softcap": "2.20",
}


@dataclass(frozen=True, slots=True)
class Written:
    """Arguments of DotProductAttention; the defaults are the constructor's own.

    window_size: None is "not given". num_attention_heads, num_gqa_groups, kv_channels: None is "as the model declares".
    given: names that the user wrote.
    """

    window_size: WindowSize | None = None
    attn_mask_type: str = "causal"
    softmax_type: str = "vanilla"
    qkv_format: str = "sbhd"
    bottom_right_diagonal: bool | None = None
    attention_dropout: float = 0.0
    core_attention_bias_type: str = "no_bias"
    softcap: float = 0.0
    softmax_scale: float | None = None
    num_attention_heads: int | None = None
    num_gqa_groups: int | None = None
    kv_channels: int | None = None
    given: tuple[str, ...] = ()

    @property
    def causal(self) -> bool:
        """The mask type hides later keys."""
        return "causal" in self.attn_mask_type

    @property
    def alignment(self) -> Alignment:
        """Where the diagonal lies with fewer queries than keys (FusedAttention and the unfused backend)."""
        if "bottom_right" in self.attn_mask_type or self.bottom_right_diagonal:
            return Alignment.BOTTOM_RIGHT
        if self.causal or self.bottom_right_diagonal is False:
            return Alignment.TOP_LEFT
        return Alignment.BOTTOM_RIGHT

    def arguments(self) -> dict[str, object]:
        """What is handed to the module, for a probe: the arguments that change what is computed."""
        found: dict[str, object] = {"attn_mask_type": self.attn_mask_type, "qkv_format": self.qkv_format}
        optional = {
            "window_size": self.window_size,
            "bottom_right_diagonal": self.bottom_right_diagonal,
            "softmax_scale": self.softmax_scale,
            "softcap": self.softcap or None,
            "softmax_type": self.softmax_type if self.softmax_type != "vanilla" else None,
        }
        return {**found, **{name: value for name, value in optional.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What `check_set_window_size` makes of a window: the size, and whether it warns; or the assertion that it raises.

    size: None with an error.
    """

    size: WindowSize | None
    warns: bool = False
    error: str = ""


def rewritten(written: Written, version: Version) -> Rewriting:
    """`check_set_window_size` of that version."""
    size, causal = written.window_size, written.causal
    plain = (-1, 0) if causal else (-1, -1)
    if size is None:
        return Rewriting(plain, warns=version < Version("1.10"))
    allowed = "(-1, 0) or (>=0, 0)" if causal else "(-1, -1) or (>=0, >=0)"
    error = f"window_size should be {allowed} for attn_mask_type={written.attn_mask_type}"
    if size == (-1, -1) or size == (-1, 0):
        return Rewriting(plain, warns=size != plain or version < Version("1.10"))
    if causal and size[0] >= 0:
        return Rewriting((size[0], 0), warns=size[1] != 0 or version < Version("1.10"))
    if not causal and size[0] >= 0 and size[1] >= 0:
        return Rewriting(size)
    return Rewriting(None, error=error)


def documented(size: WindowSize) -> Window:
    """What the docstring says a size means: both ends inclusive, -1 unbounded."""
    left, right = (None if side < 0 else side for side in size)
    return Window(left, right)


def sized(window: Window, length: int) -> WindowSize | None:
    """The `window_size` that means this window for sequences of at most `length` tokens, None where none does."""
    if window.right == 0:
        return (-1 if window.left is None else window.left, 0)
    if window.left is None and window.right is None:
        return (-1, -1)
    return tuple(length if side is None else side for side in (window.left, window.right))  # type: ignore[return-value]


def paste(written: Written) -> str:
    """The arguments as Python: those that were given, and those that are not the constructor's defaults."""
    plain = Written()
    others = (field.name for field in fields(written) if field.name != "given")
    changed = (name for name in others if getattr(written, name) != getattr(plain, name))
    names = dict.fromkeys(("window_size", "attn_mask_type", *written.given, *changed))
    shown = {name: getattr(written, name) for name in names if getattr(written, name) is not None}
    return ", ".join(f"{name}={_literal(value)}" for name, value in shown.items())


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value!r}"
