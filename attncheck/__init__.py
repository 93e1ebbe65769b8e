"""attncheck: does the attention that runs equal the attention that the model declares?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from attncheck.errors import AttnCheckError, FindingsError
    from attncheck.live.comparing import compare
    from attncheck.live.showing import save, text
    from attncheck.live.trainer import AttnCheckCallback
    from attncheck.live.verify import verify
    from attncheck.live.watch import AttentionChanged, watch
    from attncheck.report import Report

#: Public name -> the module that has it. Loaded when it is first used: the command line shall start without them.
_PUBLIC = {
    "AttentionChanged": "attncheck.live.watch",
    "AttnCheckCallback": "attncheck.live.trainer",
    "AttnCheckError": "attncheck.errors",
    "FindingsError": "attncheck.errors",
    "Report": "attncheck.report",
    "compare": "attncheck.live.comparing",
    "save": "attncheck.live.showing",
    "text": "attncheck.live.showing",
    "verify": "attncheck.live.verify",
    "watch": "attncheck.live.watch",
}

__all__ = [
    "AttentionChanged",
    "AttnCheckCallback",
    "AttnCheckError",
    "FindingsError",
    "Report",
    "__version__",
    "compare",
    "save",
    "text",
    "verify",
    "watch",
]


def __getattr__(name: str) -> Any:
    """A public name, from its module (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'attncheck' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *_PUBLIC})
