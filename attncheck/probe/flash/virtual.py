"""Puts the plain-torch flash contract behind transformers' flash path, so that its real glue runs without a GPU.

What is then read is what transformers *asks* of flash attention (un-padding, lengths, window, causality, softcap,
sinks); kernel bugs and limits cannot show. Verdicts from here have the basis "predicted".
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from attncheck.probe.flash import padding
from attncheck.probe.flash.signatures import FUNCTIONS, Functions

_ABSENT = object()
_GLUE = "transformers.modeling_flash_attention_utils"
_INTERFACE = "transformers.integrations.flash_attention"
_ASKED = "is_flash_attn_greater_or_equal"


class VirtualFlashUnsupported(Exception):
    """The installed transformers has no place where the contract could be put; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class FlashCall:
    """What one call asked of the kernel. window: as passed, None when it was not. sinks: a sink tensor was passed."""

    varlen: bool
    causal: bool
    window: tuple[int | None, int | None] | None
    softcap: float | None
    scale: float | None
    sinks: bool


@dataclass(slots=True)
class VirtualFlash:
    """An installed contract; `calls` grows with every kernel call.

    No call after a forward pass means that the model never took the flash path: nothing may be concluded about it.
    """

    implementation: str
    calls: list[FlashCall] = field(default_factory=list)


def supports(implementation: str) -> bool:
    """True for the names that have a contract."""
    return implementation in FUNCTIONS


@contextmanager
def installed(implementation: str, model: Any = None) -> Iterator[VirtualFlash]:
    """Put the contract in place while the block runs, then restore every name, class and attribute.

    implementation: flash_attention_2, _3 or _4. The model must carry that name on its configs (it may have been built
    with eager); give it as `model` so that types which choose a flash class when they are built get that class.
    Raises VirtualFlashUnsupported when the installed transformers has no seam for it. Not re-entrant across threads.
    """
    if implementation not in FUNCTIONS:
        raise VirtualFlashUnsupported(f"no flash contract for {implementation!r}, only for {', '.join(FUNCTIONS)}")
    if implementation not in _known_names():
        raise VirtualFlashUnsupported(f"this transformers does not know {implementation}")
    glue = shared_file()
    if glue is None and model is None:
        raise VirtualFlashUnsupported(f"this transformers has no {_GLUE}; its model files have flash code of their own")
    handle = VirtualFlash(implementation)
    functions = _recorded(FUNCTIONS[implementation], handle.calls)
    names = {} if glue is None else _seam(glue)(glue, implementation, functions)
    with ExitStack() as stack:
        for name, value in names.items():
            stack.enter_context(replaced(glue, name, value))
        _enter_interface(stack, model)
        if model is not None:
            _enter_classes(stack, model, glue, functions)
        yield handle


def shared_file() -> ModuleType | None:
    """The file that all model files share, since 4.43."""
    try:
        return importlib.import_module(_GLUE)
    except ImportError:
        return None


def _known_names() -> set[str]:
    """Before 4.48 there is no registry, and one name that the code spells out."""
    library = importlib.import_module("transformers.modeling_utils")
    return set(getattr(library, "ALL_ATTENTION_FUNCTIONS", {"flash_attention_2": None}).keys())


def _recorded(functions: Functions, calls: list[FlashCall]) -> Functions:
    def record(function: Callable[..., Any], varlen: bool) -> Callable[..., Any]:
        @functools.wraps(function)  # keeps the signature that transformers inspects
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            calls.append(
                FlashCall(
                    varlen,
                    bool(kwargs.get("causal", False)),
                    kwargs.get("window_size"),
                    kwargs.get("softcap"),
                    kwargs.get("softmax_scale"),
                    kwargs.get("learnable_sink") is not None,
                )
            )
            return result

        return call

    return Functions(record(functions.dense, False), record(functions.varlen, True))


# Where the contract goes --------------------------------------------------------------------------

Seam = Callable[[ModuleType, str, Functions], dict[str, Any]]


