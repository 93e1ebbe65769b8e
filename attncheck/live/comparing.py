"""The use case of `compare` for Python: a config object, a mapping, a path or an id in, a Report out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attncheck.errors import UsageError

if TYPE_CHECKING:
    from attncheck.report import Report

#: What a config without a file is called in commands to paste; `config.save_pretrained(".")` writes it.
GIVEN = "config.json"


def compare(
    target: Any,
    *,
    impl: Sequence[str] = (),
    scenario: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    unchecked: Mapping[str, Any] | None = None,
    seq_len: int | None = None,
    use: str = "generate",
    packing: bool = False,
    bench: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    plugins: Sequence[str] = (),
    offline: bool = False,
    timeout: float = 120.0,
    seed: int = 0,
    fail_on: str = "error",
    **further: Any,
) -> Report:
    """Declared against effective attention of a model type, as `attncheck compare` measures it: in a worker process.

    target: a hub id, a directory, a config.json, a model type, a config as a mapping, or a transformers config object.
    overrides, unchecked: config keys to change, dotted for sub-configs, as --set and --set-unknown. The other arguments
    are the command's options; `further` takes those that this release has besides, by the names of `CompareOptions`.

    A script that calls this without `if __name__ == "__main__":` is fine: the worker runs attncheck's own code only.
    Raises TargetError or UsageError for what cannot be read, NoVerdictError when torch or transformers cannot be used.
    """
    from attncheck import pipeline

    for name, value in (("impl", impl), ("scenario", scenario), ("plugins", plugins)):
        if isinstance(value, str):
            raise UsageError(f"compare: {name}={value!r} is one text, expected a list", f"{name}=[{value!r}]")
    given = None
    if not isinstance(target, str):
        given, target = as_keys(target), GIVEN
    known = pipeline.CompareOptions.__dataclass_fields__
    if strange := [name for name in further if name not in known]:
        raise UsageError(f"compare: there is no argument {strange[0]}", f"arguments: {', '.join(sorted(known))}")
    options = pipeline.CompareOptions(
        target=target,
        impl=tuple(impl),
        scenario=tuple(scenario),
        assignments=_assignments(overrides),
        unchecked=_assignments(unchecked),
        seq_len=seq_len,
        use=use,
        packing=packing,
        bench=None if bench is None else os.fspath(bench),
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
        plugins=tuple(plugins),
        offline=offline,
        timeout=timeout,
        seed=seed,
        given=given,
        **further,
    )
    return replace(pipeline.compare(options), fail_on=fail_on)


def as_keys(config: Any) -> dict[str, Any]:
    """A config object or mapping as the keys of the config.json that it would be saved as. Raises UsageError."""
    if isinstance(config, Mapping):
        return dict(config)
    write = getattr(config, "to_json_string", None)
    if callable(write):
        keys: dict[str, Any] = json.loads(write())
        keys.setdefault("model_type", getattr(type(config), "model_type", ""))
        return keys
    if hasattr(config, "named_modules"):
        raise UsageError("compare takes a config, not a model", "attncheck.verify(model) looks at a live model")
    raise UsageError(
        f"compare: {type(config).__name__} is neither a path or id, nor a config",
        "give a hub id, a path, a model type, a mapping, or a transformers config object",
    )


def _assignments(changes: Mapping[str, Any] | None) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in (changes or {}).items())
