"""Every kernel API that can be probed: those of the backends, and those of further modules that a caller names."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from attncheck.backends import interface
from attncheck.backends.interface import Api, Backend


def known(plugins: Sequence[str] = ()) -> dict[str, tuple[Backend, Api]]:
    """API name -> (its backend, the API). plugins: modules that each offer a `BACKEND`; theirs win over equal names."""
    found = interface.apis()
    for module in plugins:
        backend: Backend = importlib.import_module(module).BACKEND
        found.update({api.name: (backend, api) for api in backend.apis})
    return found
