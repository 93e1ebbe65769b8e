"""The API that a step names, loaded once a process and bound to device and dtype; and what counts as its refusal."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attncheck.backends.interface import Api, Ask, Attend
from attncheck.probe.apis import known
from attncheck.probe.reading.kernel import Call
from attncheck.probe.refusal import FAULTS, first_sentence, innermost, module_of, on_raise_statement, out_of_memory
from attncheck.semantics.observation import Rejected

#: What libraries raise to say that they do not support something (with a TypeError for an argument they do not know).
REFUSALS = (ValueError, NotImplementedError, ImportError, RuntimeError)
#: Remarks of a library that are added to its refusal, at most.
_REMARKS = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """One API as it is probed here, on this device.

    dtype: of the tensors. seed: of what they hold. grouped: False where it takes as many kv heads as query heads only.
    """

    api: Api
    attend: Attend
    device: str
    dtype: torch.dtype
    seed: int = 0
    grouped: bool = True

    @property
    def dtype_name(self) -> str:
        """The short name that torch gives the dtype."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def on_cpu(self) -> bool:
        """Sizes are kept small there."""
        return self.device == "cpu"

    def using(self, dtype: torch.dtype) -> Subject:
        """The same in another dtype."""
        return replace(self, dtype=dtype)

    def bound(self, arguments: Mapping[str, Any]) -> Call:
        """The callable with these arguments of its own."""
        return functools.partial(self.attend, **arguments)

    def asked(self, ask: Ask, q_len: int, kv_len: int) -> Call:
        """The callable that computes `ask`. Raises `Inexpressible` when the API has no words for it."""
        return self.bound(self.arguments(ask, q_len, kv_len))

    def arguments(self, ask: Ask, q_len: int, kv_len: int) -> Mapping[str, Any]:
        """The API's own arguments for `ask`. Raises `Inexpressible`."""
        spelled = self.api.spell(ask, q_len, kv_len)
        if isinstance(spelled, Rejected):
            raise Inexpressible("; ".join(reason.text for reason in spelled.reasons))
        return spelled


class Inexpressible(Exception):
    """The API has no argument for what was asked."""


class Refused(Exception):
    """The library raised and said why."""

    value = "refused"


class NoBackward(Refused):
    """The output carries no gradient although its inputs ask for one."""

    value = "no backward"

    def __init__(self) -> None:
        super().__init__("the output carries no gradient")


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what counts as a refusal of a kernel library into `Refused`; let everything else through."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        try:
            yield
        except Exception as error:
            if not refuses(error):
                raise
            said = dict.fromkeys(str(remark.message).strip().splitlines()[0].partition(". ")[0] for remark in remarks)
            raise Refused("; ".join((first_sentence(error), *tuple(said)[:_REMARKS]))) from error


def refuses(error: Exception) -> bool:
    """True when a kernel library says by this exception that it does not serve the call.

    Kernel libraries announce limits by RuntimeError (TORCH_CHECK in their C++ half), assertions with a text and the
    usual Python types. Errors of the device, exhausted memory, slips in their code (AttributeError, IndexError ...) and
    anything raised by the probe itself are no refusals.
    """
    if out_of_memory(error) or any(fault in str(error) for fault in FAULTS):
        return False
    if isinstance(error, TypeError):
        return "unexpected keyword argument" in str(error)
    frame = innermost(error.__traceback__)
    if frame is not None and module_of(frame).startswith("attncheck.probe.") and on_raise_statement(frame):
        return False
    if isinstance(error, AssertionError):
        return bool(str(error))
    return isinstance(error, REFUSALS) or "NotSupported" in type(error).__name__


def subject(name: str, arguments: Mapping[str, Any]) -> Subject:
    """The API of that name, loaded. arguments: fields of `Subject`, and plugins, modules that each offer a `BACKEND`.

    Raises whatever loading raises, KeyError for an API that does not exist.
    """
    api, attend = _loaded(name, tuple(arguments.get("plugins", ())))
    dtype = getattr(torch, str(arguments.get("dtype", "float32")))
    device, seed = str(arguments.get("device", "cpu")), int(arguments.get("seed", 0))
    return Subject(api, attend, device, dtype, seed, bool(arguments.get("grouped", True)))


@functools.cache  # importing a kernel library once is enough, and some cannot be imported twice
def _loaded(name: str, plugins: tuple[str, ...]) -> tuple[Api, Attend]:
    _, api = known(plugins)[name]
    return api, api.load()


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same batch x heads x tokens x width values, lying in memory as the library wants its own tensors."""
    return values if layout == "bhsd" else values.transpose(1, 2).contiguous().transpose(1, 2)
