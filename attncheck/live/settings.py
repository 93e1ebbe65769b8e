"""What `verify` was asked for, and what one look at a model gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attncheck.errors import UsageError
from attncheck.semantics.observation import Method, ScenarioRun
from attncheck.semantics.spec import Part

#: Bytes that reading may add to a forward pass without gradients: a few outputs of one attention layer of a model of
#: 8 billion parameters on a batch of 4 x 4096 tokens.
DEFAULT_MEMORY = 1 << 30
METHODS = ("auto", "interface", "perturbation")
USES = ("generate", "train")
#: The scenario of the user's own batch.
YOURS = "your-batch"


@dataclass(frozen=True, slots=True)
class Settings:
    """What `verify` was asked for; the fields are its arguments, documented there."""

    forward: Callable[[Any, Mapping[str, Any]], Any] | None = None
    layers: tuple[int, ...] | None = None
    method: str = "auto"
    fit: bool = True
    use: str | None = None
    packing: bool | None = None
    seq_len: int | None = None
    memory: int = DEFAULT_MEMORY
    implementation: str = ""
    declared: Any = None
    seed: int = 0
    fail_on: str = "error"

    def check(self) -> None:
        """Raise UsageError for a value that means nothing."""
        for name, value, known in (("method", self.method, METHODS), ("use", self.use or USES[0], USES)):
            if value not in known:
                raise UsageError(f"verify: {name}={value!r}: expected one of {', '.join(known)}")
        if self.fail_on not in ("error", "warning", "note", "never"):
            raise UsageError(f"verify: fail_on={self.fail_on!r}: expected error, warning, note or never")
        if not isinstance(self.memory, int) or self.memory < 1 << 20:
            raise UsageError(f"verify: memory={self.memory!r}: expected bytes, at least {1 << 20} (1 MiB)")
        if self.layers is not None and not (self.layers and all(isinstance(n, int) and n >= 0 for n in self.layers)):
            raise UsageError(f"verify: layers={self.layers!r}: expected layer numbers, counted from 0, or None")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one look at a model gave: the runs, and how they were come by.

    read: (part, layer) -> method, of layers that were read; alike: those whose calls repeat one that was read. need:
    bytes that the largest reading took at most. singly, keys: keys read one by one, of all. dtypes: of the queries.
    dropout: largest rate in train mode. words: the batch in words. remarks: what was left out, and why.
    """

    runs: tuple[ScenarioRun, ...]
    read: Mapping[tuple[Part, int], Method]
    alike: Mapping[tuple[Part, int], tuple[Part, int]]
    need: int = 0
    singly: int = 0
    keys: int = 0
    dtypes: frozenset[str] = frozenset()
    dropout: float = 0.0
    words: str = ""
    remarks: tuple[str, ...] = ()
