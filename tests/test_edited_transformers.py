"""No lookup table can pass: one line of a copy of transformers is changed, and the verdict must follow the line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.legacy.runs import compare, slugs

Edited = Callable[[str, str, str], tuple[Path]]


def linked_copy(package: Path, target: Path, changed: Path) -> None:
    """A copy of `package` that shares every file except `changed` (relative) and the folders above it."""
    target.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name == "__pycache__" and len(changed.parts) == 1:
            continue  # holds the compiled form of the file that changes
        if changed.parts and entry.name == changed.parts[0] and entry.is_dir():
            linked_copy(entry, target / entry.name, Path(*changed.parts[1:]))
        else:
            (target / entry.name).symlink_to(entry)


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """Gives the folder of a transformers with `old` replaced by `new` in one file; `old` must be there once."""

    def edit(file: str, old: str, new: str) -> tuple[Path]:
        import transformers

        package = Path(transformers.__file__).parent
        text = (package / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, (
            f"{file} has {text.count(old)} times {old!r}: the edit of this test needs a new text"
        )
        linked_copy(package, tmp_path / "transformers", Path(file))
        copy = tmp_path / "transformers" / file
        copy.unlink()
        copy.write_text(text.replace(old, new), encoding="utf-8")
        # The metadata travels along: the version is read from it.
        for metadata in package.parent.glob("transformers-*.dist-info"):
            os.symlink(metadata, tmp_path / metadata.name)
        return (tmp_path,)

    return edit


def only_slugs(report: dict, implementation: str, scenario: str) -> set[str]:
    return {slug for slug, _ in slugs(report, implementation, scenario)}


def test_window_argument_removed_from_the_flash_call(edited: Edited) -> None:
    arguments = ("mistral", "--set", "sliding_window=4096", "--impl", "sdpa,flash_attention_2", "--scenario", "plain")
    code, report = compare(*arguments)
    assert (code, report["findings"]) == (0, [])
    old = '            sliding_window=getattr(self.config, "sliding_window", None),  # main diff with Llama\n'
    code, report = compare(*arguments, path=edited("models/mistral/modeling_mistral.py", old, ""))
    assert only_slugs(report, "flash_attention_2", "plain") == {"window-ignored"}
    # sdpa has its window in the mask and never read that argument.
    assert only_slugs(report, "sdpa", "plain") == set()
    assert code == 1


def test_mask_dropped_in_the_sdpa_path(edited: Edited) -> None:
    arguments = ("mistral", "--set", "sliding_window=4096", "--impl", "eager,sdpa", "--scenario", "plain,left-pad")
    path = edited("integrations/sdpa_attention.py", "        attn_mask=attention_mask,\n", "        attn_mask=None,\n")
    code, report = compare(*arguments, path=path)
    found = only_slugs(report, "sdpa", "plain") | only_slugs(report, "sdpa", "left-pad")
    assert found & {"window-ignored", "causal-ignored", "mask-dropped"}
    assert only_slugs(report, "sdpa", "left-pad") & {"padding-ignored", "mask-dropped", "causal-ignored"}
    assert slugs(report, "eager") == set()
    assert code == 1


def test_softcap_removed_from_one_eager_function(edited: Edited) -> None:
    arguments = ("gemma2", "--impl", "eager", "--scenario", "plain")
    code, report = compare(*arguments)
    assert (code, report["findings"]) == (0, [])
    path = edited("models/gemma2/modeling_gemma2.py", "        attn_weights = torch.tanh(attn_weights)\n", "")
    code, report = compare(*arguments, path=path)
    assert only_slugs(report, "eager", "plain") == {"softcap-dropped"}
    assert code == 1


def test_a_repaired_qwen2_moe_is_no_longer_reported(edited: Edited) -> None:
    arguments = (
        "qwen2_moe",
        "--set",
        "use_sliding_window=true",
        "--set",
        "max_window_layers=1",
        "--impl",
        "sdpa,flash_attention_2",
        "--scenario",
        "plain",
    )
    code, report = compare(*arguments)
    assert only_slugs(report, "flash_attention_2", "plain") == {"window-ignored"}
    assert code == 1
    old = "            scaling=self.scaling,\n"
    new = old + '            sliding_window=getattr(self, "sliding_window", None),\n'
    code, report = compare(*arguments, path=edited("models/qwen2_moe/modeling_qwen2_moe.py", old, new))
    assert (code, report["findings"]) == (0, [])
