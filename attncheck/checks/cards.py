"""What the limits of kernel libraries say of one GPU alone, whatever else is plugged in beside it."""

from __future__ import annotations

from dataclasses import replace

from attncheck.backends import interface as backends
from attncheck.backends.torch_limits import newest_capability
from attncheck.environment import Environment
from attncheck.gpus import Gpu
from attncheck.semantics.observation import Reason, Rejected

#: First compute capability that computes with bfloat16 (CUDA C++ Programming Guide: arithmetic by compute capability).
BFLOAT16_SINCE = (8, 0)


def usual_call(environment: Environment) -> backends.Call:
    """The call of most models on this device: bfloat16, and float16 where no GPU computes with bfloat16."""
    newest = newest_capability(environment)
    if newest is None:
        return backends.Call("cpu", "bfloat16")
    return backends.Call("cuda", "bfloat16" if newest >= BFLOAT16_SINCE else "float16")


def refusals(environment: Environment, gpu: Gpu, implementation: str) -> tuple[Reason, ...]:
    """What stands against one of transformers' implementations on a machine with that GPU alone, empty for nothing."""
    alone = replace(environment, gpus=(gpu,))
    verdict = backends.decide(implementation, alone, usual_call(alone))
    return verdict.reasons if isinstance(verdict, Rejected) else ()


def refused_by_all(environment: Environment, gpu: Gpu, library: str) -> tuple[Reason, ...]:
    """The first refusal of a library that refuses that GPU in each of its functions, empty where one would run.

    library: the name of a backend, which is that of its distribution ("flash-attn"); of others nothing is known.
    """
    alone = replace(environment, gpus=(gpu,))
    verdicts = [
        backend.decide(api.name, alone, usual_call(alone))
        for backend in backends.find()
        for api in backend.apis
        if backend.name == library
    ]
    refused = [verdict.reasons for verdict in verdicts if isinstance(verdict, Rejected)]
    return refused[0] if refused and len(refused) == len(verdicts) else ()
