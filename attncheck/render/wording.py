"""Short words for what a report holds: layer ranges, a declared layer in one line, bases, counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from attncheck.report import Report
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.spec import AttentionSpec, Bias, HeadMap, Part, Window
from attncheck.verdicts import Model

BASIS_WORDS = {Basis.MEASURED: "measured", Basis.PREDICTED: "predicted", Basis.STATIC: "static", None: "not run"}


def plural(count: int, word: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def check_name(code: str) -> str:
    """`ATC801 install-broken`; the bare code where no rule of this release has it."""
    from attncheck.checks import registry

    rule = registry.rule(code)
    return code if rule is None else f"{code} {rule.slug}"


def first_line(text: str) -> str:
    """The first line of a text; `...` says that there are more (a library's exception may bring a page of advice)."""
    lines = text.strip().splitlines()
    return "" if not lines else lines[0].rstrip() + (" ..." if len(lines) > 1 else "")


def headline_lines(text: str) -> list[str]:
    """The first line of a headline, and the entries of the list below it (`- ...`) where it has one."""
    head, *rest = text.strip().splitlines() or [""]
    entries = [line for line in rest if line.startswith("- ")]
    return [head, *entries] if entries else [first_line(text)]


def scenario_words(names: Sequence[str], core: Sequence[str]) -> str:
    """`plain, packed`; `all core scenarios, packed` where each core one is among them."""
    if len(core) > 1 and set(core) <= set(names):
        return ", ".join(["all core scenarios", *(name for name in names if name not in core)])
    return ", ".join(names)


def layer_ranges(layers: Iterable[int]) -> str:
    """`0-31`; `0-44 step 2`; `3, 7-9`. Empty for no layer."""
    indices = sorted(set(layers))
    if not indices:
        return ""
    steps = {after - before for before, after in pairwise(indices)}
    if len(indices) >= 5 and len(steps) == 1 and (step := steps.pop()) > 1:
        return f"{indices[0]}-{indices[-1]} step {step}"
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(_run_words(run) for run in runs)


def _run_words(run: Sequence[int]) -> str:
    if len(run) == 1:
        return str(run[0])
    return f"{run[0]}-{run[-1]}" if len(run) > 2 else f"{run[0]}, {run[1]}"


def declared_line(spec: AttentionSpec) -> str:
    """What one layer declares, in one line."""
    if not spec.attends:
        return f"no attention matrix ({spec.kind})"
    words = [_mask_words(spec)]
    if "chunk" in spec.unknown:
        words.append("chunk unknown")
    elif spec.mask.chunk is not None:
        words.append(f"chunks of {spec.mask.chunk}")
    words += _softmax_words(spec)
    if heads := _head_words(spec):
        words.append(heads)
    return ", ".join(words)


def probed_sizes(model: Model) -> str:
    """`window 4096 as 8, chunks of 8192 as 8`: sizes for which the probed model has another one; empty for none."""
    words: list[str] = []
    for group in model.groups:
        if group.probed is None:
            continue
        real, tiny = group.spec.mask, group.probed.mask
        if real.chunk is not None and real.chunk != tiny.chunk:
            words.append(f"chunks of {real.chunk} as {tiny.chunk}")
        left, tiny_left = real.window.left, tiny.window.left
        if "window" in group.spec.unknown or left is None or tiny_left is None or left == tiny_left:
            continue
        if real.window.causal:
            words.append(f"window {left + 1} as {tiny_left + 1}")
        else:
            words.append(f"reach {left} as {tiny_left}")
    return ", ".join(dict.fromkeys(words))


def _mask_words(spec: AttentionSpec) -> str:
    if "kind" in spec.unknown:
        return "kind of layer unknown"
    if "direction" in spec.unknown:
        return "direction unknown"
    if "window" in spec.unknown:
        return "causal, window unknown" if spec.mask.window.causal else "window unknown"
    return window_words(spec.mask.window, cross=spec.part is Part.CROSS)


def window_words(window: Window, cross: bool = False) -> str:
    """A window as `causal`, `causal, window 4096 (4095 back)`, `bidirectional, 8 back and 8 ahead`."""
    left, right = window.left, window.right
    if window.causal:
        return "causal" if left is None else f"causal, window {left + 1} ({left} back)"
    if left is None and right is None:
        return "reads every encoder token" if cross else "bidirectional"
    return f"bidirectional, {reach_words(window)}"


def reach_words(window: Window) -> str:
    """A window as `7 back and 0 ahead`, `all back and 0 ahead`."""
    return f"{_side(window.left)} back and {_side(window.right)} ahead"


def _side(distance: int | None) -> str:
    return "all" if distance is None else str(distance)


def _softmax_words(spec: AttentionSpec) -> list[str]:
    softmax, unknown = spec.softmax, spec.unknown
    words: list[str] = []
    if "scale" in unknown:
        words.append("scale unknown")
    elif softmax.scale is not None:
        usual = spec.head_dim is not None and abs(softmax.scale - spec.head_dim**-0.5) <= 1e-6
        if not usual:
            words.append(f"scale {softmax.scale:.4g}")
    if "softcap" in unknown:
        words.append("softcap unknown")
    elif softmax.softcap is not None:
        words.append(f"softcap {softmax.softcap:g}")
    if "sinks" in unknown:
        words.append("sinks unknown")
    elif softmax.sinks:
        words.append("sinks")
    if "bias" in unknown:
        words.append("bias unknown")
    elif softmax.bias is not Bias.NONE:
        words.append("ALiBi" if softmax.bias is Bias.ALIBI else "learned position bias")
    return words


def _head_words(spec: AttentionSpec) -> str:
    if spec.num_heads is None:
        return ""
    words = f"{spec.num_heads} heads"
    if spec.num_kv_heads is not None and spec.num_kv_heads != spec.num_heads:
        words += f" / {spec.num_kv_heads} kv"
        if "head_map" in spec.unknown:
            words += " (map unknown)"
        elif spec.head_map is HeadMap.TILE:
            words += " (tiled)"
    if spec.head_dim is not None:
        value = f" (v {spec.head_dim_v})" if spec.head_dim_v not in (None, spec.head_dim) else ""
        words += f", head_dim {spec.head_dim}{value}"
    return words


def reason_line(reason: Reason) -> str:
    """A refusal in one line: the text, needed and found where the text does not say it already, the source."""
    details = []
    said = first_line(reason.text)
    if reason.actual and reason.actual.lower() not in reason.text.lower():
        details = [f"needs {reason.limit}"] if reason.limit and reason.limit.lower() not in reason.text.lower() else []
        details.append(f"found {reason.actual}")
    text = said + (f" ({', '.join(details)})" if details else "")
    return f"{text} [{reason.source}]" if reason.source else text


def platform_line(report: Report) -> str:
    """The software and the GPU a report was made on, in one line."""
    environment = report.environment
    words = [f"{name} {environment.version(name) or 'absent'}" for name in ("transformers", "torch")]
    words += [
        f"{n} {environment.version(n)}"
        for n in ("flash-attn", "flash-attn-3", "flash-attn-4")
        if environment.version(n)
    ]
    if environment.gpus:
        names = sorted({gpu.name for gpu in environment.gpus})
        count = len(environment.gpus)
        words.append(f"{count} x {names[0]}" if count > 1 and len(names) == 1 else ", ".join(names))
    else:
        words.append("no GPU")
    return ", ".join(words)
