"""Stand-ins in this process: what they record, that they change nothing, and that they stand aside."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attncheck.checks import call_words
from attncheck.checks import calls as rules
from attncheck.semantics.watched import WatchedCall, WatchedModel
from attncheck.watching import asked, cells, interface
from attncheck.watching import watcher as watching
from attncheck.watching.listeners import Listener
from attncheck.watching.watcher import Watcher

ORIGINAL = F.scaled_dot_product_attention


class Watch:
    """A watch of torch's own function, and what it has recorded."""

    def __init__(self, calls: int = 3, **options: Any) -> None:
        self.calls: list[WatchedCall] = []
        self.models: list[WatchedModel] = []
        self.failures: list[str] = []
        sinks = self.models.append, self.calls.append, self.failures.append
        self.watcher = Watcher(Listener(calls, *sinks, **options))
        self.watcher.replacing.module("torch.nn.functional", F)

    @property
    def slugs(self) -> list[str]:
        return [fault.slug for call in self.calls for fault in rules.faults(call)]


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.watcher.end()
    assert F.scaled_dot_product_attention is ORIGINAL


def tensors(queries: int, keys: int | None = None, heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(2, heads, n, 8, generator=generator) for n in (queries, keys or queries, keys or queries)]
    return made[0], made[1], made[2]


class Block(torch.nn.Module):
    def forward(self, *given: Any, **further: Any) -> Tensor:
        return F.scaled_dot_product_attention(*given, **further)


def test_a_call_is_recorded_with_what_it_does(watch: Watch) -> None:
    Block().eval()(*tensors(5), is_causal=True, scale=0.5)
    (call,) = watch.calls
    assert (call.function, call.module_class, call.kernel) == ("scaled_dot_product_attention", "Block", "flash")
    assert call.where.startswith("test_watcher.py:")
    assert call.where.endswith("in forward")
    assert (call.query, call.dtype, call.device, call.scale) == ((2, 2, 5, 8), "float32", "cpu", 0.5)
    assert (call.is_causal, call.mask_kind, call.training, call.unread) == (True, "none", False, "")
    assert call.seen[0].keep.rows == (1, 3, 7, 15, 31)
    assert call.asked == call.seen
    assert watch.failures == []


@pytest.mark.parametrize(
    ("sizes", "given", "slug"),
    [
        ((4, 10), {"is_causal": True}, "causal-misaligned"),
        ((6, 6), {"attn_mask": torch.ones(6, 6).triu(1).bool()}, "mask-inverted"),
        ((6, 6), {"attn_mask": torch.ones(6, 6).triu().bool()}, "mask-inverted"),
        (
            (6, 6),
            {"attn_mask": torch.zeros(6, 6).masked_fill(torch.ones(6, 6).tril(-1).bool(), -torch.inf)},
            "mask-inverted",
        ),
        ((6, 6), {"attn_mask": torch.ones(6, 6).tril()}, "mask-hides-nothing"),
        ((6, 6), {"attn_mask": torch.zeros(2, 1, 1, 6).bool()}, "nothing-visible"),
    ],
)
def test_a_wrong_mask_is_found(watch: Watch, sizes: tuple[int, int], given: dict[str, Any], slug: str) -> None:
    F.scaled_dot_product_attention(*tensors(*sizes), **given)
    assert watch.slugs == [slug]


@pytest.mark.parametrize(
    ("sizes", "given"),
    [
        ((6, 6), {}),
        ((6, 6), {"is_causal": True}),
        ((6, 6), {"attn_mask": torch.ones(6, 6).tril().bool()}),
        ((6, 6), {"attn_mask": torch.zeros(6, 6).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)}),
        ((6, 6), {"attn_mask": torch.randn(1, 2, 6, 6)}),
        ((1, 9), {}),
        ((1, 1), {"attn_mask": torch.ones(1, 1).triu().bool()}),
        ((2, 2), {"attn_mask": torch.ones(2, 2).triu().bool()}),
        ((3, 9), {"attn_mask": torch.ones(3, 9).tril(6).bool()}),
        ((6, 6), {"attn_mask": torch.tensor([True] * 4 + [False] * 2)[None, None, None].expand(2, 1, 1, 6)}),
    ],
)
def test_a_right_mask_is_not_accused(watch: Watch, sizes: tuple[int, int], given: dict[str, Any]) -> None:
    F.scaled_dot_product_attention(*tensors(*sizes), **given)
    assert len(watch.calls) == 1
    assert watch.calls[0].unread == ""
    assert watch.slugs == []


