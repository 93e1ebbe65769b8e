"""One kernel API at a model's true sizes: who sees the chosen keys, and numbers and gradients of chosen queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.kernels import rows, sparse
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.launched import attention_kernel, launched
from attncheck.probe.kernels.shape_calls import BLOCK, Setting, chosen_rows, spell, spelled, tensors
from attncheck.probe.kernels.subject import Inexpressible, Refused, Subject, refusals, subject
from attncheck.probe.refusal import out_of_memory
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, NotRun, Reason
from attncheck.semantics.shape import EXPLICIT_MASK, REPEATED, Shape, ShapeReading

#: Tokens beyond the window: queries whose whole window lies inside the sequence, over two tiles of 64.
MARGIN = 128
#: Length where nothing is bounded. Not a power of two; 17 tiles of 128.
UNBOUNDED = 2176
#: Length under an explicit mask: the NaN gradients of pytorch#196678 need seq % 128 == 64, and were seen at 704.
ODD_LENGTH = 704
#: Share of the free device memory that inputs, gradients and copies may take.
_SHARE = 0.5
#: Tensors the size of q, k, v and the output that are alive at the peak: inputs, gradients, the marked values, a copy.
_COPIES = 5


def run(step: str, arguments: Mapping[str, Any]) -> ShapeReading | NotRun:
    """Step: "<api>|<shape key>" or "<api>|<shape key>|explicit mask".

    arguments: device, dtype, seed, backward (bool), plugins as of `subject`; shapes: shape key -> `Shape`; longest:
    shape key -> tokens that the user will run at most, None for no limit. The variant with an explicit mask is
    `NotRun` where the API takes no mask. Memory: O(tokens x width) beyond
    the kernel's own and a mask that it insists on; what does not fit is read for the last queries only, and `detail`
    says so. Raises what the library raises when it breaks; its refusals are outcomes.
    """
    name, key, *variant = step.split("|")
    shape: Shape = arguments["shapes"][key]
    tested = subject(name, {**arguments, "dtype": shape.dtype})
    backward = bool(arguments.get("backward", True))
    try:
        if variant:
            return _explicit_mask(tested, shape, backward)
        return _true_length(tested, shape, arguments.get("longest", {}).get(key), backward)
    finally:
        if tested.device == "cuda":
            torch.cuda.empty_cache()


def length(shape: Shape, longest: int | None, free: int | None) -> tuple[int, str]:
    """(tokens to read at, why they are fewer than the window asks for). free: bytes of device memory, None unknown.

    Just beyond the window, a multiple of 128; never more than `longest`.
    """
    wanted = -(-(shape.reach + 1 + MARGIN) // 128) * 128 if shape.reach else UNBOUNDED
    why = ""
    if longest is not None and longest < wanted:
        why = f"sequences of at most {longest} tokens are run" if longest <= shape.reach else ""
        wanted = max(longest, 1)
    if free is not None:
        per_token = 2 * (shape.num_heads + shape.num_kv_heads) * (shape.head_dim + shape.head_dim_v) * _COPIES
        most = max(BLOCK, int(free * _SHARE) // per_token)
        if most < wanted:
            wanted, why = most, f"{free / 2**30:.1f} GiB of device memory are free"
    short = f"the window is not reached at {wanted} tokens: {why}" if shape.reach >= wanted and why else ""
    return wanted, short


def _true_length(tested: Subject, shape: Shape, longest: int | None, backward: bool) -> ShapeReading:
    free = torch.cuda.mem_get_info()[0] if tested.device == "cuda" else None
    tokens, remark = length(shape, longest, free)
    setting = Setting(tested, shape, tokens, tokens)
    reading = None
    try:
        reading = _expressed(setting, backward)
    except Exception as error:
        if not out_of_memory(error):
            raise
    if reading is None:  # out of the handler: its traceback would keep the tensors alive
        remark = "; ".join(filter(None, (remark, f"all queries at once do not fit into memory: the last {BLOCK}")))
        reading = _expressed(replace(setting, q_len=min(BLOCK, tokens)), backward)
    return replace(reading, detail="; ".join(filter(None, (remark, reading.detail))))


def _explicit_mask(tested: Subject, shape: Shape, backward: bool) -> ShapeReading | NotRun:
    setting = Setting(tested, shape, ODD_LENGTH, ODD_LENGTH, masked=True)
    try:
        chosen, arguments = spelled(setting)
    except Inexpressible as error:
        return NotRun(f"it takes no mask: {error}")
    return replace(read_or_refused(chosen, arguments, backward), variant=EXPLICIT_MASK)


def _expressed(setting: Setting, backward: bool) -> ShapeReading:
    """With whatever the API has words for."""
    try:
        chosen, arguments = spelled(setting)
    except Inexpressible as error:
        return _refused(setting, str(error))
    return read_or_refused(chosen, arguments, backward)


def read_or_refused(setting: Setting, arguments: Mapping[str, Any], backward: bool) -> ShapeReading:
    """What it does beside the setting's shape, with these arguments of its own; where it refuses grouped heads beside a
    mask, what it does with the kv heads repeated.
    """
    reading = _forward_alone(setting, arguments, backward)
    shape = setting.shape
    if reading.outcome is Outcome.READ or not setting.masked or shape.num_kv_heads == shape.num_heads:
        return reading
    repeated = replace(setting, shape=replace(shape, num_kv_heads=shape.num_heads))
    second = _forward_alone(repeated, arguments, backward)
    if second.outcome is not Outcome.READ:
        return reading
    remark = f"{REPEATED}; grouped they are refused: {_words(reading)}"
    return replace(second, shape=shape, detail="; ".join(filter(None, (remark, second.detail))))


def _forward_alone(setting: Setting, arguments: Mapping[str, Any], backward: bool) -> ShapeReading:
    """The reading; where a library refuses as soon as gradients are wanted, that of the forward pass alone."""
    try:
        with refusals():
            return _read(setting, arguments, backward)
    except Refused as error:
        refused = _refused(setting, str(error))
    if not backward:
        return refused
    alone = _forward_alone(setting, arguments, False)
    if alone.outcome is not Outcome.READ:
        return refused
    return replace(alone, backward=Outcome.REFUSED, backward_detail=_words(refused))


def _refused(setting: Setting, why: str) -> ShapeReading:
    return ShapeReading(
        setting.subject.api.name,
        setting.shape,
        Outcome.REFUSED,
        Basis.MEASURED,
        reasons=(Reason(why, source=setting.subject.api.call),),
        q_len=setting.q_len,
        kv_len=setting.kv_len,
        left_out=setting.left_out,
        detail="under an explicit mask" if setting.masked else "",
    )


def _words(reading: ShapeReading) -> str:
    return "; ".join(reason.text for reason in reading.reasons)


# One reading ---------------------------------------------------------------------------------------


def _read(setting: Setting, arguments: Mapping[str, Any], backward: bool) -> ShapeReading:
    shape, tested = setting.asked, setting.subject
    flat = tensors(setting, flat=True)
    columns = sparse.plan(shape, setting.kv_len)
    # ALiBi would drive the weight of old keys to 0: visibility is read without it.
    unbiased = replace(setting, left_out=(*setting.left_out, "alibi"))
    inputs = (flat[0], flat[1], sparse.marked_values(flat[2], columns))
    # One compiled graph serves every call of a reading: compiling another for inference takes tens of seconds.
    one_graph = backward and tested.api.needs_dynamo
    with torch.set_grad_enabled(one_graph):
        for tensor in inputs if one_graph else ():
            tensor.requires_grad_()
        output = tested.bound(spell(unbiased) if shape.alibi else arguments)(*inputs).detach()
    _require_shape(output, setting)
    nan = () if bool(output.isfinite().all()) else ("output",)
    wrong = None if nan else sparse.wrong_cells(output, columns, shape, setting.kv_len)
    heads = None if nan or (wrong is not None and wrong.nothing) else sparse.head_map(output, columns, shape)
    del flat, inputs, output
    reading = _numbers(setting, arguments, backward)
    remarks = []
    if setting.masked:
        remarks.append("the mask handed over as a tensor")
    if setting.q_len < setting.kv_len:
        remarks.append(f"the last {setting.q_len} queries")
    if not columns.bits:
        remarks.append("the head map was not read: the values are too narrow")
    return replace(
        reading,
        wrong=wrong,
        head_map=heads,
        nan=tuple(dict.fromkeys((*nan, *reading.nan))),
        left_out=setting.left_out,
        detail="; ".join(remarks),
    )


def _numbers(setting: Setting, arguments: Mapping[str, Any], backward: bool) -> ShapeReading:
    """Output, gradients, memory and kernel of one call with random inputs."""
    tested = setting.subject
    call = tested.bound(arguments)
    leaves = tensors(setting)
    peak = _Peak(tested.device)
    became, why = Outcome.NOT_RUN, "" if backward else "not asked for"
    with torch.enable_grad():
        if backward:
            for leaf in leaves:
                leaf.requires_grad_()
        output = call(*leaves)
        _require_shape(output, setting)
        chosen = chosen_rows(setting, output)
        gradients: tuple[Tensor, ...] = ()
        if backward and output.grad_fn is None:
            why = "its output carries no gradient"
        elif backward:
            upstream = torch.zeros_like(output)
            upstream[:, :, chosen.rows] = chosen.upstream
            try:
                with refusals():
                    gradients = torch.autograd.grad(output, leaves, upstream)
                became = Outcome.READ
            except Refused as error:
                became, why = Outcome.REFUSED, str(error)
    taken = peak.bytes()
    output = output.detach()
    named = dict(zip(("output", "dq", "dk", "dv"), (output, *gradients)))
    query, key, value = (leaf.detach() for leaf in leaves)
    kernel, plain = rows.errors(query, key, value, chosen, rows.Measured(output, *gradients))
    with torch.set_grad_enabled(backward and tested.api.needs_dynamo):
        names = launched(lambda: call(*leaves)) if tested.device == "cuda" else ()
    with torch.no_grad():
        if setting.masked:  # what torch would pick for grouped heads is never asked beside a mask: `REPEATED`
            key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], 1) for tensor in (key, value))
        picked = _picked(tested, (query, key, value), arguments)
    return ShapeReading(
        tested.api.name,
        setting.shape,
        Outcome.READ,
        Basis.MEASURED,
        q_len=setting.q_len,
        kv_len=setting.kv_len,
        nan=tuple(name for name, tensor in named.items() if not bool(tensor.isfinite().all())),
        kernel=kernel,
        plain=plain,
        backward=became,
        backward_detail=why,
        peak_bytes=taken,
        launched=attention_kernel(names),
        picked=picked,
    )


def _require_shape(output: Tensor, setting: Setting) -> None:
    wanted = (1, setting.shape.num_heads, setting.q_len, setting.shape.head_dim_v)
    if tuple(output.shape) != wanted:
        raise ValueError(f"{setting.subject.api.name} gave an output of {tuple(output.shape)}, expected {wanted}")


def _picked(tested: Subject, inputs: tuple[Tensor, ...], arguments: Mapping[str, Any]) -> bool | None:
    """Whether torch's dispatch of scaled_dot_product_attention takes this kernel; None where it is not asked."""
    library, _, kernel = tested.api.name.partition("-")
    if library != "sdpa":
        return None
    from torch.nn.attention import SDPBackend

    known = {name: arguments[name] for name in ("attn_mask", "is_causal", "scale") if name in arguments}
    if inputs[0].shape[1] != inputs[1].shape[1]:
        known["enable_gqa"] = True
    with suppress(Exception):  # a private function of torch: where it changed, nobody knows what would be picked
        backend: Callable[[int], Any] = SDPBackend
        return kernel.upper() in str(backend(torch._fused_sdp_choice(*inputs, **known)))
    return None


class _Peak:
    """Memory of the device that is taken at most from here on, beyond what is taken now."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

    def bytes(self) -> int | None:
        """In bytes; None on a CPU."""
        if not self._cuda:
            return None
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - self._before)


JOB = KernelJob("shapes", run)
