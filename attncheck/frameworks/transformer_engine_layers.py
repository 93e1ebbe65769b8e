"""From what a model's layers declare to TransformerEngine's calls for them, and to what should have been written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from packaging.version import Version

from attncheck.frameworks.transformer_engine_call import (
    TAKEN_SINCE,
    WindowSize,
    Written,
    documented,
    paste,
    rewritten,
    sized,
)
from attncheck.frameworks.transformer_engine_params import FLASH, FLASH_2, FLASH_3, FLASH_4, FUSED, UNFUSED, Params
from attncheck.frameworks.transformer_engine_selection import Selection, acts, select
from attncheck.semantics.observation import Reason
from attncheck.semantics.shape import Shape
from attncheck.semantics.spec import Alignment, AttentionSpec, ModelSpec, Part, Window
from attncheck.semantics.written import PLAIN, QUERIES, SHORT_QUERIES, LayerCalls, Suggested, WrittenCall

#: TransformerEngine's backends -> (the word of reports, the API of `attncheck.backends` that calls it).
KERNELS = {
    FLASH_2: ("flash", "te-flash"),
    FLASH_3: ("flash-3", ""),
    FLASH_4: ("flash-4", "te-flash-4"),
    FUSED: ("fused", "te-fused"),
    UNFUSED: ("unfused", "te-unfused"),
}
#: The variable that switches off one backend and no other. A release that does not read it has `NVTE_FLASH_ATTN`.
SWITCHES = {
    FLASH_2: "NVTE_FLASH_ATTN_V2",
    FLASH_3: "NVTE_FLASH_ATTN_V3",
    FLASH_4: "NVTE_FLASH_ATTN_V4",
    FUSED: "NVTE_FUSED_ATTN",
    UNFUSED: "NVTE_UNFUSED_ATTN",
}
#: Keys of a call whose length nobody knows, for the rows of the selection; and a window that no sequence fills.
TOKENS, LONGEST = 4096, 1 << 20

#: FusedAttention hands the number to cuDNN, whose left bound is exclusive (TransformerEngine#1197, fixed by #1212).
ONE_SHORT = (Version("1.9"), Version("1.12"))
#: flash-attn-4 took (-1, 0) for "no window" while a negative sum of both sides meant that, up to 4.0.0b29; since b30
#: both sides must be negative (`_resolve_causal_local_window` of each release), and then no key is visible.
NOTHING_SEEN = Version("4.0.0b30")
SOURCE_1197 = "TransformerEngine#1197: cuDNN's left bound is exclusive; fixed in 1.12"
SOURCE_FLASH_4 = "measured on an H100 with TransformerEngine 2.20.2 and flash-attn-4 4.0.0b36"


@dataclass(frozen=True, slots=True)
class Setup:
    """Release, machine and settings of one resolution. params: of the machine; sizes and lengths are filled in."""

    version: Version
    written: Written
    params: Params

    def chosen(self, written: Written, shape: Shape, q_len: int = TOKENS) -> Selection | None:
        """The selection for such a layer, None where `check_set_window_size` raises."""
        size = rewritten(written, self.version).size
        if size is None:
            return None
        params = replace(
            self.params,
            num_heads=shape.num_heads,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            head_dim_v=shape.head_dim_v,
            q_len=q_len,
            kv_len=TOKENS,
            window=size,
            mask_type=written.attn_mask_type,
            softmax_type=written.softmax_type,
            qkv_format=written.qkv_format,
            bias_type=written.core_attention_bias_type,
            dropout=written.attention_dropout,
            softcap=written.softcap,
            bottom_right=written.alignment is Alignment.BOTTOM_RIGHT,
        )
        return select(self.version, params)


def layers(spec: ModelSpec, setup: Setup) -> tuple[LayerCalls, ...]:
    """The calls for every layer whose mask and sizes are known, equal layers together."""
    together: dict[tuple[Part, Shape], list[int]] = {}
    if setup.written.attn_mask_type == "arbitrary":
        return ()  # the mask is the caller's own tensor
    for layer in spec.layers:
        if (shape := _shape(layer, setup.written)) is not None:
            together.setdefault((layer.part, shape), []).append(layer.layer)
    return tuple(
        LayerCalls(
            part,
            tuple(numbers),
            shape,
            tuple(_calls(setup, setup.written, shape)),
            _suggested(setup, shape, spec.max_position or LONGEST),
        )
        for (part, shape), numbers in together.items()
    )


def _shape(layer: AttentionSpec, written: Written) -> Shape | None:
    """None for a layer of which too little is known, or that DotProductAttention is not about."""
    if not layer.mask_known or layer.part is Part.CROSS:
        return None
    heads = written.num_attention_heads or layer.num_heads
    head_dim = written.kv_channels or layer.head_dim
    if heads is None or head_dim is None:
        return None
    known = layer.softmax
    return Shape(
        num_heads=heads,
        num_kv_heads=written.num_gqa_groups or layer.num_kv_heads or heads,
        head_dim=head_dim,
        head_dim_v=head_dim if written.kv_channels else layer.head_dim_v or head_dim,
        window=layer.mask.window,
        chunk=layer.mask.chunk,
        scale=None if "scale" in layer.unknown else known.scale,
        softcap=None if "softcap" in layer.unknown else known.softcap,
        sinks="sinks" not in layer.unknown and known.sinks,
    )


def _calls(
    setup: Setup, written: Written, shape: Shape, scenarios: Iterable[str] = (PLAIN, SHORT_QUERIES)
) -> Iterator[WrittenCall]:
    """One call a backend and scenario; backends whose package is absent are left out."""
    size = rewritten(written, setup.version).size
    for scenario in scenarios:
        selection = setup.chosen(written, shape, TOKENS if scenario == PLAIN else QUERIES)
        if size is None or selection is None:
            continue
        for backend, (kernel, api) in KERNELS.items():
            against = [entry for entry in selection.against if entry.backend == backend]
            if any(entry.absent for entry in against):
                continue
            means, known = _meaning(setup, backend, size)
            # What a switch or a preference turned off can still be called, so it is looked at beside the others.
            refused = [entry.says for entry in against if entry.drop is not None and not entry.drop.variable]
            yield WrittenCall(
                scenario,
                kernel,
                api,
                written.arguments(),
                paste(written),
                means,
                Alignment.BOTTOM_RIGHT if backend in (FLASH_2, FLASH_3, FLASH_4) else written.alignment,
                known,
                selected=selection.chosen == backend,
                refused=tuple(Reason(text, source="get_attention_backend") for text in refused),
                terms=tuple(_terms(written, shape)),
                off=_switch(backend, setup.version, selection),
                switched_off=any(entry.drop.switch for entry in against if entry.drop is not None),
            )


def _switch(backend: str, version: Version, selection: Selection) -> str:
    """The variable, with its value, that keeps that backend from being picked; "" where it would stop what runs."""
    set_here = (entry.drop for entry in selection.against if entry.backend == backend and entry.drop is not None)
    off = next((drop.variable for drop in set_here if drop.switch), "")
    own = SWITCHES.get(backend, "")
    if not off and own and acts(own, version):
        off = own
    elif not off and backend in FLASH and selection.chosen not in FLASH:
        off = "NVTE_FLASH_ATTN"
    return f"{off}=0" if off else ""


def _meaning(setup: Setup, backend: str, size: WindowSize) -> tuple[Window | None, str]:
    """(the window that a size means to a backend of that release, the known defect in one sentence)."""
    first, fixed = ONE_SHORT
    if backend == FUSED and first <= setup.version < fixed and size[0] > 0:
        return Window(size[0] - 1, 0), f"FusedAttention of 1.9 to 1.11 sees one key fewer ({SOURCE_1197})"
    flash_4 = setup.params.flash.get(FLASH_4, Version("0"))
    if backend == FLASH_4 and size == (-1, 0) and flash_4 >= NOTHING_SEEN:
        text = f"flash-attn-4 {flash_4} takes window_size=(-1, 0) for an empty window and returns zeros"
        return None, f"{text} ({SOURCE_FLASH_4})"
    return documented(size), ""


def _terms(written: Written, shape: Shape) -> Iterator[str]:
    """Slugs of the softmax terms that differ."""
    if (shape.softcap or 0.0) != written.softcap:
        yield "softcap-dropped" if shape.softcap is not None else "softcap-unexpected"
    if written.softmax_type != ("learnable" if shape.sinks else "vanilla"):
        yield "sinks-dropped" if shape.sinks else "sinks-unexpected"
    usual = shape.head_dim**-0.5
    declared = usual if shape.scale is None else shape.scale
    asked = usual if written.softmax_scale is None else written.softmax_scale
    if not math.isclose(declared, asked, rel_tol=1e-6):
        yield "scale-wrong"


def _suggested(setup: Setup, shape: Shape, longest: int) -> Suggested | None:
    """What to write for such layers; None where it is what was written, or where nothing would do."""
    if shape.chunk is not None:
        return None
    better = mended(setup.written, shape, setup.version)
    if better is None:
        return None
    selection = setup.chosen(better, shape)
    first, fixed = ONE_SHORT
    size, switch, upgrade = better.window_size, "", ""
    bounded: int | None = None
    if selection is not None and selection.chosen == FUSED and first <= setup.version < fixed and size and size[0] > 0:
        better, upgrade = replace(better, window_size=(size[0] + 1, size[1])), f"transformer-engine>={fixed}"
    if _zeros(setup, better, shape):
        better, bounded = replace(better, window_size=(longest, 0)), longest
        switch = "NVTE_FLASH_ATTN_V4=0" if acts("NVTE_FLASH_ATTN_V4", setup.version) else ""
    if better == setup.written:
        return None
    calls = tuple(_calls(setup, better, shape, (PLAIN,)))
    return Suggested(paste(better), calls, switch, upgrade, bounded)


def _zeros(setup: Setup, written: Written, shape: Shape) -> bool:
    """The selected backend returns nothing but zeros for that call."""
    return any(call.selected and call.means is None for call in _calls(setup, written, shape, (PLAIN,)))


def _changed(before: Written, after: Written) -> dict[str, object]:
    return {
        name: getattr(after, name)
        for name in ("window_size", "attn_mask_type", "softmax_type", "softmax_scale", "softcap")
        if getattr(before, name) != getattr(after, name)
    }


def mended(written: Written, shape: Shape, version: Version) -> Written | None:
    """The settings that mean what a layer declares, by the documentation; None where that release has no words."""
    window = shape.window
    size = sized(window, TOKENS)
    padded = "padding" in written.attn_mask_type
    if window.right == 0:
        kind = written.attn_mask_type if written.causal else "padding_causal" if padded else "causal"
    else:
        kind = "padding" if padded else "no_mask"
    scale = shape.scale if shape.scale is not None and "scale-wrong" in _terms(written, shape) else None
    better = replace(
        written,
        window_size=size if size != written.window_size and not _same(written, size, kind) else written.window_size,
        attn_mask_type=kind,
        softmax_type="learnable" if shape.sinks else "vanilla",
        softmax_scale=scale if scale is not None else written.softmax_scale,
        softcap=shape.softcap or 0.0,
    )
    needs = [name for name, value in _changed(written, better).items() if value]
    return None if any(version < Version(TAKEN_SINCE[name]) for name in needs) else better


def _same(written: Written, size: WindowSize | None, kind: str) -> bool:
    """`window_size` left out, or (-1, -1), is what `size` spells out."""
    return (
        written.attn_mask_type == kind and written.window_size in (None, (-1, -1), (-1, 0)) and (size or (0,))[0] == -1
    )