def test_an_empty_static_cache_is_not_accused(watch: Watch) -> None:
    query, key, value = tensors(4)
    wide = [torch.cat((given, torch.zeros(2, 2, 6, 8)), 2) for given in (key, value)]
    F.scaled_dot_product_attention(query, *wide, is_causal=True)
    assert watch.slugs == []


def test_the_row_with_the_most_padding_is_read(watch: Watch) -> None:
    mask = torch.ones(2, 1, 1, 6).bool()
    mask[1, ..., 4:] = False
    F.scaled_dot_product_attention(*tensors(6), attn_mask=mask)
    assert {seen.row: seen.keep.rows[0] for seen in watch.calls[0].seen} == {0: 0b111111, 1: 0b001111}


def test_heads_with_masks_of_their_own_are_told_apart(watch: Watch) -> None:
    mask = torch.ones(2, 2, 6, 6).bool()
    mask[:, 1] = mask[:, 1].tril()
    F.scaled_dot_product_attention(*tensors(6), attn_mask=mask)
    assert sorted(seen.heads for seen in watch.calls[0].seen if seen.row == 0) == [(0,), (1,)]
    assert watch.slugs == []


def test_a_long_call_is_read_on_some_cells(watch: Watch) -> None:
    query, key, value = (torch.randn(1, 1, 1500, 32) for _ in range(3))
    F.scaled_dot_product_attention(query, key, value, is_causal=True)
    (seen,) = watch.calls[0].seen
    assert 0 < len(seen.queries) < 1500
    assert seen.coarse
    assert watch.slugs == []
    assert call_words.sees(watch.calls[0]) == "all earlier keys"
    F.scaled_dot_product_attention(query, key, value, attn_mask=torch.ones(1500, 1500).tril())
    assert watch.slugs == ["mask-hides-nothing"]


def test_results_random_numbers_and_gradients_are_untouched(watch: Watch) -> None:
    def run() -> tuple[Any, ...]:
        torch.manual_seed(0)
        query, key, value = (given.requires_grad_() for given in tensors(6))
        output = F.scaled_dot_product_attention(query, key, value, dropout_p=0.3)
        output.sum().backward()
        return output, query.grad, key.grad, value.grad, torch.rand(3)

    watched = run()
    assert watch.calls
    watch.watcher.replacing.take_down()
    assert all(torch.equal(one, other) for one, other in zip(watched, run()))


def test_only_the_first_calls_of_each_site_and_kind_are_read(watch: Watch) -> None:
    block, other = Block().eval(), Block().eval()
    for _ in range(5):
        block(*tensors(4))
        other(*tensors(4))
    assert len(watch.calls) == 6
    for _ in range(5):
        block(*tensors(4), attn_mask=torch.ones(4, 4).bool())  # a mask where there was none
        block(*tensors(1, 4))  # one query
    assert len(watch.calls) == 12


def test_it_stands_aside_and_wakes(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "QUIET", 20)
    monkeypatch.setattr(watching, "compiled_graphs", lambda: 0)  # other tests of this process may have compiled

    def call() -> None:
        F.scaled_dot_product_attention(*tensors(4))

    for _ in range(400):
        call()
    assert F.scaled_dot_product_attention is ORIGINAL
    assert len(watch.calls) == 3
    watch.watcher.wake()
    assert F.scaled_dot_product_attention is not ORIGINAL
    F.scaled_dot_product_attention(*tensors(4), is_causal=True)
    assert len(watch.calls) == 4


