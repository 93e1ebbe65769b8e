"""How the import of one installed library ended, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attncheck.semantics.observation import Crashed


class Cause(str, Enum):
    """Why an import failed, as far as it can be told. HANG: it stood in one place; SLOW: it had no more time."""

    UNDEFINED_SYMBOL = "undefined-symbol"
    MISSING_LIBRARY = "missing-library"
    OLD_SYSTEM_LIBRARY = "old-system-library"
    DAMAGED_LIBRARY = "damaged-library"
    MISSING_MODULE = "missing-module"
    MISSING_NAME = "missing-name"
    SIGNAL = "signal"
    HANG = "hang"
    SLOW = "slow"
    EXIT = "exit"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ImportTrial:
    """One import in a process of its own.

    module: what was imported. failure: None where it succeeded; its reason is one readable line. cause and subject:
    what is missing: the symbol as the loader spells it, the library, module or name; "" where nothing is named.
    readable: the symbol demangled, or subject. where: the file that needs it or that the import was in, relative to its
    place on the path, with the line where one is known ("flash_attn/cute/tile_scheduler.py:41"). complaints: what the
    library wrote while it was imported that says that a part of it will not work.
    operation: the operation that was tried after the import, "" for none. operation_failure: how that broke.
    """

    module: str
    failure: Crashed | None = None
    cause: Cause | None = None
    subject: str = ""
    readable: str = ""
    where: str = ""
    complaints: tuple[str, ...] = ()
    operation: str = ""
    operation_failure: Crashed | None = None
