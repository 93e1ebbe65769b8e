"""The table of the sliding-window warning against old releases themselves: what it says is measured there again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from attncheck.frameworks.sliding_warning import _RELEASES, ERAS, PRINTED
from tests.legacy import environments

CONFIG = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "vocab_size": 1000,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32768, "sliding_window": 4096,
    "max_window_layers": 2,
}  # fmt: skip
#: transformers, and a LLaMA-Factory that takes it: only then the line is judged by what is measured.
RELEASES = (
    pytest.param("4.48.3", "0.9.2"),
    pytest.param("4.49.0", "0.9.2", marks=pytest.mark.slow),
    pytest.param("4.51.3", "0.9.3", marks=pytest.mark.slow),
    pytest.param("4.52.4", "0.9.3", marks=pytest.mark.slow),
    pytest.param("4.55.4", "0.9.5", marks=pytest.mark.slow),
    pytest.param("5.6.0", "0.9.5", marks=pytest.mark.slow),
)


def test_the_eras_cover_every_release_once() -> None:
    for version in _RELEASES:
        assert sum(SpecifierSet(era.versions).contains(version) for era in ERAS) == 1, version
    assert sorted(_RELEASES, key=Version, reverse=True) == list(_RELEASES)


def measured(folder: Path, root: Path, transformers: str, release: str, switched_on: bool) -> dict[str, Any]:
    """The line as `attncheck compare` judges it beside that transformers."""
    (folder / "config.json").write_text(json.dumps({**CONFIG, "use_sliding_window": switched_on}))
    path = environments.transformers_release(transformers, root)
    arguments = [str(folder), "--framework", "llama-factory", "--framework-version", release, "--scenario", "plain"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "attncheck",
            "compare",
            *arguments,
            "--impl",
            "eager,sdpa",
            "--format",
            "json",
            "--offline",
        ],
        capture_output=True,
        text=True,
        env=dict(environments.variables(path)),
        check=False,
        timeout=600,
    )
    assert done.stdout, done.stderr[-3000:]
    (line,) = json.loads(done.stdout)["framework"]["warnings"]
    return line


@pytest.mark.legacy
@pytest.mark.parametrize("switched_on", [True, False])
@pytest.mark.parametrize(("transformers", "release"), RELEASES)
def test_what_the_table_says_is_what_is_measured(
    transformers: str, release: str, switched_on: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cache = getattr(request.config, "cache", None)
    root = Path(cache.mkdir("legacy")) if cache is not None else tmp_path
    line = measured(tmp_path, root, transformers, release, switched_on)
    era = next(era for era in ERAS if SpecifierSet(era.versions).contains(transformers))
    assert line["truth"] == (era.on if switched_on else era.off)[0]
    if switched_on:
        assert line["heard"] is (transformers in SpecifierSet(PRINTED["qwen2"]))
