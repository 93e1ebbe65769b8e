"""Who must not be called fast: kernels that a short check found wrong, implementations that `compare` found wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from attncheck import pipeline
from attncheck.checks.shape_results import Fault, wrong
from attncheck.errors import AttnCheckError
from attncheck.findings import Finding, Severity
from attncheck.pipeline import CompareOptions
from attncheck.probe.scenario import scenarios
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Crashed, NotRun, Rejected
from attncheck.semantics.shape import ShapeReading
from attncheck.semantics.timing import BenchCase
from attncheck.semantics.workload import cells

#: Tokens of a check where no window says otherwise: several tiles of every known kernel.
SHORT = 256
#: Longest check that shows the end of a window; a longer window is not reached. A CPU would take seconds.
LONGEST, LONGEST_ON_CPU = 8192, 1024
#: Window and chunk of checks of padded and packed inputs, which are compared whole and so must be short.
SMALL = 64
#: Tokens beyond the window, as in `probe.kernels.shapes`.
_MARGIN = 128


def checked_case(case: BenchCase, device: str) -> BenchCase:
    """The short case that stands for one to time: the same API, heads, widths, terms, dtype and kind of inputs.

    Plain inputs are long enough to show the end of the window where that is affordable.
    """
    whole = case.inputs != "plain" or case.chunk is not None
    length = SHORT
    if whole:
        left, right = (None if side is None else min(side, SMALL - 1) for side in (case.window.left, case.window.right))
        window = replace(case.window, left=left, right=right)
        case = replace(case, window=window, chunk=None if case.chunk is None else min(case.chunk, SMALL))
    else:
        reach = max(case.window.left or 0, case.window.right or 0)
        wanted = -(-(reach + 1 + _MARGIN) // 128) * 128 if reach else SHORT
        if wanted <= (LONGEST_ON_CPU if device == "cpu" else LONGEST):
            length = max(SHORT, wanted)
    short = replace(
        case, batch=2 if case.inputs == "padded" else 1, q_len=1 if case.phase == "decode" else length, kv_len=length
    )
    return replace(short, cells=cells(short))


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a check. fault: why it must not be timed as it is; refused, crashed, not_run: in words."""

    reading: ShapeReading | None = None
    refused: str = ""
    crashed: str = ""
    not_run: str = ""

    def fault(self, backward: bool) -> Fault | None:
        """What is wrong with it; wrong gradients do not concern a forward."""
        if self.reading is None:
            return None
        found = next(wrong(self.reading, training=True), None)
        return None if found is not None and found.slug == "gradient-mismatch" and not backward else found


def checked(outcome: object) -> Checked:
    """From a step of the job "bench-check"."""
    if isinstance(outcome, tuple):
        reading: ShapeReading = outcome[0]
        if reading.outcome is Outcome.REFUSED:
            return Checked(refused="; ".join(reason.text for reason in reading.reasons))
        return Checked(reading)
    if isinstance(outcome, Rejected):
        return Checked(refused="; ".join(reason.text for reason in outcome.reasons))
    if isinstance(outcome, Crashed):
        memory = "out of memory: " if outcome.kind == "memory" else ""
        return Checked(crashed=f"{memory}{outcome.reason}")
    reason = outcome.reason if isinstance(outcome, NotRun) else f"unexpected answer: {outcome!r}"
    return Checked(not_run=reason)


class LayerVerdicts:
    """The findings of `compare` about a target, gathered in a thread beside the timing of kernels.

    On the CPU, so that nothing but the timed kernels runs on the GPU: flash implementations are judged by their
    documented contract, what their kernels do is judged by the checks of the kernels.
    """

    def __init__(self, options: CompareOptions, implementations: tuple[str, ...]) -> None:
        core = tuple(scenario.name for scenario in scenarios() if scenario.core)
        self._options = replace(options, device="cpu", dtype=None, impl=implementations, scenario=core)
        self._findings: tuple[Finding, ...] = ()
        self._failure = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._findings = pipeline.compare(self._options).findings
        except AttnCheckError as error:
            self._failure = error.message
        except Exception as error:  # the bench goes on without
            self._failure = f"{type(error).__name__}: {error}"

    def result(self) -> tuple[Mapping[str, tuple[Finding, ...]], str]:
        """(implementation -> its error findings, why there are none to be had)."""
        self._thread.join()
        errors: dict[str, tuple[Finding, ...]] = {}
        for finding in self._findings:
            if finding.implementation is not None and finding.severity is Severity.ERROR:
                errors[finding.implementation] = (*errors.get(finding.implementation, ()), finding)
        return errors, self._failure


def of_layer(findings: tuple[Finding, ...], layer: int | None) -> Finding | None:
    """The first error that concerns a real layer."""
    return next((found for found in findings if not found.layers or layer is None or layer in found.layers), None)