def _seam(glue: ModuleType) -> Seam:
    """The way in, found by the names that exist, not by version. Private names: each way guards all it needs."""
    if hasattr(glue, "lazy_import_flash_attention") and hasattr(glue, "_lazy_define_process_function"):
        return _lazy_slots
    if hasattr(glue, "_flash_supports_window") and hasattr(glue, "_lazy_imports"):
        return _lazy_globals
    if hasattr(glue, "flash_attn_2_func") and hasattr(glue, "_flash_supports_window_size"):
        return _numbered_functions
    if hasattr(glue, "_upad_input") and not hasattr(glue, "_lazy_imports"):
        return _imported_functions
    raise VirtualFlashUnsupported(f"{_GLUE} has none of the known private entry points (4.43 to 5.23)")


def _lazy_slots(glue: ModuleType, implementation: str, functions: Functions) -> dict[str, Any]:
    """4.55 and later: cached function slots; transformers' own reading of the signature gives the argument filter."""
    pad, unpad = _padding(glue, implementation, ("_pad_input", "_unpad_input"))
    slots = {
        "_loaded_implementation": implementation,
        "_flash_fn": functions.dense,
        "_flash_varlen_fn": functions.varlen,
        "_flash_with_kvcache_fn": None,  # paged generation only, which no probe uses
        "_pad_fn": pad,
        "_unpad_fn": unpad,
        "_process_flash_kwargs_fn": glue._lazy_define_process_function(functions.varlen),
        "_process_with_kvcache_kwargs_fn": dict,
    }
    present = {name: value for name, value in slots.items() if hasattr(glue, name)}
    if missing := {"_flash_fn", "_flash_varlen_fn", "_pad_fn", "_unpad_fn", "_process_flash_kwargs_fn"} - set(present):
        raise VirtualFlashUnsupported(f"{_GLUE} lacks {', '.join(sorted(missing))}")
    return present


def _lazy_globals(glue: ModuleType, implementation: str, functions: Functions) -> dict[str, Any]:
    """4.54: the forward function itself creates globals at its first call and then believes them."""
    pad, unpad = _padding(glue, implementation, ("_fa3_pad_input", "_fa3_unpad_input"))
    return {
        "_flash_fn": functions.dense,
        "_flash_varlen_fn": functions.varlen,
        "_pad_fn": pad,
        "_unpad_fn": unpad,
        "_is_fa3": implementation == "flash_attention_3",
        "_flash_supports_window": True,
    }


def _numbered_functions(glue: ModuleType, implementation: str, functions: Functions) -> dict[str, Any]:
    """4.53: one set of module names a flash version."""
    number = implementation[-1]
    pad, unpad = _padding(glue, implementation, ("_fa3_pad_input", "_fa3_unpad_input"))
    return {
        f"flash_attn_{number}_func": functions.dense,
        f"flash_attn_{number}_varlen_func": functions.varlen,
        f"pad_input_fa{number}": pad,
        f"unpad_input_fa{number}": unpad,
        "flash_attn_func": functions.dense,
        "flash_attn_varlen_func": functions.varlen,
        "pad_input": pad,
        "unpad_input": unpad,
        "HAS_FA3": number == "3",
        "_flash_supports_window_size": True,
        "flash_241": True,
        "deterministic_g": False,
    }


def _imported_functions(glue: ModuleType, implementation: str, functions: Functions) -> dict[str, Any]:
    """4.43 to 4.52: names that exist only where `import flash_attn` worked."""
    return {**_imported(glue, functions), "flash_241": True}


def _imported(module: ModuleType, functions: Functions) -> dict[str, Any]:
    """What a file holds after `import flash_attn`, and what its questions for the package's version are answered."""
    asked = [name for name in vars(module) if name.startswith(_ASKED)]
    return {
        "flash_attn_func": functions.dense,
        "flash_attn_varlen_func": functions.varlen,
        "index_first_axis": padding.index_first_axis,
        "pad_input": padding.pad_input,
        "unpad_input": padding.unpad_input,
        "_flash_supports_window_size": True,
        **dict.fromkeys(asked, _yes),
    }