class Holder(torch.nn.Module):
    """A module that keeps the function, as many attention modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = F.scaled_dot_product_attention


def test_a_module_that_holds_a_stand_in_can_be_saved_awake_and_asleep(watch: Watch) -> None:
    holder, stand_in = Holder(), F.scaled_dot_product_attention
    for asleep in (False, True):
        if asleep:
            watch.watcher.sleep()
            assert watch.watcher.asleep
        saved = io.BytesIO()
        torch.save(holder, saved)
        saved.seek(0)
        assert torch.load(saved, weights_only=False).attention is stand_in
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            written = pickle.dumps(holder.attention, protocol)
            assert b"attncheck" not in written
            assert pickle.loads(written) is stand_in
    watch.watcher.end()
    assert pickle.loads(written) is ORIGINAL  # the file needs no watch to be read


def test_a_stand_in_that_nobody_holds_gives_way_when_the_watch_sleeps(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "compiled_graphs", lambda: 0)  # other tests of this process may have made some
    del Holder().attention
    watch.watcher.sleep()
    assert F.scaled_dot_product_attention is ORIGINAL
    pickle.dumps(F.scaled_dot_product_attention)
    holder = Holder()
    watch.watcher.wake()
    assert holder.attention is ORIGINAL
    assert F.scaled_dot_product_attention is not ORIGINAL


def test_it_stays_where_graphs_depend_on_it(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "compiled_graphs", lambda: 1)
    before = F.scaled_dot_product_attention
    watch.watcher.sleep()
    assert F.scaled_dot_product_attention is before
    F.scaled_dot_product_attention(*tensors(4))
    assert watch.calls == []


def test_an_error_of_the_script_is_the_scripts(watch: Watch) -> None:
    with pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 5), torch.ones(1, 2, 3, 5))
    with pytest.raises(TypeError):
        F.scaled_dot_product_attention(1, 2)  # type: ignore[arg-type,call-arg]
    assert watch.calls == []


def test_an_error_of_the_watch_is_told_and_nothing_else(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(watching.reader.Reader, "read", broken)
    expected = ORIGINAL(*tensors(4))
    assert torch.equal(F.scaled_dot_product_attention(*tensors(4)), expected)
    assert watch.failures == ["scaled_dot_product_attention: RuntimeError: planted"]


def test_a_call_that_cannot_be_repeated_is_not_read(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(watching.reader.cells, "seen", broken)
    F.scaled_dot_product_attention(*tensors(4, 9), is_causal=True)
    assert watch.calls[0].unread == "the repeated call failed: RuntimeError: out of memory"
    assert watch.slugs == ["causal-misaligned"]  # this much the arguments say


def test_facts_only() -> None:
    made = Watch(measure=False)
    try:
        F.scaled_dot_product_attention(*tensors(4))
    finally:
        made.watcher.end()
    assert (made.calls[0].seen, made.calls[0].unread) == ((), "only facts were asked for")


def test_torchs_own_attention_module_is_seen(watch: Watch) -> None:
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(1, 5, 8)
    attention(x, x, x, need_weights=False)
    assert watch.calls[0].module_class == "MultiheadAttention"


def test_what_looks_at_every_operation_sees_none_of_ours(watch: Watch) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def flops() -> int:
        with FlopCounterMode(display=False) as counter:
            F.scaled_dot_product_attention(*tensors(4))
        return int(counter.get_total_flops())

    watched = flops()
    watch.watcher.replacing.take_down()
    assert watched == flops()
    assert watch.calls == []
    assert len(watch.failures) == 1
    assert "were not looked at" in watch.failures[0]


def test_traces_and_transforms_are_left_alone(watch: Watch) -> None:
    def attend(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)

    x = torch.randn(3, 1, 2, 4, 8)
    assert torch.allclose(torch.vmap(attend)(x), ORIGINAL(x, x, x, is_causal=True))
    traced = torch.jit.trace(attend, (x[0],), check_trace=False)
    assert str(traced.graph).count("aten::") == 1
    graph = torch.fx.symbolic_trace(attend)
    assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_function", "output"]
    assert watch.calls == []


def test_torch_script_takes_the_stand_in_for_the_operator(watch: Watch) -> None:
    def attend(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)

    x = torch.randn(1, 2, 4, 8)
    assert torch.allclose(torch.jit.script(attend)(x), ORIGINAL(x, x, x))


def test_checkpointing_runs_a_layer_twice_and_is_read_once(watch: Watch) -> None:
    from torch.utils.checkpoint import checkpoint

    query, key, value = (given.requires_grad_() for given in tensors(4))
    checkpoint(F.scaled_dot_product_attention, query, key, value, use_reentrant=False).sum().backward()
    assert len(watch.calls) == 1


def test_a_default_device_of_the_script_changes_nothing(watch: Watch) -> None:
    with torch.device("meta"):
        F.scaled_dot_product_attention(*tensors_on_cpu(), is_causal=True)
    assert watch.calls[0].unread == ""
    assert watch.calls[0].seen[0].keep.rows == (1, 3, 7)


def tensors_on_cpu() -> tuple[Tensor, Tensor, Tensor]:
    made = torch.ones(1, 1, 3, 4, device="cpu")
    return made, made.clone(), made.clone()


def test_models_that_are_gone_are_not_kept(watch: Watch) -> None:
    import gc
    import weakref

    block = Block()
    block(*tensors(4))
    gone = weakref.ref(block)
    del block
    gc.collect()
    assert gone() is None


def library(name: str, monkeypatch: pytest.MonkeyPatch, **functions: Any) -> ModuleType:
    module = ModuleType(name)
    for key, function in functions.items():
        setattr(module, key, function)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def flash(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None,
          causal: bool = False, window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
          return_attn_probs: bool = False) -> Any:  # fmt: skip
    """flash-attn's contract in plain torch: tokens first, bottom-right, inclusive window."""
    ahead = torch.arange(k.shape[1])[None, :] - torch.arange(q.shape[1])[:, None] - (k.shape[1] - q.shape[1])
    keep = torch.ones_like(ahead, dtype=torch.bool)
    if causal:
        keep &= ahead <= 0
    if window_size[0] >= 0:
        keep &= -ahead <= window_size[0]
    if window_size[1] >= 0:
        keep &= ahead <= window_size[1]
    output = ORIGINAL(*(given.transpose(1, 2) for given in (q, k, v)), attn_mask=keep).transpose(1, 2)
    return (output, None, None) if return_attn_probs else output


