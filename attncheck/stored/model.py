"""How a stored report spells the machine, the model and its declared attention, and how they are read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attncheck.gpus import Gpu
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.spec import (
    CAUSAL,
    FULL,
    Alignment,
    AttentionSpec,
    Bias,
    HeadMap,
    MaskSpec,
    Part,
    SoftmaxSpec,
    Window,
)
from attncheck.stored.decoding import Decoder, Fault, Special, quoted
from attncheck.verdicts import LayerGroup, Model

_HEADS = ("num_heads", "num_kv_heads", "head_dim", "head_dim_v")


def gpu(read: Decoder, found: Any, where: str) -> Gpu:
    """The capability stands there as "9.0"."""
    entry = read.entries(found, where)
    capability = read.of(str, entry, "capability", where, "")
    if (digits := re.fullmatch(r"(\d{1,3})\.(\d{1,3})", capability)) is None:
        raise Fault(f"{where}.capability is {quoted(capability)}, not such as 9.0")
    return read.record(
        Gpu,
        entry,
        where,
        capability=(int(digits[1]), int(digits[2])),
        memory=read.of(int, entry, "memory_bytes", where, 0),
    )


def window(read: Decoder, found: Any, where: str) -> Window:
    """[left, right]."""
    left, right = read.value(tuple[int | None, int | None], found, where)
    return read.record(Window, {}, where, left=left, right=right)


def mask(read: Decoder, found: Any, where: str) -> KeepMask:
    """One text of 0 and 1 a query."""
    rows = read.value(tuple[str, ...], found, where)
    lengths = {len(row) for row in rows}
    if len(lengths) > 1 or any(row.strip("01") for row in rows):
        raise Fault(f"{where} is not rows of 0 and 1 of one length")
    return KeepMask(tuple(int(row[::-1] or "0", 2) for row in rows), max(lengths, default=0))


def model(read: Decoder, found: Any, where: str) -> Model:
    """Everything but the detail of the source stands there in every release."""
    entry = read.entries(found, where)
    return read.record(Model, entry, where, source_detail=read.of(str, entry, "source_detail", where, ""))


def group(read: Decoder, found: Any, where: str) -> LayerGroup:
    """`declared` and `probed` say nothing of part and layer: the group does."""
    entry = read.entries(found, where)
    part = read.value(Part, entry.get("part"), f"{where}.part")
    layers = read.value(tuple[int, ...], entry.get("layers"), f"{where}.layers")
    probed = entry.get("probed")
    return LayerGroup(
        part,
        layers,
        _declared(read, read.entries(entry.get("declared"), f"{where}.declared"), f"{where}.declared", part, layers),
        None if probed is None else _declared(read, read.entries(probed, f"{where}.probed"), f"{where}.probed", part),
    )


def _declared(
    read: Decoder, entry: Mapping[str, Any], where: str, part: Part, layers: tuple[int, ...] = ()
) -> AttentionSpec:
    unknown = read.of(frozenset[str], entry, "unknown", where, frozenset())

    def known(name: str, kind: Any, absent: Any, field: str = "") -> Any:
        """What stands for a field that is not known means nothing: any value will do."""
        return absent if (field or name) in unknown else read.of(kind, entry, name, where, absent)

    causal = read.of(str | None, entry, "direction", where) == "causal"
    alibi = Bias.ALIBI if known("alibi", bool, False, "bias") else Bias.NONE
    sizes = {name: read.of(int | None, entry, name, where) for name in _HEADS}
    if small := [name for name, size in sizes.items() if size is not None and size < 1]:
        raise Fault(f"{where}.{small[0]} is {sizes[small[0]]}, not a size")
    return read.record(
        AttentionSpec,
        {},
        where,
        part=part,
        layer=layers[0] if layers else 0,
        kind=read.of(str, entry, "kind", where, "full_attention"),
        attends=read.of(bool, entry, "attends", where, True),
        mask=MaskSpec(
            known("window", Window, CAUSAL if causal else FULL),
            known("chunk", int | None, None),
            read.of(Alignment, entry, "alignment", where, Alignment.BOTTOM_RIGHT),
        ),
        softmax=SoftmaxSpec(
            known("scale", float | None, None),
            known("softcap", float | None, None),
            known("sinks", bool, False),
            known("bias", Bias, alibi),
        ),
        head_map=known("head_map", HeadMap, HeadMap.INTERLEAVE),
        unknown=unknown,
        **sizes,
    )


SPECIALS: Mapping[type, Special] = {Gpu: gpu, Window: window, KeepMask: mask, Model: model, LayerGroup: group}