def _yes(*_: Any) -> bool:
    return True


def _padding(glue: ModuleType, implementation: str, own: tuple[str, str]) -> tuple[Any, Any]:
    """FA2 brings its padding functions along; for the others transformers uses its own."""
    if implementation == "flash_attention_2":
        return padding.pad_input, padding.unpad_input
    return getattr(glue, own[0]), getattr(glue, own[1])


# What else a machine without flash-attn gets wrong ------------------------------------------------


def _enter_interface(stack: ExitStack, model: Any) -> None:
    try:
        interface = importlib.import_module(_INTERFACE)
    except ImportError:  # before 4.48
        return
    if hasattr(interface, "_use_top_left_mask"):
        # Decided at import from the package's version; True there means "flash-attn older than 2.1".
        stack.enter_context(replaced(interface, "_use_top_left_mask", False))
    # In float32 the interface asks the first nn.Linear of the attention module for a dtype, and a module without one
    # (GPT-2's Conv1D) ends in StopIteration. No real kernel meets that: in half precision nothing is asked.
    if (original := getattr(interface, "get_target_dtype", None)) is not None:

        @functools.wraps(original)
        def target_dtype(query: Any, module: Any) -> Any:
            try:
                return original(query, module)
            except StopIteration:
                return None

        stack.enter_context(replaced(interface, "get_target_dtype", target_dtype))
    elif model is not None:
        for module in model.modules():
            if hasattr(module, "is_causal") and hasattr(module, "config") and not _has_linear(module):
                # The other place where older releases look for that dtype.
                stack.enter_context(replaced(module.config, "_pre_quantization_dtype", model.dtype))


def _has_linear(module: Any) -> bool:
    import torch

    return any(isinstance(child, torch.nn.Linear) for child in module.modules())


def _enter_classes(stack: ExitStack, model: Any, glue: ModuleType | None, functions: Functions) -> None:
    """Complete the types with flash code of their own: the class of their modules, and what its file imports."""
    done: set[str] = set()
    for module in model.modules():
        source = sys.modules.get(type(module).__module__)
        if source is None:
            continue
        flash_class = _flash_class(source, type(module))
        if flash_class is not None:
            if type(module) is not flash_class:
                stack.enter_context(replaced(module, "__class__", flash_class))
            # Set by constructors from the package's version; True there means "flash-attn older than 2.1", or none.
            stack.enter_context(replaced(module, "_flash_attn_uses_top_left_mask", False))
        if (flash_class is None and not _flash_function(source)) or source.__name__ in done:
            continue
        done.add(source.__name__)
        for name, value in _imported(source, functions).items() if glue is None else _shared(source, glue).items():
            stack.enter_context(replaced(source, name, value))


def _shared(source: ModuleType, glue: ModuleType) -> dict[str, Any]:
    """4.43 to 4.47: what a file imports where flash-attn is available, and asks of its version (Gemma2's softcap)."""
    names: dict[str, Any] = {name: _yes for name in vars(source) if name.startswith(_ASKED)}
    if not hasattr(source, "_flash_attention_forward"):
        names["_flash_attention_forward"] = glue._flash_attention_forward
    return names


def _flash_function(source: ModuleType) -> bool:
    """True for files of 4.47 that define a function an implementation (Gemma2, GPT-NeoX) instead of a class."""
    own = vars(source).get("flash_attention_forward")
    return own is not None and getattr(own, "__module__", "") == source.__name__


def _flash_class(source: ModuleType, current: type) -> type | None:
    """The flash class of the type that `current` is an attention class of; one serves every flash version."""
    for name, classes in vars(source).items():
        if name.endswith("_ATTENTION_CLASSES") and isinstance(classes, dict) and current in classes.values():
            flash = classes.get("flash_attention_2")
            return flash if isinstance(flash, type) else None
    return None


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute (absent ones too) and put the old state back."""
    names: MutableMapping[str, Any] = vars(owner)
    before = getattr(owner, name) if name == "__class__" else names.get(name, _ABSENT)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
