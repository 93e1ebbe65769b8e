"""A callback for transformers' Trainer: verifies the model with the first real batch, before the first step."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from attncheck.errors import AttnCheckError, FindingsError, UsageError
from attncheck.live.verify import verify
from attncheck.report import Report


class AttentionFindings(UserWarning):
    """Findings about the attention of a model that is being trained all the same."""


class AttnCheckCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Verify the attention once, in the first forward call of the training, before anything is learned.

    on_findings: "raise" ends the training with FindingsError, "warn" warns (AttentionFindings) and goes on. fail_on:
    the lowest severity that counts, "error" or "warning". on_failure: the same choice for a verification that cannot be
    made at all (a model that cannot be read). options: further arguments of
    `attncheck.verify`, such as layers or memory. Under several processes each verifies its own copy.

    report: of the verification, None before it.
    """

    def __init__(
        self, on_findings: str = "raise", *, fail_on: str = "error", on_failure: str = "warn", **options: Any
    ) -> None:
        for name, value in (("on_findings", on_findings), ("on_failure", on_failure)):
            if value not in ("raise", "warn"):
                raise UsageError(f"AttnCheckCallback: {name} is {value!r}, expected 'raise' or 'warn'")
        if fail_on not in ("error", "warning"):
            raise UsageError(f"AttnCheckCallback: fail_on is {fail_on!r}, expected 'error' or 'warning'")
        self.report: Report | None = None
        self._on_findings, self._fail_on, self._on_failure = on_findings, fail_on, on_failure
        self._options = {"use": "train", **options}
        self._hook: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Wait for the first batch: reading one from the data loader here would change the order of the data."""
        if model is not None and self.report is None:
            self._forget()
            self._hook = model.register_forward_pre_hook(self._first_batch, with_kwargs=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Nothing stays in the model."""
        self._forget()

    def _forget(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _first_batch(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not model.training:
            return
        self._forget()
        try:
            self.report = verify(model, _named(model, args, kwargs), fail_on=self._fail_on, **self._options)
            self.report.raise_for_findings()
        except FindingsError as error:
            if self._on_findings == "raise":
                raise
            warnings.warn(f"attncheck: {error.message}", AttentionFindings, stacklevel=2)
        except Exception as error:  # whatever it is, it is not the training's
            if self._on_failure == "raise":
                raise
            text = error.message if isinstance(error, AttnCheckError) else f"{type(error).__name__}: {error}"
            warnings.warn(f"attncheck could not verify the model: {text}", AttentionFindings, stacklevel=2)


def _named(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a forward call by name."""
    if not args:
        return dict(kwargs)
    names = [name for name in inspect.signature(model.forward).parameters if name != "self"]
    return {**dict(zip(names, args)), **kwargs}
