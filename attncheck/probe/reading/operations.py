"""Finding attention computations among the torch operations of attention modules, where no interface can be replaced.

Transformers before 4.48, and later model types with a softmax written out, call no function that could be replaced
under a name. What they call is torch's: `scaled_dot_product_attention`, or a product of queries and keys, a softmax and
a product with the values. Those are watched while an attention module runs, and repeated with other operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from attncheck.probe.reading import flash_calls
from attncheck.probe.reading.computation import PRODUCTS, Found, Frame, snapshot
from attncheck.probe.reading.repetition import fused, written_out
from attncheck.probe.reading.requested import PRESCALED

_WORDS = ("attention", "attn")
_SOFTMAX = frozenset(("softmax",))
_FUSED = "scaled_dot_product_attention"
_MULTIPLIED = frozenset(("mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply"))
_DIVIDED = frozenset(("div", "div_", "__truediv__", "__itruediv__", "true_divide", "divide"))
#: Operations whose results are something new: what their inputs were multiplied by does not reach a logit as a factor.
_FRESH = frozenset(PRODUCTS) | _SOFTMAX | {"linear", "addmm", "einsum", "layer_norm", "rms_norm", "embedding"}

Sink = Callable[[Found], None]


@contextmanager
def watched(model: Any, sink: Sink, fail: Callable[[str], None]) -> Iterator[None]:
    """Give every attention computation of the model to `sink` as soon as it is complete; results stay untouched.

    fail: gets why a softmax inside an attention module could not be read. What `sink` computes is not watched.
    """
    watch = _Watch(sink, fail)
    with ExitStack() as undo:
        for module in model.modules():
            if any(word in type(module).__name__.lower() for word in _WORDS):
                undo.callback(module.register_forward_pre_hook(watch.enter, with_kwargs=True).remove)
                undo.callback(module.register_forward_hook(watch.leave, always_call=True).remove)
        undo.enter_context(flash_calls.watched(model, watch.flash))
        undo.enter_context(watch)
        yield


class _Watch(TorchFunctionMode):  # type: ignore[misc]  # torch is untyped here
    """Records the operations of the innermost attention module that runs."""

    def __init__(self, sink: Sink, fail: Callable[[str], None]) -> None:
        super().__init__()
        self._sink = sink
        self._fail = fail
        self._frames: list[Frame] = []
        self._quiet = False

    def enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An attention module begins."""
        if self._quiet:
            return
        frame = Frame(module, args, kwargs)
        try:
            frame.args = tuple(snapshot("", value) for value in args)
            frame.kwargs = {name: snapshot(name, value) for name, value in kwargs.items()}
        except Exception as error:  # what cannot be copied cannot be run again, but it runs
            frame.again = True
            self._fail(f"the cache of {type(module).__name__} cannot be copied: {type(error).__name__}: {error}")
        self._frames.append(frame)

    def leave(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        """It ends, or raised."""
        if self._quiet or not self._frames or self._frames[-1].module is not module:
            return
        frame = self._frames.pop()
        if frame.soft is None:
            return
        found = None if frame.again else written_out(frame)
        if found is None:
            self._fail(f"{type(module).__name__} has a softmax that is not one product of queries and keys")
        else:
            self._tell(found)

    def flash(self, call: flash_calls.Call, run: Callable[[], Any]) -> Any:
        """A call of the library's flash function: run it unwatched, and tell of it."""
        if self._quiet:
            return run()
        with self._silence():
            output = run()
        frame = self._frames[-1] if self._frames else None
        factor = frame.factor(call.query) if frame is not None else 1.0
        module = call.module if call.module is not None else frame.module if frame is not None else None
        if module is not None:
            self._tell(
                Found(
                    "flash_attention_2",
                    module,
                    call.repeated(factor),
                    call.query.transpose(1, 2) / factor,
                    call.key.transpose(1, 2),
                    call.value.transpose(1, 2),
                    call.mask,
                    {**call.arguments, PRESCALED: factor},
                    output,
                )
            )
        return output

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch for every operation while the mode is on, which it is not meanwhile."""
        result = func(*args, **(kwargs or {}))
        if self._frames and not self._quiet:
            try:
                self._note(getattr(func, "__name__", ""), args, kwargs or {}, result)
            except Exception as error:  # an onlooker must not break the model's own forward pass
                self._fail(f"an operation could not be followed: {type(error).__name__}: {error}")
        return result

    def _note(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        frame = self._frames[-1]
        if name == _FUSED:
            self._tell(fused(frame, args, kwargs, result))
            return
        if not isinstance(result, Tensor):
            if isinstance(result, tuple | list) and args:
                for part in result:
                    _inherit(frame, part, args[0])
            return
        if name in PRODUCTS:
            left, right = (args[at] if at < len(args) else kwargs[word] for at, word in PRODUCTS[name])
            frame.products.append((left, right, result))
        elif name in _SOFTMAX:
            frame.again = frame.again or frame.soft is not None
            frame.soft, frame.before = result, len(frame.products)
        elif name not in _FRESH:
            _inherit(frame, result, _source(frame, args), _scalar_factor(name, args))

    def _tell(self, found: Found) -> None:
        with self._silence():
            self._sink(found)

    @contextmanager
    def _silence(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before


def _inherit(frame: Frame, result: Any, source: Any, factor: float = 1.0) -> None:
    whole = frame.factor(source) * factor
    if isinstance(result, Tensor) and (whole != 1.0 or id(result) in frame.factors):
        frame.factors[id(result)] = (result, whole)


def _source(frame: Frame, args: tuple[Any, ...]) -> Any:
    """The tensor whose factor the result carries on: the first that has one, in lists (`cat`) too."""
    given = [value for entry in args for value in (entry if isinstance(entry, tuple | list) else (entry,))]
    tensors = [value for value in given if isinstance(value, Tensor)]
    return next((value for value in tensors if frame.factor(value) != 1.0), next(iter(tensors), None))


def _scalar_factor(name: str, args: tuple[Any, ...]) -> float:
    """By what number the operation multiplies its tensor; 1 for all but products and quotients with a number."""
    if name not in _MULTIPLIED | _DIVIDED or len(args) < 2:
        return 1.0
    number = args[1] if isinstance(args[0], Tensor) else args[0]
    if isinstance(number, Tensor) and number.numel() == 1:
        number = float(number.detach())
    if isinstance(number, bool) or not isinstance(number, int | float) or not number:
        return 1.0
    return 1.0 / number if name in _DIVIDED else float(number)
