"""Where configs come from, in which order, and the one clear line of each failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from attncheck.declared import files, hub
from attncheck.declared.source import ConfigSource, resolve
from attncheck.errors import AttnCheckError, TargetError, UsageError

LLAMA = {"model_type": "llama", "num_hidden_layers": 2}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of its own, and a download that fails the test when it is reached unasked."""
    for name in ("HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("nobody asked for a download"))
    return tmp_path / "hub"


def written(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def cached(cache: Path, repo: str, config: object, commit: str = "abc", ref: str = "main") -> None:
    folder = cache / ("models--" + repo.replace("/", "--"))
    written(folder / "snapshots" / commit / "config.json", config)
    written(folder / "refs" / ref, commit)


def failure(target: str, **options: Any) -> AttnCheckError:
    with pytest.raises(AttnCheckError) as caught:
        resolve(target, **options)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


# what is found ------------------------------------------------------------------------------------


def test_a_file_and_its_directory(tmp_path: Path) -> None:
    file = written(tmp_path / "model" / "config.json", LLAMA)
    for target in (file, file.parent):
        found = resolve(str(target), offline=True)
        assert (found.kind, found.config) == ("path", LLAMA)
        assert found.detail == str(file)


def test_a_file_of_another_name_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(LLAMA).encode())
    assert resolve(str(file)).config == LLAMA


def test_what_from_pretrained_takes(tmp_path: Path) -> None:
    """A folder and a hub id as they are, the folder of a config.json; it loads nothing from a file."""
    file = written(tmp_path / "model" / "config.json", LLAMA)
    assert resolve(str(file), offline=True).loadable == resolve(str(file.parent), offline=True).loadable
    assert resolve(str(file.parent), offline=True).loadable == str(file.parent)
    assert resolve(str(written(tmp_path / "other.json", LLAMA)), offline=True).loadable == ""
    assert resolve("mistralai/Mistral-7B-v0.1", offline=True).loadable == "mistralai/Mistral-7B-v0.1"
    assert resolve("llama", offline=True).loadable == ""


def test_a_bare_word_is_a_model_type() -> None:
    found = resolve("qwen2_moe", offline=True)
    assert (found.kind, found.config, found.id) == ("model_type", {"model_type": "qwen2_moe"}, "qwen2_moe")


def test_a_directory_of_that_name_wins_over_a_model_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "qwen2" / "config.json", LLAMA)
    monkeypatch.chdir(tmp_path)
    assert resolve("qwen2").kind == "path"


