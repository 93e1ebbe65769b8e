"""The flash-attention packages that each release of TransformerEngine takes, and which backend it prefers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.version import Version

from attncheck.frameworks.transformer_engine_params import FLASH_2, FLASH_3, FLASH_4


@dataclass(frozen=True, slots=True)
class Accepts:
    """The flash-attn 2 that a release takes. since: first release. lowest, highest: inclusive; below: exclusive end.

    blackwell: lowest from compute capability 10.0 on. required: the release cannot be imported without flash-attn.
    """

    since: str
    lowest: str
    highest: str = ""
    below: str = ""
    blackwell: str = ""
    required: bool = False

    def takes(self, version: Version, capability: tuple[int, int]) -> bool:
        """That flash-attn is used on such a GPU."""
        lowest = self.blackwell if self.blackwell and capability >= (10, 0) else self.lowest
        return (
            Version(lowest) <= version
            and (not self.highest or version <= Version(self.highest))
            and (not self.below or version < Version(self.below))
        )

    @property
    def words(self) -> str:
        """The range, to be read."""
        return (
            f">= {self.lowest}"
            + (f", <= {self.highest}" if self.highest else "")
            + (f", < {self.below}" if self.below else "")
        )


#: Newest first. 1.9 to 1.11 import whatever flash-attn they find from `lowest` on, and need one.
ACCEPTS = (
    Accepts("2.19", "2.1.1", below="2.8.4", blackwell="2.7.3"),
    Accepts("2.11", "2.1.1", highest="2.8.3", blackwell="2.7.3"),
    Accepts("2.8", "2.1.1", highest="2.8.1", blackwell="2.7.3"),
    Accepts("2.1", "2.1.1", highest="2.7.4.post1", blackwell="2.7.3"),
    Accepts("1.12", "2.1.1", highest="2.6.3"),
    Accepts("1.9", "2.0.6", required=True),
)

#: First release that knows a flash-attention package, by the distribution it looks for.
KNOWS_SINCE = {FLASH_2: "1.9", FLASH_3: "1.11", FLASH_4: "2.16"}

#: On these the fused backend is preferred where both could run: on Hopper alone before 2.1, on it and later ones since.
PREFERS_FUSED: tuple[tuple[str, Callable[[tuple[int, int]], bool]], ...] = (
    ("2.1", lambda capability: capability >= (9, 0)),
    ("1.9", lambda capability: capability == (9, 0)),
)
