"""cuDNN's graph API: words, limits, and the graphs that are built, on a scripted frontend and on the real one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attncheck.backends import cudnn
from attncheck.backends.cudnn_graph import Graphs, dense
from attncheck.backends.interface import Ask, Call, Usable, apis
from attncheck.semantics.observation import Rejected
from attncheck.semantics.spec import CAUSAL, FULL, Alignment, Window
from tests.backends.environments import A100, B200, CPU_ONLY, H100, T4, with_libraries

TOP, BOTTOM = Alignment.TOP_LEFT, Alignment.BOTTOM_RIGHT


def spelled(window: Window, alignment: Alignment = BOTTOM, lengths: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    words = cudnn.spell(Ask(window, alignment), *lengths)
    assert not isinstance(words, Rejected)
    return {name.removeprefix("diagonal_"): value for name, value in words.items() if value is not None}


def test_the_left_bound_is_exclusive_and_the_right_one_inclusive() -> None:
    assert spelled(Window(8, 2)) == {"alignment": "TOP_LEFT", "band_left_bound": 9, "band_right_bound": 2}
    assert spelled(Window(0, 0)) == {"alignment": "TOP_LEFT", "band_left_bound": 1, "band_right_bound": 0}


def test_unbounded_is_left_out() -> None:
    assert spelled(FULL) == {}
    assert spelled(CAUSAL) == {"alignment": "TOP_LEFT", "band_right_bound": 0}
    assert spelled(Window(8, None)) == {"alignment": "TOP_LEFT", "band_left_bound": 9}


def test_the_alignment_is_that_of_the_ask() -> None:
    assert spelled(CAUSAL, BOTTOM, (32, 64))["alignment"] == "BOTTOM_RIGHT"
    assert spelled(CAUSAL, TOP, (32, 64))["alignment"] == "TOP_LEFT"
    assert isinstance(cudnn.spell(Ask(CAUSAL, BOTTOM), 64, 32), Rejected)
    assert not isinstance(cudnn.spell(Ask(FULL, BOTTOM), 64, 32), Rejected)


@pytest.mark.parametrize("ask", [Ask(softcap=30.0), Ask(slopes=torch.ones(2))])
def test_what_it_has_no_words_for(ask: Ask) -> None:
    assert isinstance(cudnn.spell(ask, 64, 64), Rejected)


def test_a_mask_is_the_window_too() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool)
    words = cudnn.spell(Ask(Window(1, 0), mask=mask, sinks=torch.zeros(2), dropout=0.5, deterministic=True), 4, 4)
    assert set(words) == {"attn_scale", "bias", "sink_token", "dropout", "use_deterministic_algorithm"}  # type: ignore[arg-type]


HALF = Call("cuda", "float16", 64)


@pytest.mark.parametrize(
    ("environment", "call", "limit"),
    [
        (H100, HALF, ""),
        (A100, HALF, ""),
        (B200, HALF, ""),
        (T4, HALF, "generation"),
        (CPU_ONLY, HALF, "nvidia-cudnn-frontend is not installed"),
        (with_libraries(H100, {"nvidia-cudnn-frontend": None}), HALF, "nvidia-cudnn-frontend is not installed"),
        (H100, Call("cuda", "float32", 64), "half precision"),
        (H100, Call("cuda", "float16", 68), "head size"),
        (H100, Call("cuda", "float16", 512), "head size"),
        (H100, Call("cuda", "float16", 256, backward=True), ""),
        (A100, Call("cuda", "float16", 256), ""),
        (A100, Call("cuda", "float16", 256, backward=True), "head size"),
        (A100, Call("cuda", "float16", 256, q_len=1), "head size"),
        (B200, Call("cuda", "float16", 192, 128, backward=True), ""),
        (B200, Call("cuda", "float16", 192, 192, backward=True), "head size"),
        (H100, Call("cuda", "float16", 64, softcap=True), "softcap"),
        (H100, Call("cuda", "float16", 64, window=True, q_len=64, kv_len=32), "as many keys"),
        (H100, Call("cuda", "float16", 64, q_len=64, kv_len=32), ""),
        (H100, Call("cuda", "float16", 64, sinks=True, q_len=1), "single query"),
        (H100, Call("cuda", "float16", 64, num_heads=6, num_kv_heads=4), "divide"),
        (H100, Call("cuda", "float16", 64, backward=True, q_len=1, kv_len=1), "one query with one key"),
    ],
)
def test_limits(environment: Any, call: Call, limit: str) -> None:
    verdict = cudnn.decide(cudnn.NAME, environment, call)
    if not limit:
        assert isinstance(verdict, Usable), verdict
        return
    assert isinstance(verdict, Rejected)
    assert any(limit in reason.text for reason in verdict.reasons)
    assert all(reason.source for reason in verdict.reasons)


def test_the_table_says_where_each_promise_is_written() -> None:
    rows = apis()[cudnn.NAME][1].spellings
    assert all(row.source for row in rows if row.promise)
    eight = {row.text: row.promise for row in rows if row.question == "window" and "=8" in row.text}
    assert all(promise is not None and promise.left == 7 for promise in eight.values())
    assert {(32, 64)} <= {lengths for row in rows for lengths in row.lengths}


class Recorded:
    """A tensor or graph of the scripted frontend: every setter returns it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.set: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def setter(value: Any) -> Recorded:
            self.set[name] = value
            return self

        return setter


