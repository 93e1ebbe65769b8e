"""Attaches the watch of `attncheck run` to a Python process, then runs the sitecustomize that it stands before.

Python imports this file at its start because its folder is the first on PYTHONPATH. Nothing here may fail: an error
would end up on the script's standard error, so it goes into the record, or nowhere.
"""

import os
import sys


def _attach(here: str) -> None:
    """Start the import hooks; no library and no other module of attncheck is loaded before they fire."""
    spool = os.environ.get("ATTNCHECK_WATCH")
    if not spool:
        return
    try:
        from importlib.machinery import SourceFileLoader
        from types import ModuleType

        path = os.path.join(os.path.dirname(here), "hooks.py")
        hooks = ModuleType("_attncheck_hooks")
        hooks.__file__ = path
        code = SourceFileLoader("_attncheck_hooks", path).get_code("_attncheck_hooks")
        assert code is not None
        exec(code, vars(hooks))
        hooks.start(spool)
    except BaseException as error:
        try:
            with open(os.path.join(spool, f"broken-{os.getpid()}.txt"), "a") as file:
                file.write(f"the watch could not be attached: {type(error).__name__}: {error}\n")
        except Exception:
            pass


def _run_the_hidden_one(here: str) -> None:
    """Import the user's own sitecustomize as if this file were not there; what it raises passes through."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None or os.path.dirname(os.path.abspath(spec.origin or "")) == here:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_here = os.path.dirname(os.path.abspath(__file__))
# Off the path before anything else: the script must find what it would have found. Child processes have PYTHONPATH.
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _here]
_attach(_here)
_run_the_hidden_one(_here)