def test_flash_attention_counts_from_the_last_query(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    module = library("flash_attn.flash_attn_interface", monkeypatch, flash_attn_func=flash)
    watch.watcher.replacing.module(module.__name__, module)
    query, key, value = (given.transpose(1, 2) for given in tensors(3, 7))
    output = module.flash_attn_func(query, key, value, causal=True, window_size=(2, 0), return_attn_probs=True)
    assert len(output) == 3
    (call,) = watch.calls
    assert (call.api, call.q_len, call.kv_len, call.window) == ("flash-attn-2", 3, 7, "(2, 0)")
    assert call.seen[0].keep.rows == (0b0011100, 0b0111000, 0b1110000)
    assert call.asked == call.seen
    assert watch.slugs == []


def test_a_flash_kernel_that_ignores_its_window(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(
        q: Tensor, k: Tensor, v: Tensor, causal: bool = False, window_size: tuple[int, int] = (-1, -1)
    ) -> Any:
        return flash(q, k, v, causal=causal)

    module = library("flash_attn.flash_attn_interface", monkeypatch, flash_attn_func=forgetful)
    watch.watcher.replacing.module(module.__name__, module)
    module.flash_attn_func(*(given.transpose(1, 2) for given in tensors(7)), causal=True, window_size=(2, 0))
    assert watch.slugs == ["window-ignored"]


def test_packed_sequences_are_described_one_by_one(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def varlen(q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int,
               max_seqlen_k: int, causal: bool = False) -> Tensor:  # fmt: skip
        ends = cu_seqlens_q.tolist()
        parts = [slice(first, last) for first, last in pairwise(ends)]
        return torch.cat([flash(q[None, part], k[None, part], v[None, part], causal=causal)[0] for part in parts])

    module = library("flash_attn.flash_attn_interface", monkeypatch, flash_attn_varlen_func=varlen)
    watch.watcher.replacing.module(module.__name__, module)
    packed = [torch.randn(7, 2, 8) for _ in range(3)]
    ends = torch.tensor([0, 3, 7], dtype=torch.int32)
    module.flash_attn_varlen_func(*packed, ends, ends, 4, 4, causal=True)
    (call,) = watch.calls
    assert call.segments == ((3, 3), (4, 4))
    assert call_words.sees(call) == "all earlier keys, own document only"


def test_packed_tensors_are_taken_apart(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def together(qkv: Tensor, causal: bool = False) -> Tensor:
        return flash(*qkv.unbind(2), causal=causal)  # type: ignore[no-any-return]

    module = library("flash_attn.flash_attn_interface", monkeypatch, flash_attn_qkvpacked_func=together)
    watch.watcher.replacing.module(module.__name__, module)
    module.flash_attn_qkvpacked_func(torch.randn(1, 5, 3, 2, 8), causal=True)
    assert watch.calls[0].seen[0].keep.rows == (1, 3, 7, 15, 31)


def test_a_cache_is_not_written_twice(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def cached(
        q: Tensor, k_cache: Tensor, v_cache: Tensor, k: Any = None, v: Any = None, causal: bool = False
    ) -> Tensor:
        counted.append(1)
        return flash(q, k_cache, v_cache, causal=causal)  # type: ignore[no-any-return]

    module = library("flash_attn.flash_attn_interface", monkeypatch, flash_attn_with_kvcache=cached)
    watch.watcher.replacing.module(module.__name__, module)
    module.flash_attn_with_kvcache(*(given.transpose(1, 2) for given in tensors(1, 6)))
    assert len(counted) == 1
    assert "would change its cache" in watch.calls[0].unread


def test_xformers_masks_are_written_out(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    class LowerTriangularMask:
        def materialize(self, shape: Any, dtype: Any, device: Any) -> Tensor:
            return torch.zeros(shape, dtype=dtype).masked_fill(torch.ones(shape[-2:]).triu(1).bool(), -torch.inf)

    def efficient(query: Tensor, key: Tensor, value: Tensor, attn_bias: Any = None, p: float = 0.0,
                  scale: float | None = None) -> Tensor:  # fmt: skip
        return flash(query, key, value)  # type: ignore[no-any-return]  # drops its mask

    module = library("xformers.ops.fmha", monkeypatch, memory_efficient_attention=efficient)
    watch.watcher.replacing.module(module.__name__, module)
    given = [tensor.transpose(1, 2) for tensor in tensors(5)]
    module.memory_efficient_attention(*given, attn_bias=LowerTriangularMask())
    assert watch.calls[0].mask_kind == "LowerTriangularMask"
    assert watch.slugs == ["mask-dropped"]


def test_names_bound_before_are_replaced_in_the_modules_named(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    module = library("somebodys_model", monkeypatch, attend=ORIGINAL)
    watch.watcher.replacing.bound(module)
    module.attend(*tensors(4))
    assert len(watch.calls) == 1
    watch.watcher.replacing.restore()
    assert module.attend is ORIGINAL


@pytest.mark.parametrize("further", [{"sliding_window": 3}, {"position_ids": torch.arange(6)[None]}])
def test_what_transformers_functions_hide_by_their_other_arguments_is_not_missing(further: dict[str, Any]) -> None:
    """Of these, flash functions make a window or documents, and the others make nothing: the config decides."""
    query, key, value = tensors(6)
    module = torch.nn.Module()
    module.is_causal = True  # type: ignore[assignment]
    shape = cells.Shape(2, 2, 6, 6)
    every = cells.Cells((0, 1), tuple(range(6)), ())
    plain = interface.ask("sdpa", ORIGINAL, (module, query, key, value, None), {})
    assert asked.requested(plain, shape, every, ())
    given = interface.ask("flash_attention_2", ORIGINAL, (module, query, key, value, None), further)
    assert asked.requested(given, shape, every, ()) == ()


@pytest.mark.parametrize(
    "bias",
    [
        torch.zeros(64, 64).masked_fill(torch.arange(64) > 31, -100.0),  # Swin's windows
        -4.0 * (torch.arange(64)[None] - torch.arange(64)[:, None]).abs(),  # ALiBi
    ],
)
def test_a_steep_bias_hides_nothing_that_the_kernel_lost(watch: Watch, bias: Tensor) -> None:
    F.scaled_dot_product_attention(*tensors(64), attn_mask=bias)
    assert "the position bias spans" in watch.calls[0].unread
    assert watch.slugs == []


def test_a_bias_that_takes_half_precision_to_zero_is_not_read(watch: Watch) -> None:
    bias = torch.linspace(-15, 0, 64).half()
    F.scaled_dot_product_attention(*(given.half() for given in tensors(64)), attn_mask=bias.expand(64, 64))
    F.scaled_dot_product_attention(*tensors(64), attn_mask=bias.float().expand(64, 64))
    assert "the position bias spans" in watch.calls[0].unread
    assert watch.calls[1].unread == ""
    assert watch.slugs == []


def test_masks_beside_tensors_without_heads_are_one_a_row(watch: Watch) -> None:
    three = [torch.randn(3, 6, 8) for _ in range(3)]
    F.scaled_dot_product_attention(*three, attn_mask=torch.ones(3, 6, 6).tril().bool())
    assert watch.calls[0].unread == ""
    assert watch.calls[0].asked == watch.calls[0].seen


@pytest.mark.parametrize("argument", ["attention_chunk", "mask_mod", "seqused_k"])
def test_what_other_arguments_of_flash_attention_hide_is_not_missing(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    def kernel(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, **further: Any) -> Any:
        return flash(q, k, v, causal=causal, window_size=(2, 0) if any(further.values()) else (-1, -1))

    module = library("flash_attn_interface", monkeypatch, flash_attn_func=kernel)
    watch.watcher.replacing.module(module.__name__, module)
    given = [tensor.transpose(1, 2) for tensor in tensors(7)]
    module.flash_attn_func(*given, causal=True, **{argument: 3})
    assert watch.slugs == []
    module.flash_attn_func(*given, causal=True, **{argument: 0})
    assert watch.calls[1].asked == watch.calls[1].seen


def test_slopes_of_flash_attention_are_left_out(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, alibi_slopes: Any = None) -> Any:
        distance = (torch.arange(q.shape[1])[None] - torch.arange(q.shape[1])[:, None]).abs()
        bias = -alibi_slopes[:, None, None] * distance
        return ORIGINAL(*(given.transpose(1, 2) for given in (q, k, v)), attn_mask=bias).transpose(1, 2)

    module = library("flash_attn.flash_attn_interface", monkeypatch, flash_attn_func=kernel)
    watch.watcher.replacing.module(module.__name__, module)
    module.flash_attn_func(*(given.transpose(1, 2) for given in tensors(64)), alibi_slopes=torch.full((2,), 50.0))
    assert watch.calls[0].asked == watch.calls[0].seen
    assert watch.slugs == []


def test_keys_in_pages_are_not_read(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, page_table: Any = None) -> Any:
        return flash(q, k, v)

    module = library("flash_attn.cute.interface", monkeypatch, flash_attn_func=kernel)
    watch.watcher.replacing.module(module.__name__, module)
    module.flash_attn_func(*(given.transpose(1, 2) for given in tensors(4)), page_table=torch.zeros(1, 1))
    assert watch.calls[0].unread == "its keys lie in pages"


def test_a_module_without_a_switch_leaves_the_default_to_the_function() -> None:
    query, key, value = tensors(6)
    given = interface.ask("sdpa", ORIGINAL, (torch.nn.Module(), query, key, value, None), {})
    assert asked.requested(given, cells.Shape(2, 2, 6, 6), cells.Cells((0,), tuple(range(6)), ()), ()) == ()


class Attends(torch.nn.Module):
    """As GPT-2 before transformers 5: its function drops with a layer of the module, whatever rate it is passed."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.is_causal, self.dropout = function, True, torch.nn.Dropout(0.5)

    def forward(self, *given: Tensor) -> Any:
        return self.function(self, *given, None)


def test_dropout_of_the_module_neither_hides_keys_nor_draws_twice(watch: Watch) -> None:
    def eager(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **_: Any) -> Any:
        weights = (query @ key.transpose(2, 3)).tril().masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
        return (module.dropout(weights.softmax(-1)) @ value).transpose(1, 2), None

    eager.__module__ = "transformers.models.somebody.modeling_somebody"

    def run(function: Any) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        block = Attends(function)
        output = block(*tensors(6))[0]
        assert block.dropout.training
        return output, torch.rand(3)

    watched = run(watch.watcher.named_stand_in("eager", eager))
    assert all(torch.equal(one, other) for one, other in zip(watched, run(eager)))
    assert watch.calls[0].unread == ""
    assert {seen.keep.rows for seen in watch.calls[0].seen} == {(1, 3, 7, 15, 31, 63)}


def test_a_repetition_that_draws_random_numbers_draws_none_of_the_scripts(watch: Watch) -> None:
    def noisy(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **_: Any) -> Any:
        return (ORIGINAL(query, key, value) + torch.rand(()) * 0).transpose(1, 2), None

    noisy.__module__ = "transformers.integrations.somebody"
    torch.manual_seed(0)
    Attends(watch.watcher.named_stand_in("noisy", noisy))(*tensors(6))
    drawn = torch.rand(3)
    assert watch.calls[0].seen
    torch.manual_seed(0)
    torch.rand(())
    assert torch.equal(drawn, torch.rand(3))


def test_an_error_before_the_look_leaves_the_call_alone(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> str:
        raise AttributeError("a private function is gone")

    monkeypatch.setattr(watching.reader, "untouchable", broken)
    assert torch.equal(F.scaled_dot_product_attention(*tensors(4)), ORIGINAL(*tensors(4)))
    assert watch.calls == []
    assert "a private function is gone" in watch.failures[0]


def test_models_are_numbered_as_they_are_handed_on(watch: Watch) -> None:
    """A model whose first attention call raised is met, and not in the record: the next one is number 0."""
    from types import SimpleNamespace

    class Model(torch.nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.config, self.block = SimpleNamespace(model_type=name, to_dict=lambda: {"model_type": name}), Block()

        def forward(self, input_ids: Tensor, width: int = 4) -> Tensor:
            made = torch.ones(1, 1, input_ids.shape[1], 4)
            return self.block(made, made[..., :width], made)  # type: ignore[no-any-return]

    one, other, ids = Model("one"), Model("other"), torch.ones(1, 5).long()
    with pytest.raises(RuntimeError):
        one(ids, width=3)
    other(ids)
    one(ids)
    named = [watch.models[call.model].config["model_type"] for call in watch.calls if call.model is not None]
    assert named == ["other", "one"]


def test_nothing_of_ours_stays_in_the_table_of_torch_script(watch: Watch) -> None:
    from torch.jit import _builtins

    stand_in = watch.watcher.stand_in(watching.APIS[0], ORIGINAL)
    assert id(stand_in) in _builtins._get_builtin_table()
    watch.watcher.end()
    assert id(stand_in) not in _builtins._get_builtin_table()