class Declined(Exception):
    pass


class Frontend:
    """What attncheck uses of the `cudnn` module. Attention adds 1 for each execution, to see what ran.

    declines: where. foreign: plans of the frontend's own kernels that come before cuDNN's.
    """

    __version__ = "1.32.0"
    cudnnGraphNotSupportedError = Declined
    data_type = SimpleNamespace(HALF="half", BFLOAT16="bfloat16", FLOAT="float", INT64="int64")
    heur_mode = SimpleNamespace(A="a", FALLBACK="fallback")
    diagonal_alignment = SimpleNamespace(TOP_LEFT="enum-top", BOTTOM_RIGHT="enum-bottom")

    def __init__(self, declines: str = "", foreign: int = 0) -> None:
        self.declines, self.foreign = declines, foreign
        self.asked: list[dict[str, Any]] = []
        self.executed: list[dict[str, torch.Tensor]] = []
        self.streams: list[int] = []

    def create_handle(self) -> str:
        return "handle"

    def set_stream(self, handle: str, stream: int) -> None:
        self.streams.append(stream)

    def pygraph(self, **types: Any) -> Any:
        frontend = self
        engines = [SimpleNamespace(name=f"own {number}") for number in range(self.foreign)]

        class Graph:
            barred: list[str]

            def __init__(self) -> None:
                self.barred, self.outputs = [], {}

            @property
            def selected_engine(self) -> Any:
                return next((engine for engine in engines if engine.name not in self.barred), None)

            def deselect_engines(self, names: list[str]) -> None:
                self.barred += names

            def tensor(self, **described: Any) -> Recorded:
                return Recorded(described["name"])

            def sdpa(self, **arguments: Any) -> list[Any]:
                frontend.asked.append({"operation": "sdpa", **arguments})
                return [Recorded("o"), Recorded("stats") if arguments.get("generate_stats") else None]

            def sdpa_backward(self, **arguments: Any) -> list[Any]:
                frontend.asked.append({"operation": "sdpa_backward", **arguments})
                return [Recorded(name) for name in ("dQ", "dK", "dV")]

            def execute(self, data: Any, workspace: Any, handle: Any) -> None:
                named = {tensor.name: value for tensor, value in data.items()}
                frontend.executed.append(named)
                for name in ("o", "dQ", "dK", "dV"):
                    if name in named and (name != "o" or "dO" not in named):
                        named[name].fill_(len(frontend.executed))

            def get_workspace_size(self) -> int:
                return 16

            def __getattr__(self, step: str) -> Any:
                def run(*_: Any) -> None:
                    if frontend.declines == step:
                        raise Declined("no engine\n for this graph")

                return run

        return Graph()


def graphs(frontend: Frontend) -> Graphs:
    """Graphs of the scripted frontend on tensors of the CPU."""
    stream = SimpleNamespace(current_stream=lambda _: SimpleNamespace(cuda_stream=7))

    class Torch:
        cuda = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    return Graphs(frontend, Torch())


def half(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float16)


ARGUMENTS = {"attn_scale": 1.0, "diagonal_alignment": "TOP_LEFT", "diagonal_band_right_bound": 0}


def test_a_graph_is_built_once_for_each_shape_layout_and_argument() -> None:
    frontend = Frontend()
    made = graphs(frontend)
    q = half(1, 2, 8, 16)
    for _ in range(2):
        made.forward(q, q, q, {}, ARGUMENTS, stats=False)
    assert len(frontend.asked) == 1
    made.forward(q, q, q, {}, {**ARGUMENTS, "diagonal_band_left_bound": 3}, stats=False)
    made.forward(half(1, 8, 2, 16).transpose(1, 2), q, q, {}, ARGUMENTS, stats=False)
    made.forward(q.bfloat16(), q.bfloat16(), q.bfloat16(), {}, ARGUMENTS, stats=False)
    assert len(frontend.asked) == 4
    assert len(frontend.executed) == 5
    assert set(frontend.streams) == {7}
    assert frontend.asked[0]["diagonal_alignment"] == "enum-top"
    assert frontend.asked[1]["diagonal_band_left_bound"] == 3


def test_stats_are_asked_for_in_the_words_of_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    q = half(1, 2, 8, 16)
    new = Frontend()
    output, stats = graphs(new).forward(q, q, q, {}, ARGUMENTS, stats=True)
    assert new.asked[0]["generate_stats"] is True
    assert "is_inference" not in new.asked[0]
    assert stats is not None
    assert stats.shape == (1, 2, 8, 1)
    assert bool((output == 1).all())
    old = Frontend()
    monkeypatch.setattr(old, "__version__", "1.9.0")
    graphs(old).forward(q, q, q, {}, ARGUMENTS, stats=False)
    assert old.asked[0]["is_inference"] is True


