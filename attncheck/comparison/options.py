"""What `compare` was asked for: whether all of it exists, where probes run, and how it is typed again."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.frameworks import transformers as framework
from attncheck.frameworks.settings_file import shown
from attncheck.probe.scenario import every_scenario


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What `attncheck compare` was asked for. Empty tuples mean "all that apply"; None means "not said".

    without: what must not run ("flash"). bench: a JSON report of `attncheck bench` whose times order what is right.
    assignments, unchecked: `key=value` texts of --set and --set-unknown. seq_len: tokens. timeout: seconds of silence
    allowed to one scenario. framework, framework_version: names as on the command line; framework_set: `key=value`
    texts of its settings, arguments: those behind a settings file. settings_file: the target as it was typed, where the
    model was found in it. weights: dtype that the settings load the model in, which counts where `dtype` is not said;
    "" unknown.
    """

    target: str
    impl: tuple[str, ...] = ()
    scenario: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    seq_len: int | None = None
    use: str = "generate"
    packing: bool = False
    device: str = "auto"
    dtype: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    plugins: tuple[str, ...] = ()
    offline: bool = False
    timeout: float = 120.0
    seed: int = 0
    framework: str | None = None
    framework_version: str | None = None
    framework_set: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    settings_file: str = ""
    weights: str = ""
    without: tuple[str, ...] = ()
    bench: str | None = None
    given: Mapping[str, Any] | None = None


def scenario_names(asked: Sequence[str]) -> tuple[str, ...]:
    """The scenarios to run, in the order of the report; empty asks for all. Raises UsageError for an unknown one."""
    known = {scenario.name: scenario for scenario in every_scenario()}
    if strange := [name for name in asked if name not in known]:
        raise UsageError(f"--scenario {strange[0]}: there is no such scenario", f"choose from {', '.join(known)}")
    return tuple(name for name, scenario in known.items() if (name in asked if asked else not scenario.on_request))


def check_implementations(options: CompareOptions) -> None:
    """Raise UsageError for an implementation that nothing could register."""
    known = framework.implementations()
    strange = [name for name in options.impl if name not in known]
    if strange and not options.plugins:  # with plug-ins, it may be a name that they register
        raise UsageError(
            f"--impl {strange[0]}: there is no such implementation",
            f"choose from {', '.join(known)}, or name the module that registers it with --plugin",
        )


def check_plugins(modules: Sequence[str]) -> None:
    """Raise UsageError for a module that does not exist."""
    for module in modules:
        try:
            missing = importlib.util.find_spec(module) is None
        except (ImportError, ValueError):
            missing = True
        if missing:
            raise UsageError(f"--plugin {module}: there is no such module", "put its folder on PYTHONPATH")


def device_and_dtype(options: CompareOptions, environment: Environment) -> tuple[str, str]:
    """Device and dtype of the probes: on a GPU that of the user's run, on a CPU float32, which reads exactly."""
    device = options.device if options.device != "auto" else ("cuda" if environment.gpus else "cpu")
    if device == "cuda" and not environment.gpus:
        raise UsageError(
            f"--device cuda: no GPU is visible ({environment.gpu_note or 'NVML lists none'})", "--device cpu"
        )
    return device, options.dtype or (run_dtype(options) if device == "cuda" else "float32")


def run_dtype(options: CompareOptions) -> str:
    """The dtype that the user would run: as said, else as a settings file says, else bfloat16."""
    return options.dtype or options.weights or "bfloat16"


def retyped(options: CompareOptions) -> str:
    """The target and its overrides as they are typed, for commands to paste."""
    flags = [
        *(("--set", text) for text in options.assignments),
        *(("--set-unknown", text) for text in options.unchecked),
        *(("--plugin", module) for module in options.plugins),
    ]
    return " ".join((shlex.quote(options.target), *(f"{flag} {shlex.quote(text)}" for flag, text in flags)))


def arguments_of(options: CompareOptions, dtype: str, device: str) -> dict[str, str]:
    """What the run was asked, as text, for the report's header."""
    said = {
        "settings": " ".join(
            (options.settings_file, *(shown(text) for text in (*options.arguments, *options.framework_set)))
        ).strip(),
        "set": " ".join((*options.assignments, *options.unchecked)),
        "seq_len": str(options.seq_len or ""),
        "use": options.use if options.use != "generate" else "",
        "packing": "yes" if options.packing else "",
        "without": ", ".join(options.without),
        "bench": options.bench or "",
    }
    return {"dtype": dtype, "device": device, **{key: value for key, value in said.items() if value}}
