"""What the parts of LLaMA-Factory's resolver share: the run that is resolved, and the chain of steps that is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attncheck.environment import Environment
from attncheck.frameworks import llama_factory_keys
from attncheck.frameworks.llama_factory_versions import Release, release
from attncheck.frameworks.plugin import Asked, LogWarning, ModelFacts, Remark, Step, SubModel

#: Where the steps were read; the same files from 0.8.2 to 0.9.5.
ATTENTION = "model/model_utils/attention.py, configure_attn_implementation"
LOADER = "model/loader.py, load_model"
LONGLORA = "model/model_utils/longlora.py, configure_longlora"
PARSER = "hparams/parser.py, get_train_args"
#: Shown in reports, in this order, where they are set.
SHOWN = (
    "model_name_or_path", "model", "flash_attn", "shift_attn", "packing", "neat_packing", "use_unsloth", "use_kt",
    "stage", "do_train", "cutoff_len", "per_device_train_batch_size", "bf16", "fp16", "infer_backend",
    "micro_batch_size", "batching_strategy",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a resolution rests on. settings: checked and typed."""

    asked: Asked
    settings: Mapping[str, Any]
    version: str
    version_from: str
    environment: Environment
    facts: ModelFacts

    @property
    def release(self) -> Release:
        """What that version does, as data."""
        return release(self.version)

    @property
    def trainable(self) -> bool:
        """`is_trainable` of LLaMA-Factory: training, not inference."""
        return llama_factory_keys.trains(self.asked, self.settings)

    @property
    def named(self) -> str:
        """The framework with its version, for sentences."""
        return f"LLaMA-Factory {self.version}"

    def text(self, key: str) -> str:
        """A value as the user would write it; "" for a key that is not set."""
        value = self.settings.get(key)
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(slots=True)
class Chain:
    """What is said on the way. ended: what the run ends with where it goes no further, or runs its own attention."""

    run: Run
    steps: list[Step] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    warnings: list[LogWarning] = field(default_factory=list)
    parts: list[SubModel] = field(default_factory=list)

    def step(self, does: str, source: str, key: str = "") -> None:
        """One more step; key: the setting that it starts from."""
        value = (self.run.asked.written(key) or self.run.text(key)) if key else ""
        line = self.run.asked.lines.get(key) if key and key not in self.run.asked.assigned else None
        self.steps.append(Step(does, key if value else "", value, source, line))
