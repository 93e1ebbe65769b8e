"""Builds, keeps and runs cuDNN attention graphs on torch tensors, with a backward; imported where kernels run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from attncheck.backends.interface import Attend

#: The frontend from this version on says `generate_stats`; before, the opposite `is_inference` (its release notes).
GENERATE_STATS_SINCE = (1, 13)
#: Arguments of the backward operation alone, and of the forward operation alone.
_BACKWARD_ONLY = ("use_deterministic_algorithm",)
#: Arguments that are tensors of their own.
_TENSORS = ("bias", "sink_token")


@dataclass(frozen=True, slots=True)
class Plan:
    """A built graph. inputs, outputs: its tensors by the name of the operation's argument or result."""

    graph: Any
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    workspace: int


def attend() -> Attend:
    """The callable of the API, with a backward; see `attncheck.backends.cudnn.load`."""
    import cudnn
    import torch

    graphs = Graphs(cudnn, torch)

    class Sdpa(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
        """The forward and backward operations as one differentiable function of q, k and v."""

        @staticmethod
        def forward(context: Any, q: Tensor, k: Tensor, v: Tensor, tensors: Any, arguments: Any) -> Tensor:
            output, stats = graphs.forward(q, k, v, tensors, arguments, stats=True)
            context.save_for_backward(q, k, v, output, stats)
            context.rest = tensors, arguments
            return output

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            q, k, v, output, stats = context.saved_tensors
            tensors, arguments = context.rest
            return (*graphs.backward(q, k, v, output, stats, gradient, tensors, arguments), None, None)

    def call(q: Tensor, k: Tensor, v: Tensor, **arguments: Any) -> Tensor:
        q, k, v = (dense(tensor) for tensor in (q, k, v))
        tensors, rest = graphs.sorted_out(q, k, arguments)
        if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            return Sdpa.apply(q, k, v, tensors, rest)
        return graphs.forward(q, k, v, tensors, rest, stats=False)[0]

    return call


def dense(tensor: Tensor) -> Tensor:
    """The tensor with unit stride in its last dimension and no expanded one, as cuDNN wants it; a copy if need be."""
    fits = tensor.stride(-1) == 1 and all(step for step, size in zip(tensor.stride(), tensor.shape) if size > 1)
    return tensor if fits else tensor.contiguous()


class Graphs:
    """Attention graphs, one for each combination of shapes, strides, dtype and arguments, and one handle a device."""

    def __init__(self, cudnn: Any, torch: Any) -> None:
        self._cudnn, self._torch = cudnn, torch
        self._plans: dict[Any, Plan] = {}
        self._handles: dict[int, Any] = {}
        types = cudnn.data_type
        self._types = {
            torch.float16: types.HALF,
            torch.bfloat16: types.BFLOAT16,
            torch.float32: types.FLOAT,
            torch.int64: types.INT64,
        }

    def sorted_out(
        self, q: Tensor, k: Tensor, arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors by argument, other arguments) as the operation wants them; enumerations stay names.

        Raises NotImplementedError for a dtype or device that cuDNN does not take.
        """
        torch = self._torch
        if not q.is_cuda:
            raise NotImplementedError("cuDNN attends on CUDA tensors only")
        if q.dtype not in (torch.float16, torch.bfloat16):
            raise NotImplementedError(f"cuDNN attends in float16 and bfloat16 only, not {q.dtype}")
        rest = {name: value for name, value in arguments.items() if value is not None and name not in _TENSORS}
        rest.setdefault("attn_scale", q.shape[-1] ** -0.5)
        tensors: dict[str, Tensor] = {}
        if (bias := arguments.get("bias")) is not None:
            if bias.dtype == torch.bool:
                bias = torch.zeros(bias.shape, dtype=q.dtype, device=q.device).masked_fill_(~bias, float("-inf"))
            while bias.dim() < 4:
                bias = bias[None]
            full = (*bias.shape[:2], q.shape[2], k.shape[2])
            tensors["bias"] = bias.to(q.dtype).expand(full).contiguous()
        if (sink := arguments.get("sink_token")) is not None:
            tensors["sink_token"] = sink.detach().float().reshape(1, -1, 1, 1).contiguous()
        if rest.get("dropout"):
            for name in ("seed", "offset"):
                drawn = torch.randint(1 << 31, (1, 1, 1, 1)) if name == "seed" else torch.zeros((1, 1, 1, 1))
                tensors[name] = drawn.to(q.device, torch.int64)
        return tensors, rest

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any], stats: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(output, softmax statistics or None), batch x heads x queries x (width of v, 1)."""
        batch, heads, queries = q.shape[:3]
        output = q.new_empty((batch, queries, heads, v.shape[3])).transpose(1, 2)
        results = {"o": output}
        if stats:
            results["stats"] = self._torch.empty((batch, heads, queries, 1), dtype=self._torch.float32, device=q.device)
        rest = {name: value for name, value in arguments.items() if name not in _BACKWARD_ONLY}
        if tuple(map(int, str(self._cudnn.__version__).split(".")[:2])) >= GENERATE_STATS_SINCE:
            rest["generate_stats"] = stats
        else:
            rest["is_inference"] = not stats
        self._run("sdpa", {"q": q, "k": k, "v": v, **tensors}, results, rest)
        return output, results.get("stats")

    def backward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        output: Tensor,
        stats: Tensor,
        gradient: Tensor,
        tensors: Mapping[str, Tensor],
        arguments: Mapping[str, Any],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(dq, dk, dv), lying in memory like q, k and v."""
        torch = self._torch
        results = {"dQ": torch.empty_like(q), "dK": torch.empty_like(k), "dV": torch.empty_like(v)}
        given = {"q": q, "k": k, "v": v, "o": output, "dO": dense(gradient), "stats": stats, **tensors}
        self._run("sdpa_backward", given, results, arguments)
        return results["dQ"], results["dK"], results["dV"]

    def _run(
        self, operation: str, given: Mapping[str, Tensor], results: Mapping[str, Tensor], arguments: Mapping[str, Any]
    ) -> None:
        everything = {**given, **results}
        layouts = tuple((name, tuple(t.shape), t.stride(), t.dtype) for name, t in everything.items())
        key = (operation, given["q"].device.index, layouts, tuple(sorted(arguments.items())))
        handle = self._handle(given["q"])
        if key not in self._plans:
            self._plans[key] = self._built(operation, given, results, arguments, handle)
        plan = self._plans[key]
        workspace = self._torch.empty(max(1, plan.workspace), dtype=self._torch.uint8, device=given["q"].device)
        data = {
            **{plan.inputs[name]: tensor.detach() for name, tensor in given.items()},
            **{plan.outputs[name]: tensor for name, tensor in results.items()},
        }
        plan.graph.execute(data, workspace, handle=handle)

    def _handle(self, tensor: Tensor) -> Any:
        """The device's handle, on torch's current stream of that device."""
        index = tensor.device.index or 0
        if index not in self._handles:
            self._handles[index] = self._cudnn.create_handle()
        self._cudnn.set_stream(self._handles[index], self._torch.cuda.current_stream(tensor.device).cuda_stream)
        return self._handles[index]

    def _built(
        self,
        operation: str,
        given: Mapping[str, Tensor],
        results: Mapping[str, Tensor],
        arguments: Mapping[str, Any],
        handle: Any,
    ) -> Plan:
        """Raises NotImplementedError when cuDNN declines the graph, with its reason."""
        try:
            graph, inputs, outputs = self.described(operation, given, results, arguments, handle)
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([self._cudnn.heur_mode.A, self._cudnn.heur_mode.FALLBACK])
            self._build_library_plan(graph)
        except (self._cudnn.cudnnGraphNotSupportedError, ValueError, TypeError) as error:
            raise NotImplementedError(f"cuDNN declines {operation}: {' '.join(str(error).split())}") from error
        return Plan(graph, inputs, outputs, int(graph.get_workspace_size()))

    def described(
        self,
        operation: str,
        given: Mapping[str, Tensor],
        results: Mapping[str, Tensor],
        arguments: Mapping[str, Any],
        handle: Any = None,
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """(graph, its inputs, its outputs) for an operation on tensors like these, not validated yet."""
        cudnn, single = self._cudnn, self._cudnn.data_type.FLOAT
        graph = cudnn.pygraph(
            io_data_type=self._types[given["q"].dtype],
            intermediate_data_type=single,
            compute_data_type=single,
            handle=handle,
        )
        inputs = {
            name: graph.tensor(name=name, dim=list(t.shape), stride=list(t.stride()), data_type=self._types[t.dtype])
            for name, t in given.items()
        }
        rest = dict(arguments)
        if (alignment := rest.get("diagonal_alignment")) is not None:
            rest["diagonal_alignment"] = getattr(cudnn.diagonal_alignment, alignment)
        operands = {name: tensor for name, tensor in inputs.items() if name not in ("seed", "offset")}
        if (dropout := rest.pop("dropout", None)) is not None:
            rest["dropout"] = (float(dropout), inputs["seed"], inputs["offset"])
        made = getattr(graph, operation)(name=operation, **operands, **rest)
        outputs = dict(zip(results, made))
        for name, tensor in results.items():
            outputs[name].set_output(True).set_dim(list(tensor.shape)).set_stride(list(tensor.stride()))
            outputs[name].set_data_type(self._types[tensor.dtype])
        return graph, inputs, outputs

    def _build_library_plan(self, graph: Any) -> None:
        """Build a plan of the cuDNN library itself, not one of the kernels that newer frontends bring along.

        Those are other code than what every other user of cuDNN runs. `selected_engine` names one (frontend 1.32.0).
        """
        built = False
        while not built or getattr(graph, "selected_engine", None) is not None:
            if (engine := getattr(graph, "selected_engine", None)) is not None:
                graph.deselect_engines([engine.name])
            graph.check_support()
            graph.build_plans()
            built = True