def test_the_order_is_path_cache_catalog_hub(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "mistralai/Mistral-7B-v0.1"
    first = resolve(name)
    assert first.kind == "catalog"
    assert first.config["sliding_window"] == 4096
    cached(empty_cache, name, {**LLAMA, "from": "cache"})
    assert resolve(name, offline=True).config["from"] == "cache"
    assert resolve(name).kind == "cache"
    written(tmp_path / name / "config.json", {**LLAMA, "from": "path"})
    assert resolve(name).config["from"] == "path"


def test_the_hub_is_last_and_fetches_config_json_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    file = written(tmp_path / "fetched.json", LLAMA)

    def download(repo: str, name: str, *, revision: str | None = None) -> str:
        asked.append((repo, name, revision))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert resolve("nobody/nothing").kind == "hub"
    assert resolve("mistralai/Mistral-7B-v0.1", revision="refs/pr/1").kind == "hub"
    assert asked == [("nobody/nothing", "config.json", None), ("mistralai/Mistral-7B-v0.1", "config.json", "refs/pr/1")]


def test_revisions_are_looked_up_in_the_cache(empty_cache: Path) -> None:
    cached(empty_cache, "a/b", LLAMA, commit="123", ref="v2")
    assert resolve("a/b", revision="v2", offline=True).kind == "cache"
    assert resolve("a/b", revision="123", offline=True).kind == "cache"
    assert "a/b at v1" in failure("a/b", revision="v1", offline=True).message


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/x"}, "/x"),
        ({"HUGGINGFACE_HUB_CACHE": "/y"}, "/y"),
        ({"HF_HOME": "/h"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_cache_folder_follows_the_documented_variables(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub.cache_folder() == Path(expected)


def test_class_defaults_never_stand_in_for_values_nobody_saw() -> None:
    source = ConfigSource("x", "catalog", "", LLAMA, unseen=("a", "text_config.b"))
    defaults = {"a": 1, "c": 2, "text_config": {"b": 1, "c": 2}}
    assert source.usable(defaults) == {"c": 2, "text_config": {"c": 2}}
    assert defaults["a"] == 1
    assert source.usable(None) is None


# what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{not json", "is not JSON (line 1, column 2"),
        ("", "is not JSON"),
        ("[1, 2]", "holds a JSON array, expected an object"),
        ("null", "holds a JSON null"),
        ("3", "holds a JSON number"),
        ("{}", "has no model_type"),
        ('{"model_type": 3}', "has model_type 3, expected text"),
        ('{"model_type": "llama", "rope_theta": NaN}', "holds NaN, which is not JSON"),
        ('{"model_type": "llama", "x": -Infinity}', "holds -Infinity"),
        ('{"model_type": "llama", "hidden_size": 1000000000}', "hidden_size is 1000000000, expected at most"),
        ('{"model_type": "llama", "a": ' + "[" * 200 + "]" * 200 + "}", "nested more than 64 levels"),
        ("[" * 100_000, "nested too deeply"),
        ('{"model_type": "llama", "n": ' + "9" * 5000 + "}", "is not JSON"),
    ],
)
def test_bad_content_is_one_clear_line(tmp_path: Path, content: str, says: str) -> None:
    file = written(tmp_path / "config.json", content)
    error = failure(str(file))
    assert says in error.message
    assert str(file) in error.message


def test_what_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"\xff\xfe\x00\x01")
    assert "not UTF-8" in failure(str(file)).message


def test_a_directory_without_config(tmp_path: Path) -> None:
    assert "has no config.json" in failure(str(tmp_path)).message


def test_a_directory_whose_config_json_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert "not a regular file" in failure(str(tmp_path)).message


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    for target in (str(tmp_path / "no"), "./no", "no/such/thing", "missing.json"):
        assert "no such file" in failure(target).message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    assert "not a regular file" in failure(str(tmp_path / "config.json")).message


def test_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "gone")
    assert "no such file" in failure(str(tmp_path / "config.json")).message


def test_a_large_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.json"
    with file.open("wb") as stream:
        stream.truncate(200_000_000)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("read"))
    assert "has 200 MB" in failure(str(file)).message
    assert files.MAX_BYTES < 200_000_000


@pytest.mark.parametrize("target", ["", "  ", "a\0b", "a b", "org/name with blanks"])
def test_words_that_are_no_target(target: str) -> None:
    failure(target)


def test_a_revision_needs_a_hub_id(tmp_path: Path) -> None:
    written(tmp_path / "config.json", LLAMA)
    for target in (str(tmp_path), "qwen2"):
        with pytest.raises(UsageError, match="--revision main"):
            resolve(target, revision="main")


def test_offline_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        "neither in the local hub cache nor in the bundled catalog" in failure("nobody/nothing", offline=True).message
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "nobody/nothing" in failure("nobody/nothing").message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GatedRepoError", "is gated"),
        ("RepositoryNotFoundError", "no public repository"),
        ("RevisionNotFoundError", "has no revision"),
        ("EntryNotFoundError", "has no config.json"),
        ("LocalEntryNotFoundError", "cannot be reached"),
        ("HFValidationError", "is no hub id"),
        ("HfHubHTTPError", "cannot be fetched"),
    ],
)
def test_each_way_to_fail_on_the_hub_has_its_line(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = getattr(huggingface_hub.errors, name)
    broken = kind.__new__(kind)

    def download(*_: object, **__: object) -> str:
        raise broken

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert says in failure("nobody/nothing").message


@pytest.mark.parametrize("error", [ConnectionError("refused"), RuntimeError("proxy\nsecond line"), TimeoutError()])
def test_a_network_that_is_down_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert isinstance(failure("nobody/nothing"), TargetError)


def test_a_broken_cached_file_names_itself(empty_cache: Path) -> None:
    cached(empty_cache, "a/b", "[]")
    assert "snapshots" in failure("a/b").message


def test_reading_a_config_loads_no_heavy_library() -> None:
    code = (
        "import sys; from attncheck.declared import oracle, source, overrides, limits\n"
        "s = source.resolve('mistralai/Mistral-7B-v0.1', offline=True); oracle.declare(s.config, None)\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