def test_the_backward_gets_the_masks_of_the_forward() -> None:
    frontend = Frontend()
    made = graphs(frontend)
    q = half(1, 2, 8, 16)
    output, stats = made.forward(q, q, q, {}, {**ARGUMENTS, "use_deterministic_algorithm": True}, stats=True)
    assert stats is not None
    gradient = torch.ones((), dtype=torch.float16).expand(output.shape)
    gradients = made.backward(q, q, q, output, stats, gradient, {}, {**ARGUMENTS, "use_deterministic_algorithm": True})
    assert [bool((part == 2).all()) for part in gradients] == [True] * 3
    forward, backward = frontend.asked
    assert "use_deterministic_algorithm" not in forward
    assert backward["use_deterministic_algorithm"] is True
    assert backward["diagonal_band_right_bound"] == 0
    assert frontend.executed[1]["dO"].stride(-1) == 1  # an expanded gradient has no strides that cuDNN could use


@pytest.mark.parametrize("step", ["validate", "check_support", "build_plans"])
def test_what_cudnn_declines_is_announced(step: str) -> None:
    q = half(1, 2, 8, 16)
    with pytest.raises(NotImplementedError, match=r"^cuDNN declines sdpa: no engine for this graph$"):
        graphs(Frontend(declines=step)).forward(q, q, q, {}, ARGUMENTS, stats=False)


def test_kernels_that_are_not_cudnns_own_are_passed_over() -> None:
    frontend = Frontend(foreign=2)
    graph = frontend.pygraph()
    graphs(frontend)._build_library_plan(graph)
    assert graph.barred == ["own 0", "own 1"]


def test_masks_and_sinks_become_what_the_operation_takes() -> None:
    made = graphs(Frontend())
    q = SimpleNamespace(is_cuda=True, dtype=torch.float16, shape=(1, 2, 4, 16), device="cpu")
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    tensors, rest = made.sorted_out(q, q, {"bias": mask, "sink_token": torch.zeros(2), "attn_scale": None})  # type: ignore[arg-type]
    assert tensors["bias"].shape == (1, 1, 4, 4)
    assert torch.equal(tensors["bias"][0, 0] == 0, mask)
    assert tensors["sink_token"].shape == (1, 2, 1, 1)
    assert rest == {"attn_scale": 0.25}
    with pytest.raises(NotImplementedError, match="CUDA tensors only"):
        made.sorted_out(half(1, 2, 4, 16), half(1, 2, 4, 16), {})


def test_only_tensors_that_cudnn_cannot_stride_are_copied() -> None:
    plain = half(2, 3, 4, 8)
    view = half(2, 4, 3, 8).transpose(1, 2)
    assert dense(plain) is plain
    assert dense(view) is view
    assert dense(plain.transpose(2, 3)).is_contiguous()
    assert dense(half(2, 1, 4, 8).expand(2, 3, 4, 8)).is_contiguous()


# The real frontend checks a graph without a GPU, where it can be imported ------------------------------------------


@pytest.fixture
def real() -> Any:
    return pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")


@pytest.mark.parametrize("row", cudnn.SPELLINGS, ids=lambda row: row.text)
def test_the_real_frontend_accepts_every_spelling(real: Any, row: Any) -> None:
    q = half(1, 2, 64, 16)
    arguments = {"attn_scale": 1.0, "generate_stats": True, **row.arguments}
    stats = torch.zeros(1, 2, 64, 1)
    graph, inputs, outputs = Graphs(real, torch).described(
        "sdpa", {"q": q, "k": q, "v": q}, {"o": q, "stats": stats}, arguments
    )
    graph.validate()
    assert (set(inputs), set(outputs)) == ({"q", "k", "v"}, {"o", "stats"})


def test_the_real_frontend_refuses_a_window_of_more_queries_than_keys(real: Any) -> None:
    q, k = half(1, 2, 64, 16), half(1, 2, 32, 16)
    graph, *_ = Graphs(real, torch).described(
        "sdpa", {"q": q, "k": k, "v": k}, {"o": q}, {"generate_stats": False, "diagonal_band_left_bound": 8}
    )
    with pytest.raises(real.cudnnGraphNotSupportedError, match="max_s_q <= max_s_kv"):
        graph.validate()


def test_the_real_frontend_takes_what_the_backward_is_given(real: Any) -> None:
    q, stats = half(1, 2, 64, 16), torch.zeros(1, 2, 64, 1)
    graph, *_ = Graphs(real, torch).described(
        "sdpa_backward",
        {"q": q, "k": q, "v": q, "o": q, "dO": q, "stats": stats},
        {"dQ": q, "dK": q, "dV": q},
        {**ARGUMENTS, "diagonal_band_left_bound": 9, "use_deterministic_algorithm": True},
    )
    graph.validate()
