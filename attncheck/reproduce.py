"""The use case of `doctor --reproduce`: run a published incident again on this machine and report what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import attncheck
from attncheck.backends.interface import Api, Backend, Call
from attncheck.environment import Environment, read_environment
from attncheck.errors import NoVerdictError, UsageError
from attncheck.report import Report
from attncheck.semantics.incident import WindowIncident
from attncheck.semantics.observation import Crashed, NotRun, Rejected

if TYPE_CHECKING:
    from attncheck.probe.jobs import Jobs
    from attncheck.probe.protocol import StepDone

TE_WINDOW = "te-window"
#: Name -> what it shows.
INCIDENTS = {TE_WINDOW: "one window number, given to flash-attn 2 and to cuDNN (TransformerEngine #1197)"}

#: The two kernels of the incident, and TransformerEngine's own backends, which are measured beside them.
FIRST, SECOND = "flash-attn-2", "cudnn-graph"
FURTHER = ("te-flash", "te-fused", "te-unfused")
#: Distributions whose version stands in the report.
VERSIONS = (
    "torch",
    "flash-attn",
    "nvidia-cudnn-frontend",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "transformer-engine",
)

GPU_WANTED = "run it on a machine with an NVIDIA GPU of compute capability 8.0 or newer"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """The shape and scale of the published report. length: tokens. scale: factor on q.k before softmax."""

    batch: int = 2
    length: int = 2048
    heads: int = 64
    head_dim: int = 64
    dtype: str = "float16"
    scale: float = 1.0
    device: str = "cuda"
    seed: int = 0


#: TransformerEngine issue #1197: softmax_scale 1.0 is what makes the difference as large as 4.88.
PUBLISHED = Setting()
PUBLISHED_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class ReproduceOptions:
    """What was asked for. window: the number that both kernels get. timeout: seconds of silence allowed to a step."""

    name: str
    window: int = PUBLISHED_WINDOW
    timeout: float = 300.0


def asked(
    name: str | None, window: int | None, timeout: float = 300.0, *, beside: Mapping[str, object] | None = None
) -> ReproduceOptions | None:
    """The options as typed, None when nothing is to be reproduced. beside: options of `doctor` that exclude it.

    Raises UsageError for what does not exist or does not go together.
    """
    if name is None:
        if window is not None:
            raise UsageError(
                f"--window {window} belongs to --reproduce",
                f"attncheck doctor --reproduce {TE_WINDOW} --window {window}",
            )
        return None
    if name not in INCIDENTS:
        listed = ", ".join(f"{known_name} ({text})" for known_name, text in INCIDENTS.items())
        raise UsageError(
            f"--reproduce {name!r} is not a known incident; there are: {listed}",
            f"attncheck doctor --reproduce {TE_WINDOW}",
        )
    if others := [option for option, given in (beside or {}).items() if given]:
        raise UsageError(
            f"--reproduce runs kernels and no checks: {others[0]} cannot go with it", f"leave out {others[0]}"
        )
    options = ReproduceOptions(name, PUBLISHED_WINDOW if window is None else window, timeout)
    if not 1 <= options.window < PUBLISHED.length:
        raise UsageError(
            f"--window {window} is outside 1 .. {PUBLISHED.length - 1} (the incident is measured at "
            f"{PUBLISHED.length} tokens)",
            f"attncheck doctor --reproduce {TE_WINDOW} --window {PUBLISHED_WINDOW}",
        )
    return options


def reproduce(
    options: ReproduceOptions,
    progress: Progress = lambda _: None,
    *,
    setting: Setting = PUBLISHED,
    plugins: tuple[str, ...] = (),
) -> Report:
    """Measure the incident here. plugins: modules that each offer a further `BACKEND` (tests bring kernels this way).

    Raises NoVerdictError when one of the two kernels cannot run here, refuses or breaks; the message says why.
    """
    import tempfile

    from attncheck.probe.apis import known  # here, since every doctor loads this module to look at its options
    from attncheck.probe.jobs import Jobs
    from attncheck.probe.protocol import Job

    progress("reading what is installed")
    environment = read_environment()
    apis = known(plugins)
    call = _call(setting)
    if setting.device == "cuda" and not environment.gpus:
        why = environment.gpu_note or "none is visible"
        raise NoVerdictError(f"{options.name} was NOT RUN: it needs a GPU ({why})", GPU_WANTED)
    if refusals := tuple(_refusals(apis, (FIRST, SECOND), environment, call)):
        raise NoVerdictError(
            f"{options.name} was NOT RUN: {'; '.join(dict.fromkeys(refusals))}", _what_helps(environment)
        )
    arguments = {**asdict(setting), "window": options.window, "first": FIRST, "second": SECOND, "plugins": plugins}
    with Jobs(options.timeout) as jobs, tempfile.TemporaryDirectory(prefix="attncheck-") as folder:
        arguments["folder"] = folder
        pair = _outcome(jobs.run(Job(TE_WINDOW, ("pair",), arguments), progress=progress))
        if not isinstance(pair, WindowIncident):
            raise NoVerdictError(f"{options.name} reached no verdict: {_why(pair)}", "attncheck doctor")
        others, remarks = _further(jobs, apis, environment, arguments, call, progress)
    incident = replace(
        pair,
        versions={name: version for name in VERSIONS if (version := environment.version(name)) is not None},
        others=others,
        remarks=remarks,
    )
    return Report(
        command="doctor",
        version=attncheck.__version__,
        environment=environment,
        arguments={"--reproduce": options.name, "--window": str(options.window)},
        incident=incident,
    )


def _further(
    jobs: Jobs,
    apis: Mapping[str, tuple[Backend, Api]],
    environment: Environment,
    arguments: Mapping[str, Any],
    call: Call,
    progress: Progress,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """(differences between TransformerEngine's own backends at the same window, remarks on what did not run)."""
    from attncheck.probe.protocol import Job

    remarks: list[str] = []
    refused: dict[str, list[str]] = {}
    ran = []
    for name in FURTHER:
        if refusals := tuple(_refusals(apis, (name,), environment, call)):
            refused.setdefault("; ".join(refusals), []).append(name)
            continue
        job = Job(TE_WINDOW, (name,), arguments)
        outcome = _outcome(jobs.run(job, variables=apis[name][1].environment, progress=progress))
        if isinstance(outcome, str):
            ran.append(name)
        else:
            remarks.append(f"{name} gave nothing to compare: {_why(outcome)}")
    remarks += [f"{', '.join(names)}: NOT RUN, {why}" for why, names in refused.items()]
    if len(ran) < 2:
        return {}, tuple(remarks)
    outcome = _outcome(jobs.run(Job(TE_WINDOW, ("others",), arguments), progress=progress))
    if not isinstance(outcome, Mapping):
        return {}, (*remarks, f"the outputs of {', '.join(ran)} were not compared: {_why(outcome)}")
    return dict(outcome), tuple(remarks)


def _call(setting: Setting) -> Call:
    return Call(
        setting.device,
        setting.dtype,
        setting.head_dim,
        window=True,
        num_heads=setting.heads,
        num_kv_heads=setting.heads,
        q_len=setting.length,
        kv_len=setting.length,
        causal=True,
    )


def _refusals(
    apis: Mapping[str, tuple[Backend, Api]], names: Iterable[str], environment: Environment, call: Call
) -> Iterable[str]:
    for name in names:
        if name not in apis:
            yield f"there is no API {name}"
            continue
        verdict = apis[name][0].decide(name, environment, call)
        if isinstance(verdict, Rejected):
            yield from (reason.said for reason in verdict.reasons)


def _outcome(answers: Iterable[StepDone]) -> object:
    """What the only step of a job gave."""
    return next(iter(list(answers))).outcome


def _why(outcome: object) -> str:
    if isinstance(outcome, Rejected):
        return "; ".join(reason.text for reason in outcome.reasons)
    if isinstance(outcome, (Crashed, NotRun)):
        return outcome.reason
    return f"an answer that was not expected ({type(outcome).__name__})"


def _what_helps(environment: Environment) -> str:
    missing = [name for name in ("flash-attn", "nvidia-cudnn-frontend") if environment.version(name) is None]
    return f"pip install {' '.join(missing)}" if missing else "attncheck doctor"
