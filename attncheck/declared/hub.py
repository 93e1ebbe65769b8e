"""config.json of a hub repository: from the folders of the local cache, or downloaded; one clear line a failure."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attncheck.declared.files import read_config
from attncheck.errors import NoVerdictError, TargetError

_OFFLINE_WORDS = frozenset({"1", "true", "yes", "on"})


def offline_by_environment() -> bool:
    """True when HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE asks for no network."""
    return any(
        os.environ.get(name, "").lower() in _OFFLINE_WORDS for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def cache_folder() -> Path:
    """Where the hub cache lies, by the variables and the default that huggingface_hub documents."""
    if found := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(found).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def cached_config(repo: str, revision: str | None) -> Path | None:
    """The cached config.json of a repository at a revision (branch, tag or commit; default main), or None.

    Layout: models--ORG--NAME / refs / REVISION holds the commit, snapshots / COMMIT / config.json is the file.
    """
    folder = cache_folder() / ("models--" + repo.replace("/", "--"))
    wanted = revision or "main"
    try:
        ref = folder / "refs" / wanted
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else wanted
        found = folder / "snapshots" / commit / "config.json"
        return found if found.is_file() else None
    except (OSError, ValueError):
        return None


def download_config(repo: str, revision: str | None) -> dict[str, Any]:
    """Fetch config.json of a repository and nothing else.

    Raises TargetError: no such repository or revision, gated, private, no config.json, network down.
    """
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError:
        raise NoVerdictError(
            "huggingface_hub is not installed, so hub ids cannot be read", "pip install huggingface_hub"
        ) from None
    at = f"{repo} at {revision}" if revision else repo
    try:
        with _quiet():
            path = hf_hub_download(repo, "config.json", revision=revision)
    except errors.GatedRepoError:
        raise TargetError(
            f"{at} is gated, and this machine has no access",
            f"ask for access on https://huggingface.co/{repo}, then: hf auth login",
        ) from None
    except errors.RepositoryNotFoundError:
        raise TargetError(
            f"the hub has no public repository {repo} (or it is private)",
            "check the spelling; for a private one: hf auth login",
        ) from None
    except errors.RevisionNotFoundError:
        raise TargetError(f"{repo} has no revision {revision}", "check --revision (a branch, tag or commit)") from None
    except errors.LocalEntryNotFoundError:
        raise TargetError(
            f"the hub cannot be reached, and {at} is neither cached nor in the catalog",
            "give a path to its config.json",
        ) from None
    except errors.EntryNotFoundError:
        raise TargetError(
            f"{at} has no config.json", "only transformers checkpoints have one; give a path to a config.json"
        ) from None
    except errors.HFValidationError as error:
        raise TargetError(f"{repo!r} is no hub id ({_first_line(error)})", "write it as organisation/name") from None
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        raise TargetError(
            f"{at} cannot be fetched: {_first_line(error)}", "check the network, or give a path to its config.json"
        ) from None
    except (
        Exception
    ) as error:  # HTTP libraries below huggingface_hub raise errors of their own when the network is down
        raise TargetError(
            f"the hub cannot be reached for {at}: {_first_line(error)}", "check the network, or give a path"
        ) from None
    return read_config(Path(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars and its word on every retry: what comes of it is said once, by us."""
    from huggingface_hub import utils

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not utils.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            utils.enable_progress_bars()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
