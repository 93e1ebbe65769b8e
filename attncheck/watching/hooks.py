"""Import hooks of a watched process: the watch is loaded when the first library with attention has been imported.

Runs in every Python process of a watched script, so it imports nothing but what Python has loaded already.
"""

from __future__ import annotations

import os
import sys
from typing import Any

#: Modules after whose import something is replaced, see `watching.apis`. Modeling files of transformers are told by
#: their names. (`torch` itself, not torch.nn.functional: the library shall be whole when the watch is loaded.)
WATCHED = (
    "torch",
    "flash_attn.flash_attn_interface",
    "flash_attn_interface",
    "flash_attn.cute.interface",
    "xformers.ops.fmha",
    "transformers.modeling_utils",
)
_MODELS = ("transformers.models.", "transformers_modules.")

_state: dict[str, Any] = {"spool": "", "session": None, "broken": False}


def is_watched(name: str) -> bool:
    """True for a module after whose import the watch has something to do."""
    return name in WATCHED or (name.startswith(_MODELS) and name.rpartition(".")[2].startswith("modeling_"))


class Finder:
    """Finds nothing itself: lets the other finders find, and has the loader call back when the module is complete."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        """What the next finder says, with a loader that tells the watch afterwards."""
        if not is_watched(name):
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is Finder or find is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                _tell_afterwards(name, spec.loader)
                return spec
        return None


def _tell_afterwards(name: str, loader: Any) -> None:
    run = getattr(loader, "exec_module", None)
    if run is None:
        return

    def exec_module(module: Any) -> None:
        loader.__dict__.pop("exec_module", None)
        run(module)
        _loaded(name, module)

    try:
        loader.exec_module = exec_module  # on this one object: who asks for its type still gets the usual one
    except AttributeError as error:
        _broken(error)


def start(spool: str) -> None:
    """Watch this process; what it records goes into files in that folder."""
    _state["spool"] = spool
    sys.meta_path.insert(0, Finder)


def _loaded(name: str, module: Any) -> None:
    if _state["broken"]:
        return
    try:
        if _state["session"] is None:
            _find_attncheck()
            from attncheck.watching.session import Session

            _state["session"] = Session(_state["spool"])
        _state["session"].loaded(name, module)
    except Exception as error:
        _broken(error)


def _find_attncheck() -> None:
    """Make the attncheck that started the run importable, whatever environment the script runs in."""
    if "attncheck" in sys.modules:
        return
    from importlib.util import module_from_spec, spec_from_file_location

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = spec_from_file_location(
        "attncheck", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["attncheck"] = module
    spec.loader.exec_module(module)


def _broken(error: BaseException) -> None:
    """The script goes on without the watch; the report says why."""
    _state["broken"] = True
    try:
        with open(os.path.join(_state["spool"], f"broken-{os.getpid()}.txt"), "a") as file:
            file.write(f"the watch could not be attached: {type(error).__name__}: {error}\n")
    except Exception:
        pass
