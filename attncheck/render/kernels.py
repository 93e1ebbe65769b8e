"""The kernels below an implementation in the terminal: which one the GPU ran, which ones refused when forced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.render.wording import first_line
from attncheck.report import Report
from attncheck.semantics.kernel_names import BRIEF, shortened
from attncheck.verdicts import KernelRefusal

#: What the kernels are called that torch's compiler makes of flex_attention, or takes for it.
_COMPILED_FLEX = ("triton_", "flash")


def sections(report: Report) -> list[RenderableType]:
    """Nothing where no profiler saw a kernel: on a CPU there is none to name."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for style in ("bold", "", "dim"):
        grid.add_column(style=style)
    for row in rows(report):
        grid.add_row(*row)
    if not grid.row_count:
        return []
    return [Text("Kernels that ran (profiler)", style="bold underline"), Padding(grid, (0, 0, 0, 2))]


def rows(report: Report) -> Iterator[tuple[str, str, str]]:
    """(implementation, kernel, what was launched or why it refused); none where no profiler saw a kernel.

    Names that differ only in what is cut off are one row; JSON has all of them in full.
    """
    if not any(entry.launched for entry in report.implementations):
        return
    for entry in report.implementations:
        yield from dict.fromkeys(
            (entry.name, launched.kernel or _by_itself(entry.name, launched.name), shortened(launched.name, BRIEF))
            for launched in entry.launched
        )
        for kernel, text in _refused(entry.refusals):
            yield entry.name, kernel, text


def _by_itself(implementation: str, launched: str) -> str:
    """Compare reads flex_attention uncompiled: what ran then is not the kernel that its users run."""
    compiled = implementation != "flex_attention" or any(mark in launched for mark in _COMPILED_FLEX)
    return "chosen by itself" if compiled else "uncompiled"


def _refused(refusals: Iterable[KernelRefusal]) -> list[tuple[str, str]]:
    """One line a kernel: in how many scenarios it refused, and why first."""
    kernels: dict[str, list[KernelRefusal]] = {}
    for refusal in refusals:
        kernels.setdefault(refusal.kernel, []).append(refusal)
    lines = []
    for kernel, found in kernels.items():
        scenarios = dict.fromkeys(name for refusal in found for name in refusal.scenarios)
        lines.append((kernel, f"refuses in {', '.join(scenarios)}: {first_line(found[0].reason)}"))
    return lines
