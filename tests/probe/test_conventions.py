"""The parent's side of the convention table: every API in its worker, and a crash of one ends nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from attncheck.probe import apis, conventions
from attncheck.probe.jobs import Jobs, JobsEnded, processes
from attncheck.probe.protocol import Job, StepDone
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.observation import NotRun
from tests import builders

PLUGINS = ("tests.plugins.fake_apis",)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    with Jobs(60.0) as jobs:
        yield jobs


def read(jobs: Jobs, *only: str) -> tuple[tuple[Convention, ...], dict[str, Ability]]:
    rows, abilities = conventions.read(jobs, builders.ENVIRONMENT, "cpu", only=only, plugins=PLUGINS)
    return rows, {ability.feature: ability for ability in abilities}


def test_every_spelling_at_every_length(jobs: Jobs) -> None:
    rows, abilities = read(jobs, "fake-inclusive")
    assert [(row.call, row.q_len, row.kv_len) for row in rows[:4]] == [
        ("window=(8, 0)", 64, 64),
        ("window=(8, 0)", 32, 64),
        ("window=(8, 0)", 64, 32),
        ("window=(-1, 0)", 64, 64),
    ]
    assert len(rows) == 11
    assert all(row.outcome is Outcome.READ and row.agrees in (True, None) for row in rows)
    assert list(abilities) == [
        *("dtype", "head_dim", "gqa", "softcap", "sinks", "alibi", "empty-rows", "backward", "determinism")
    ]
    assert abilities["dtype"].value == "float32, float16, bfloat16, float64"
    assert abilities["head_dim"].value == "8 .. 512, (192, 128), (576, 512)"
    assert abilities["empty-rows"].value == "bool: 0; -inf: 0; finfo.min: 0; more queries than keys: 0"


def test_the_width_that_is_wrong_is_named(jobs: Jobs) -> None:
    _, abilities = read(jobs, "fake-width-80")
    assert abilities["head_dim"].value == "8 .. 64, 96 .. 512, (192, 128), (576, 512); wrong: 80"
    assert abilities["head_dim"].agrees is False
    assert abilities["dtype"].agrees is True


def test_a_death_is_the_result_of_its_step_only(jobs: Jobs) -> None:
    """It dies of SIGSEGV in calls with window=(8, 0), and where values are 80 wide."""
    rows, abilities = read(jobs, "fake-dying")
    by_call = {(row.call, row.q_len): row for row in rows if row.q_len == row.kv_len}
    dead = by_call["window=(8, 0)", 64]
    assert (dead.outcome, dead.agrees, dead.basis) == (Outcome.CRASHED, None, None)
    assert "SIGSEGV" in dead.detail
    assert dead.expected == "9 keys: 8 back, 0 ahead"
    others = [row for row in rows if row.call == "window=(8, 0)" and row.q_len != row.kv_len]
    assert {(row.outcome, row.detail) for row in others} == {(Outcome.NOT_RUN, "it crashed at equal lengths")}
    assert {row.agrees for row in rows if row.call == "window=(-1, 0)"} == {True}, "one that does not die is read"
    assert "80 crashed: the process died of SIGSEGV" in abilities["head_dim"].detail
    assert abilities["head_dim"].value == "8 .. 64, 96 .. 512, (192, 128), (576, 512)"
    assert abilities["gqa"].agrees is True
    assert abilities["backward"].outcome is Outcome.CRASHED


def test_slips_and_failed_imports(jobs: Jobs) -> None:
    rows, abilities = read(jobs, "fake-slipping")
    assert {row.outcome for row in rows if row.q_len == row.kv_len} == {Outcome.CRASHED}
    assert "KeyError" in rows[0].detail
    assert {ability.outcome for ability in abilities.values()} == {Outcome.CRASHED}
    rows, abilities = read(jobs, "fake-unloadable")
    (row,) = rows
    assert (row.call, row.outcome) == ("fake.fake-unloadable", Outcome.CRASHED)
    assert "libfake.so: cannot open shared object file" in row.detail
    assert not abilities


def test_a_refusal_is_no_crash(jobs: Jobs) -> None:
    rows, abilities = read(jobs, "fake-refusing")
    assert {(row.outcome, row.detail) for row in rows} == {(Outcome.REFUSED, "FakeAttention only supports fp8")}
    assert {ability.outcome for ability in abilities.values()} == {Outcome.REFUSED}


def test_an_exception_in_a_dtype_that_is_not_documented_is_a_refusal(jobs: Jobs) -> None:
    _, abilities = read(jobs, "fake-two-dtypes")
    assert (abilities["dtype"].value, abilities["dtype"].agrees) == ("float32, bfloat16", True)
    assert "float16 refused: KeyError: torch.float16" in abilities["dtype"].detail
    assert "it documents float32, bfloat16" in abilities["dtype"].detail
    assert "crashed" not in abilities["dtype"].detail
    _, abilities = read(jobs, "fake-slipping")
    assert "float32, bfloat16 crashed: KeyError" in abilities["dtype"].detail


@pytest.mark.parametrize(("api", "how"), [("fake-half-faults", "CUDA error"), ("fake-half-dies", "SIGSEGV")])
def test_a_dtype_that_breaks_the_device_or_the_process_is_a_crash_though_it_is_not_documented(
    jobs: Jobs, api: str, how: str
) -> None:
    _, abilities = read(jobs, api)
    assert "float16 crashed: " in abilities["dtype"].detail
    assert how in abilities["dtype"].detail
    assert "float64 refused: KeyError" in abilities["dtype"].detail


def test_a_library_without_operators_is_one_row(jobs: Jobs) -> None:
    rows, abilities = read(jobs, "fake-no-operators")
    (row,) = rows
    assert (row.call, row.question, row.outcome) == ("fake.fake-no-operators", "", Outcome.REFUSED)
    assert row.detail == "imports, but none of its operators can be used: built for torch 1, here torch 2"
    assert not abilities


def test_what_refuses_grouped_heads_is_read_without_them(jobs: Jobs) -> None:
    rows, abilities = read(jobs, "fake-ungrouped")
    assert {(row.outcome, row.agrees) for row in rows} <= {(Outcome.READ, True), (Outcome.READ, None)}
    assert {row.figures["kv heads"] for row in rows} == {4}
    assert abilities["gqa"].value == "no grouped heads: refused"
    assert {ability.outcome for name, ability in abilities.items() if name != "gqa"} == {Outcome.READ}


def test_what_compiles_for_a_minute_is_read_only_when_it_is_named(jobs: Jobs) -> None:
    told = Told()
    rows, _ = conventions.read(told, builders.ENVIRONMENT, "cpu", plugins=PLUGINS)  # type: ignore[arg-type]
    (row,) = [row for row in rows if row.api == "fake-slow"]
    assert row.outcome is Outcome.NOT_RUN
    assert row.detail == (
        "each new call compiles for about 100 s: attncheck doctor --api fake-slow reads it, --thorough everything"
    )
    assert "fake-slow" not in told.processes
    rows, named = read(jobs, "fake-slow")
    assert len(rows) == 11
    assert {row.outcome for row in rows} == {Outcome.READ}
    left_out = {name for name, ability in named.items() if ability.outcome is Outcome.NOT_RUN}
    assert left_out == {"head_dim", "softcap", "sinks", "alibi", "empty-rows", "backward", "determinism"}
    assert {(named[name].detail, named[name].basis, named[name].agrees) for name in left_out} == {
        ("each new call compiles for about 100 s: attncheck doctor --api fake-slow --thorough", None, None)
    }
    assert named["gqa"].value == "interleaved"
    assert named["dtype"].value == "float32, float16, bfloat16; float64 not tried"


def test_what_compiles_for_seconds_is_not_tried_at_every_width_and_says_so(jobs: Jobs) -> None:
    _, abilities = read(jobs, "fake-compiled")
    widths = abilities["head_dim"]
    assert (widths.value, widths.agrees) == ("64, 128, 256; 12 others not tried", True)
    assert widths.figures["right"] == "64, 128, 256"
    assert str(widths.figures["not tried"]).startswith("8, 16, 32, 40, 80, ")
    assert widths.detail.endswith(
        "512, (192, 128), (576, 512) not run: each new call compiles for about 5 s: attncheck doctor --thorough"
    )
    assert {ability.outcome for ability in abilities.values()} == {Outcome.READ}
    _, full = conventions.read(
        jobs, builders.ENVIRONMENT, "cpu", only=("fake-compiled",), plugins=PLUGINS, thorough=True
    )
    assert [a.value for a in full if a.feature == "head_dim"] == ["8 .. 512, (192, 128), (576, 512)"]


def test_a_stand_in_shows_what_numbers_mean_and_no_abilities(jobs: Jobs) -> None:
    rows, abilities = read(jobs, "fake-stand-in")
    assert {row.outcome for row in rows} == {Outcome.READ}
    assert not abilities


def test_flex_attention_is_read_on_a_cpu_when_it_is_named() -> None:
    """Its compiler works there, but takes ten seconds a call."""
    told = Told()
    rows, _ = conventions.read(told, builders.ENVIRONMENT, "cpu")  # type: ignore[arg-type]
    (row,) = [row for row in rows if row.api == "flex_attention"]
    assert row.detail == (
        "each new call compiles for about 10 s: attncheck doctor --api flex_attention reads it, --thorough everything"
    )
    assert "flex_attention" not in told.processes
    rows, abilities = conventions.read(told, builders.ENVIRONMENT, "cpu", only=("flex_attention",))  # type: ignore[arg-type]
    assert len(rows) == 11
    assert {ability.feature for ability in abilities if "told so" in ability.detail} == {"dtype", "gqa"}
    assert told.processes["flex_attention"] == {(("dynamo", "True"),)}


@pytest.mark.parametrize(
    ("api", "reason"),
    [
        ("fake-rejected", "FakeAttention needs compute capability 42 (cc 9.0)"),
        ("fake-gpu", "runs on cuda only; no GPU here"),
    ],
)
def test_what_cannot_run_here_is_one_row_with_the_reason(jobs: Jobs, api: str, reason: str) -> None:
    rows, abilities = read(jobs, api)
    (row,) = rows
    assert (row.api, row.outcome, row.basis, row.agrees) == (api, Outcome.NOT_RUN, None, None)
    assert row.detail == reason
    assert not abilities


def test_the_kernels_of_torch_on_a_cpu(jobs: Jobs) -> None:
    for api in ("sdpa-math", "sdpa-flash"):
        rows, abilities = read(jobs, api)
        assert all(row.agrees is not False for row in rows)
        assert any(row.keys == 8 for row in rows)
        assert abilities["gqa"].value == "interleaved"
        assert "finfo.min: mean of V" in abilities["empty-rows"].value
        assert abilities["head_dim"].agrees is True
        assert abilities["softcap"].value == "no argument"


def test_a_cpu_machine_has_a_row_for_every_api(jobs: Jobs) -> None:
    rows, _ = conventions.read(jobs, builders.ENVIRONMENT, "cpu")
    assert {row.api for row in rows} == set(apis.known())
    assert all(row.detail for row in rows if row.outcome is Outcome.NOT_RUN)


def test_the_parent_imports_no_torch() -> None:
    code = (
        "import sys; from attncheck.probe import conventions, apis; apis.known(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'flash_attn', 'xformers', 'cudnn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Told:
    """Answers like `Jobs`, in this process and without torch, and writes down which processes would have run."""

    def __init__(self, stop_at: str = "") -> None:
        self.processes: dict[str, set[tuple[tuple[str, str], ...]]] = {}
        self.stop_at = stop_at
        self.ended = threading.Event()

    def run(self, job: Job, *, variables: dict[str, str], dynamo: bool) -> Iterator[StepDone]:
        for step in job.steps:
            self.processes.setdefault(step.split("|")[0], set()).add(
                (*sorted(variables.items()), ("dynamo", str(dynamo)))
            )
            if step.startswith(f"{self.stop_at}|"):
                raise KeyboardInterrupt
            if self.stop_at and not step.endswith("|load"):
                assert self.ended.wait(60)
                raise JobsEnded
            yield StepDone(step, conventions.LOAD if step.endswith("|load") else NotRun("told so"))

    def end(self) -> None:
        self.ended.set()


def test_on_a_gpu_every_library_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setattr(conventions, "processes", lambda: 2)
    rows, abilities = conventions.read(told, builders.GPU_ENVIRONMENT, "cuda", plugins=PLUGINS)  # type: ignore[arg-type]
    assert {row.outcome for row in rows} == {Outcome.NOT_RUN}
    assert {ability.outcome for ability in abilities} == {Outcome.NOT_RUN}
    assert all(len(processes) == 1 for processes in told.processes.values())
    assert told.processes["fake-inclusive"] == told.processes["fake-tiled"] != told.processes["sdpa-math"]
    assert told.processes["fake-variable"] != told.processes["fake-inclusive"]
    order = list(dict.fromkeys(row.api for row in rows))
    assert order == list(apis.known(PLUGINS)), "in the order of the backends, whatever ends first"


def test_with_many_cores_an_api_that_compiles_is_read_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {}
    for lanes in (2, 8):
        told = Told()
        monkeypatch.setattr(conventions, "processes", lambda lanes=lanes: lanes)
        tables[lanes] = conventions.read(told, builders.GPU_ENVIRONMENT, "cuda", plugins=PLUGINS)  # type: ignore[arg-type]
        assert len(told.processes["fake-compiled"]) == (3 if lanes == 8 else 1)
        assert len(told.processes["fake-inclusive"]) == 1
    assert tables[2] == tables[8], "the report does not depend on the number of cores"


def test_what_compiles_is_started_first() -> None:
    told = Told()
    conventions.read(told, builders.GPU_ENVIRONMENT, "cuda", only=("fake-inclusive", "fake-compiled"), plugins=PLUGINS)  # type: ignore[arg-type]
    assert next(iter(told.processes)) == "fake-compiled"


@pytest.mark.parametrize(("cores", "expected"), [(1, 2), (4, 2), (8, 4), (16, 8), (128, 8)])
def test_processes_at_a_time(cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert processes() == expected


def test_an_interruption_ends_the_other_threads() -> None:
    told = Told(stop_at="fake-inclusive")
    only = ("fake-inclusive", "sdpa-math")
    with pytest.raises(KeyboardInterrupt):
        conventions.read(told, builders.GPU_ENVIRONMENT, "cuda", only=only, plugins=PLUGINS)  # type: ignore[arg-type]
    assert told.ended.is_set()
