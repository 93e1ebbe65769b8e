"""Whole runs on the CPU with made kernels in real workers: nothing wrong is called fast, nothing measured is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from attncheck.bench import gate, layers, plan, run, target
from attncheck.bench.options import BenchOptions
from attncheck.errors import UsageError
from attncheck.findings import Finding, Severity
from attncheck.probe.client import Prober
from attncheck.probe.jobs import Jobs
from attncheck.report import Report
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Crashed, NotRun, Reason, Rejected
from attncheck.semantics.timing import BenchCell

OPTIONS = BenchOptions(
    device="cpu",
    masks=("causal",),
    passes=("forward",),
    seq_lens=(64, 320),
    batch=1,
    plugins=("tests.plugins.bench_kernels",),
    timeout=60.0,
)


class Kept(Jobs):
    """Workers that outlive a run: starting one costs seconds."""

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def workers() -> Iterator[Jobs]:
    kept = Kept(60.0)
    yield kept
    kept.end()


@pytest.fixture(scope="module", autouse=True)
def shared(workers: Jobs) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Jobs", lambda *_, **__: workers)
        yield


def bench(*names: str, after_each: Callable[[Report], None] = lambda _: None, **changes: Any) -> Report:
    return run.bench(replace(OPTIONS, impl=names, **changes), partial=lambda made: after_each(made()))


def of(report: Report, name: str) -> list[BenchCell]:
    assert report.bench is not None
    return [cell for cell in report.bench.cells if cell.case.subject == name]


def by_length(report: Report, name: str) -> dict[int, set[Outcome]]:
    found: dict[int, set[Outcome]] = {}
    for cell in of(report, name):
        found.setdefault(cell.case.kv_len, set()).add(cell.outcome)
    return found


@pytest.fixture(scope="module")
def report(shared: None) -> tuple[Report, Sequence[Report]]:
    seen: list[Report] = []
    names = ("made-right", "eager", "made-runs-out", "made-slips", "made-refuses-long", "made-absent", "made-for-gpus")
    return bench(*names, "made-unloadable", after_each=seen.append), seen


def test_every_case_has_a_cell(report: tuple[Report, Sequence[Report]]) -> None:
    found, _ = report
    assert found.bench is not None
    assert found.bench.complete
    assert found.command == "bench"
    for name in ("made-right", "eager"):
        assert len(of(found, name)) == 6
        assert all(cell.outcome is Outcome.READ and cell.n >= 1 and cell.first_call for cell in of(found, name))
        assert all(cell.to_eager and cell.to_best and cell.matrix_share for cell in of(found, name))
    assert all(cell.to_eager == 1 for cell in of(found, "eager"))
    assert found.exit_code == 0


def test_what_ran_out_of_memory_is_not_tried_at_longer_lengths(shared: None) -> None:
    found = bench("made-runs-out", "made-right", seq_lens=(64, 320, 384), passes=("forward",), masks=("causal",))
    became = {cell.case.kv_len: cell for cell in of(found, "made-runs-out")}
    assert [became[length].outcome for length in (64, 320, 384)] == [Outcome.READ, Outcome.CRASHED, Outcome.NOT_RUN]
    assert became[384].detail == "out of memory at 320 tokens already"
    assert {cell.outcome for cell in of(found, "made-right")} == {Outcome.READ}


def test_what_breaks_is_a_result_and_the_run_goes_on(report: tuple[Report, Sequence[Report]]) -> None:
    found, _ = report
    assert by_length(found, "made-runs-out") == {64: {Outcome.READ}, 320: {Outcome.CRASHED}}
    assert all("out of memory" in cell.detail for cell in of(found, "made-runs-out") if cell.case.kv_len == 320)
    assert by_length(found, "made-slips") == {64: {Outcome.READ}, 320: {Outcome.CRASHED}}
    assert "KeyError" in of(found, "made-slips")[-1].detail
    assert by_length(found, "made-refuses-long") == {64: {Outcome.READ}, 320: {Outcome.REFUSED}}
    assert {cell.outcome for cell in of(found, "made-unloadable")} == {Outcome.CRASHED}
    assert "libmade.so" in of(found, "made-unloadable")[0].detail


def test_what_cannot_run_here_is_said_once(report: tuple[Report, Sequence[Report]]) -> None:
    found, _ = report
    (absent,) = of(found, "made-absent")
    assert (absent.outcome, absent.detail) == (Outcome.NOT_RUN, "made is not installed")
    (elsewhere,) = of(found, "made-for-gpus")
    assert elsewhere.detail == "it runs on cuda only"


def test_cells_are_handed_out_as_they_come(report: tuple[Report, Sequence[Report]]) -> None:
    found, seen = report
    assert found.bench is not None
    counts = [len(entry.bench.cells) for entry in seen if entry.bench is not None]
    assert counts == list(range(1, len(found.bench.cells) + 1))
    assert not any(entry.bench.complete for entry in seen if entry.bench is not None)


def test_time_is_accounted_for(report: tuple[Report, Sequence[Report]]) -> None:
    found, _ = report
    assert found.bench is not None
    assert 0 < found.bench.timed <= found.bench.wall
    assert found.bench.rates is not None
    assert found.bench.rates.matrix
    assert found.bench.rates.copy


def test_a_wrong_kernel_gets_no_speed() -> None:
    found = bench("made-no-softcap", "made-wrong-gradient", passes=("forward", "backward"), seq_lens=(64,))
    cells = of(found, "made-wrong-gradient")
    assert {(cell.case.backward, cell.excluded, cell.median is None) for cell in cells} == {
        (False, "", False),
        (True, "gradient-mismatch", True),
    }
    errors = [finding for finding in found.findings if finding.severity is Severity.ERROR]
    assert {(finding.slug, finding.kernel) for finding in errors} == {("gradient-mismatch", "made-wrong-gradient")}
    assert found.exit_code == 1


def test_wrong_kernels_on_request() -> None:
    found = bench("made-wrong-gradient", passes=("backward",), seq_lens=(64,), include_wrong=True)
    cells = of(found, "made-wrong-gradient")
    assert all(cell.excluded == "gradient-mismatch" and cell.median for cell in cells)
    assert all(cell.to_best is None for cell in cells)
    assert found.findings


def test_the_death_of_a_worker_costs_its_case_only() -> None:
    found = bench("made-dies", "made-right", seq_lens=(64, 320))
    assert by_length(found, "made-dies")[64] == {Outcome.READ}
    assert Outcome.READ not in by_length(found, "made-dies")[320]
    assert "SIGSEGV" in next(cell.detail for cell in of(found, "made-dies") if cell.outcome is Outcome.CRASHED)
    assert by_length(found, "made-right") == {64: {Outcome.READ}, 320: {Outcome.READ}}


def test_a_kernel_without_a_backward_keeps_its_forward() -> None:
    found = bench("made-forward-only", passes=("forward", "backward"), seq_lens=(64,))
    became = {cell.case.backward: cell.outcome for cell in of(found, "made-forward-only")}
    assert became == {False: Outcome.READ, True: Outcome.REFUSED}


def test_padding_and_documents_go_through_a_mask_or_their_ends() -> None:
    found = bench("made-right", "made-packed", "made-bshd", inputs=("padded", "packed"), seq_lens=(64,))
    for name in ("made-right", "made-packed"):
        assert {cell.outcome for cell in of(found, name)} == {Outcome.READ}
    assert {cell.outcome for cell in of(found, "made-bshd")} == {Outcome.REFUSED}
    assert "inputs: no argument for mask" in of(found, "made-bshd")[0].detail


def test_interrupted_it_keeps_what_it_has() -> None:
    def stop(so_far: Report) -> None:
        if so_far.bench is not None and len(so_far.bench.cells) == 3:
            raise KeyboardInterrupt

    found = bench("made-right", after_each=stop)
    assert found.bench is not None
    assert not found.bench.complete
    assert len(found.bench.cells) == 3
    assert found.bench.rates is not None


def test_usage_errors_come_before_any_work() -> None:
    with pytest.raises(UsageError):
        run.bench(BenchOptions(impl=("no-such-kernel",)))


@pytest.mark.parametrize(
    ("outcome", "field", "words"),
    [
        (Rejected((Reason("no"),)), "refused", "no"),
        (Crashed("signal", "died"), "crashed", "died"),
        (Crashed("memory", "80 GiB"), "crashed", "out of memory: 80 GiB"),
        (NotRun("later"), "not_run", "later"),
    ],
)
def test_checks_that_gave_nothing(outcome: object, field: str, words: str) -> None:
    assert getattr(gate.checked(outcome), field) == words


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, worker: Prober) -> Callable[..., Report]:
    """A small mistral, layer level, with what `compare` is said to find."""

    def bench_model(*findings: Finding, **changes: Any) -> Report:
        compared: list[Any] = []

        def compare(options: Any, *_: Any) -> Report:
            compared.append(options)
            assert options.device == "cpu"
            assert "packed" not in options.scenario
            return Report("compare", "0", made.environment, findings=findings)

        class Shared:
            def __enter__(self) -> Prober:
                return worker

            def __exit__(self, *_: object) -> None:
                pass

        monkeypatch.setattr(target, "Prober", lambda *_, **__: Shared())
        made = bench("made-absent")
        monkeypatch.setattr(gate.pipeline, "compare", compare)
        sizes = ("hidden_size=64", "num_attention_heads=4", "num_key_value_heads=2", "sliding_window=32")
        usual: dict[str, Any] = {"impl": ("eager", "sdpa", "flash_attention_2"), "seq_lens": (96,)}
        options = BenchOptions(
            target="mistral",
            device="cpu",
            assignments=sizes,
            passes=("forward",),
            timeout=60.0,
            offline=True,
            **{**usual, **changes},
        )
        return run.bench(options)

    return bench_model


def test_layers_of_a_model(model: Callable[..., Report]) -> None:
    wrong = Finding("ATC101", "window-ignored", Severity.ERROR, "sdpa ignores it", None, "sdpa", layers=(0, 1))
    found = model(wrong)
    assert found.model is not None
    eager, decode = (cell for cell in of(found, "eager") if cell.case.level == "layer")
    assert eager.outcome is Outcome.READ
    assert (decode.outcome, decode.case.phase, decode.case.q_len) == (Outcome.READ, "decode", 1)
    assert "extending the cache" in decode.detail
    assert decode.copy_share is None
    assert eager.case.mask == "window 32"
    assert "MistralModel" in eager.detail
    inside = [cell for cell in of(found, "sdpa") if cell.case.level == "layer"]
    assert [(cell.excluded, cell.median) for cell in inside] == [("window-ignored", None)] * 2
    assert wrong in found.findings
    (flash,) = of(found, "flash_attention_2")
    assert flash.outcome is Outcome.NOT_RUN
    assert {cell.case.phase for cell in of(found, "sdpa") if cell.case.level == "kernel"} == {"prefill", "decode"}


@pytest.mark.parametrize("asked", [True, False])
def test_what_compiles_for_long_is_timed_at_longer_lengths_only_when_asked_for(
    model: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    monkeypatch.setattr(layers, "LONG_FIRST_CALL", 0.0)
    monkeypatch.setattr(plan, "_implementations", lambda *_: ("eager",))
    found = model(impl=("eager",) if asked else (), levels=("layer",), phases=("prefill",), seq_lens=(32, 64))
    short, longer = of(found, "eager")
    assert short.outcome is Outcome.READ
    assert longer.outcome is (Outcome.READ if asked else Outcome.NOT_RUN)
    assert ("the first call at 32 tokens took" in longer.detail) is not asked


def test_errors_about_other_layers_do_not_count(model: Callable[..., Report]) -> None:
    elsewhere = Finding("ATC101", "window-ignored", Severity.ERROR, "elsewhere", None, "sdpa", layers=(77,))
    warned = Finding("ATC101", "packing-leak", Severity.WARNING, "at risk", None, "sdpa", layers=(0,))
    found = model(elsewhere, warned, levels=("layer",))
    assert [cell.outcome for cell in of(found, "sdpa")] == [Outcome.READ] * 2
    assert found.findings == ()
