"""One window number given to two kernels, measured before and after the fix: the TransformerEngine incident as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WindowIncident:
    """Two kernels asked with the same window number, and again with the corrected one.

    window: the number. shape: words ("batch 2, 2048 tokens, 64 heads, head_dim 64, float16, softmax_scale 1.0").
    first, second: API names. before, after: largest absolute difference of their outputs with the same number, and with
    one added to the second's. usual_before, usual_after: the same at the usual scale 1/sqrt(head_dim). cells: (query,
    key) visible to one and not to the other with the same number, as read by identity values: how many, the distance
    query - key that they all share (None when they do not), and the first query concerned. cells_after: how many are
    left after the fix. versions: library -> version. kernels: API -> launched kernel.

    exact: the cells are key i - window of every query i >= window, all of them and no other; None when it was not read.
    heads_agree: every head of every batch row showed the same cells. keys: API -> keys that an inner query sees with
    the same number. words: API -> the call as its user writes it, with the same number and corrected.
    others: pairs of further APIs asked for the same window in one convention ("te-flash - te-fused") -> largest
    difference. remarks: what could not be measured, and why.
    """

    window: int
    shape: str
    first: str
    second: str
    before: float
    after: float
    usual_before: float
    usual_after: float
    cells: int
    distance: int | None
    first_query: int | None
    cells_after: int
    versions: Mapping[str, str] = field(default_factory=dict)
    kernels: Mapping[str, str] = field(default_factory=dict)
    exact: bool | None = None
    heads_agree: bool | None = None
    keys: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def reproduced(self) -> bool:
        """The same number hides exactly key i - window of every later query, and one more brings it back."""
        return bool(self.exact) and self.cells > 0 and self.cells_after == 0 and self.before > self.after
