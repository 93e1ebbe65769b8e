"""Which kernel APIs are timed, in which order, and why others cannot run here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

from attncheck.backends import interface as backends
from attncheck.backends.interface import Api, Backend
from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.frameworks import transformers as framework
from attncheck.probe import baselines
from attncheck.probe.apis import known
from attncheck.semantics.observation import Rejected

#: Where the baselines come from; a user's own modules are added.
PLUGINS = (baselines.__name__,)
#: First in every report: what others are compared with.
_FIRST = (baselines.EAGER, baselines.SDPA)

Table = Mapping[str, tuple[Backend, Api]]


def kernel_modules(plugins: Sequence[str]) -> tuple[str, ...]:
    """Those that offer a `BACKEND` with kernel APIs; others register attention functions with transformers.

    Raises UsageError for a module that cannot be imported.
    """
    try:
        return tuple(name for name in plugins if hasattr(importlib.import_module(name), "BACKEND"))
    except Exception as error:  # whatever a user's module raises
        raise UsageError(f"--plugin {', '.join(plugins)}: {type(error).__name__}: {error}") from None


def table(plugins: Sequence[str] = ()) -> Table:
    """API name -> (its backend, the API) of all that run a kernel, baselines first. plugins: of `kernel_modules`."""
    found = {name: entry for name, entry in known((*PLUGINS, *plugins)).items() if not entry[1].stand_in}
    order = [*(name for name in _FIRST if name in found), *(name for name in found if name not in _FIRST)]
    return {name: found[name] for name in order}


def check(names: Sequence[str], apis: Table, plugins: Sequence[str]) -> None:
    """Raise UsageError for a name that is neither an API nor an implementation of transformers."""
    implementations = framework.implementations()
    for name in names:
        if name not in apis and name not in implementations and not plugins:
            raise UsageError(
                f"--impl {name}: there is no such kernel API or implementation",
                f"kernels: {', '.join(apis)}; implementations for the layer level: {', '.join(implementations)}",
            )


def lacks(name: str, apis: Table, environment: Environment, device: str, dtype: str) -> str:
    """Why an API cannot run here whatever the sizes, "" where nothing known speaks against it."""
    backend, api = apis[name]
    if device not in api.devices:
        return f"it runs on {', '.join(api.devices)} only"
    if dtype not in api.dtypes:
        return f"it takes {', '.join(api.dtypes)}, not {dtype}"
    verdict = backend.decide(name, environment, backends.Call(device=device, dtype=dtype))
    if not isinstance(verdict, Rejected):
        return ""
    return verdict.said
