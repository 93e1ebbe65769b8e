"""Where a config comes from: path, hub cache, bundled catalog, hub (the first that has it), or a bare model type."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attncheck.declared import catalog, hub
from attncheck.declared.files import read_config, repeated_keys
from attncheck.declared.limits import check
from attncheck.errors import TargetError, UsageError
from attncheck.semantics.spec import Note

_MODEL_TYPE = re.compile(r"[A-Za-z0-9_.\-]+")
_HUB_ID = re.compile(r"[A-Za-z0-9_.\-]+/[A-Za-z0-9_.\-]+")


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A config and where it came from.

    kind: "path", "cache", "catalog", "hub" or "model_type". detail: the same for people. config: the raw keys; for a
    bare model type just `{"model_type": ...}`. notes: what the source itself says (unconfirmed fields of the catalog).
    unseen: dotted keys whose value the source does not know though the checkpoint has one.
    """

    id: str
    kind: str
    detail: str
    config: Mapping[str, Any]
    notes: tuple[Note, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def loadable(self) -> str:
        """What `from_pretrained` takes: of a config.json the folder it lies in; "" where nothing says what."""
        if self.kind == "model_type":
            return ""
        path = Path(self.id)
        if self.kind != "path" or path.expanduser().is_dir():
            return self.id
        return str(path.parent) if path.name == "config.json" else ""

    def usable(self, defaults: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The class defaults that may stand in for missing keys of this config: all but those of unseen keys."""
        if defaults is None or not self.unseen:
            return defaults
        kept = copy.deepcopy(dict(defaults))
        for dotted in self.unseen:
            *path, name = dotted.split(".")
            level: Any = kept
            for part in path:
                level = level.get(part) if isinstance(level, dict) else None
            if isinstance(level, dict):
                level.pop(name, None)
        return kept


def resolve(
    target: str, *, offline: bool = False, revision: str | None = None, trust_remote_code: bool = False
) -> ConfigSource:
    """Find the config of a target: a path, a hub id or a bare model type.

    Order: path, local hub cache, bundled catalog, hub. A word without a slash that is no path is a model type; whether
    transformers knows it is answered later. revision: of a hub id; the catalog is skipped then, because it knows none.
    trust_remote_code: does not change where the config comes from. Raises TargetError or UsageError.
    """
    if not target.strip():
        raise UsageError("the target is empty", "give a hub id, a path to a config.json, or a model type such as qwen2")
    if "\0" in target:
        raise UsageError("the target holds a NUL character", "give a hub id, a path or a model type")
    path = Path(target).expanduser()
    if _is_path(target, path):
        if revision is not None:
            raise UsageError(
                f"--revision {revision} makes no sense for a path", "leave out --revision, or give a hub id"
            )
        config = read_config(path)
        file = path / "config.json" if path.is_dir() else path
        source = ConfigSource(target, "path", str(file), config, _repetitions(file))
    elif _MODEL_TYPE.fullmatch(target):
        if revision is not None:
            raise UsageError(
                f"--revision {revision} makes no sense for the model type {target}", "give a hub id: organisation/name"
            )
        return ConfigSource(
            target, "model_type", f"model type {target} with the defaults of its config class", {"model_type": target}
        )
    elif _HUB_ID.fullmatch(target):
        source = _from_hub_id(target, offline or hub.offline_by_environment(), revision)
    else:
        raise TargetError(
            f"no such file or directory, and no hub id: {target}",
            "give a path, organisation/name, or a model type such as qwen2",
        )
    check(source.config, source.detail)
    return source


def _repetitions(path: Path) -> tuple[Note, ...]:
    return tuple(
        Note("repeated-key", f"config: {key} stands there more than once; readers of JSON keep the last value", key)
        for key in repeated_keys(path)
    )


def _is_path(target: str, path: Path) -> bool:
    try:
        exists = os.path.lexists(path)
    except (OSError, ValueError):
        return False
    return exists or target.startswith((".", "/", "~")) or target.endswith(".json") or target.count("/") > 1


def _from_hub_id(target: str, offline: bool, revision: str | None) -> ConfigSource:
    cached = hub.cached_config(target, revision)
    if cached is not None:
        try:
            config = read_config(cached)
        except TargetError as error:
            raise TargetError(
                f"the local hub cache is damaged: {error.message}", "delete that file, so that it is fetched again"
            ) from None
        return ConfigSource(target, "cache", f"local hub cache: {cached}", config, _repetitions(cached))
    entry = catalog.lookup(target) if revision is None else None
    if entry is not None:
        detail = f"bundled catalog ({entry.confidence})"
        return ConfigSource(entry.id, "catalog", detail, entry.config, entry.notes, entry.unseen)
    if offline:
        at = f"{target} at {revision}" if revision else target
        raise TargetError(
            f"{at} is neither in the local hub cache nor in the bundled catalog, and --offline is set",
            "leave out --offline, or give a path",
        )
    return ConfigSource(
        target,
        "hub",
        f"hub: {target}/config.json" + (f" at {revision}" if revision else ""),
        hub.download_config(target, revision),
    )
