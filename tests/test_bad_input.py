"""Bad input through the command line: exit 2 (or 3), one clear line with a hint, little memory, never a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest
from huggingface_hub import errors
from typer.testing import CliRunner

from attncheck import cli, pipeline

CONFIG: dict[str, Any] = {
    "model_type": "mistral",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "sliding_window": 4096,
}
SHORT = ("--impl", "eager", "--scenario", "plain")


def complaint(*arguments: str, code: int = 2) -> str:
    """What the command says on stderr, after checking that it is one line and perhaps a hint, and nothing else."""
    result = CliRunner().invoke(cli.app, ["compare", *arguments])
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    return checked(result.stderr)


def checked(stderr: str) -> str:
    lines = stderr.splitlines()
    assert 1 <= len(lines) <= 2, stderr
    assert lines[0].startswith("attncheck: error: ")
    assert all(line.startswith("  hint: ") for line in lines[1:])
    assert "Traceback" not in stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", stderr)
    assert len(lines[0]) < 1200
    return stderr


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found wrong must be found before the libraries are needed; this worker fails the test that asks it."""

    class Idle:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __enter__(self) -> Idle:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def describe(self, _: object) -> None:
            pytest.fail("the libraries were asked about a target that is no config")

    monkeypatch.setattr(pipeline, "Prober", Idle)


Write = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> Write:
    """Writes a config.json: `file(b"bytes")`, `file("text")`, or keys over a good config, `file(hidden_size=3)`."""

    def write(content: str | bytes | None = None, **keys: Any) -> str:
        path = tmp_path / "config.json"
        content = json.dumps({**CONFIG, **keys}) if content is None else content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{hello", "is not JSON (line 1, column 2"),
        ("", "is not JSON (line 1, column 1"),
        ("[1, 2]", "holds a JSON array, expected an object"),
        ("null", "holds a JSON null, expected an object"),
        ('{"hidden_size": 64}', "has no model_type"),
        ('{"model_type": 3}', "has model_type 3, expected text"),
        ('{"model_type": "mistral", "rope_theta": NaN}', "holds NaN, which is not JSON"),
        ('{"model_type": "mistral", "rope_theta": -Infinity}', "holds -Infinity, which is not JSON"),
        ('{"model_type": "mistral", "rope_theta": 1e999}', "rope_theta is inf, expected a finite number"),
        ('{"model_type": "mistral", "hidden_size": ' + "9" * 5000 + "}", "is not JSON (Exceeds the limit"),
        ('{"model_type": "mistral", "a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"model_type": "mistral", "a": ' + '{"a": ' * 100 + "1" + "}" * 101, "nested more than 64 levels"),
        (b"\x80\x04\x95\xff\xfe weights", "is not UTF-8 text"),
        ('{"model_type": "é"}'.encode("latin-1"), "is not UTF-8 text"),
        ('{"model_type": "mistral"}'.encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_what_is_no_config(content: str | bytes, words: str, file: Write, no_worker: None) -> None:
    path = file(content)
    said = complaint(path)
    assert words in said
    assert "config.json" in said
    assert "hint: " in said


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hidden_size": 10**9}, "hidden_size is 1000000000, expected at most 1000000 (the widest known model"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, expected at most 10000 (the deepest known"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1, expected at least 0"),
        ({"sliding_window": -4}, "sliding_window is -4, expected at least 0 (a window is a number of tokens"),
        ({"sliding_window": "4096"}, "sliding_window is '4096', expected a whole number"),
        ({"sliding_window": True}, "sliding_window is True, expected a whole number"),
        ({"num_key_value_heads": 5}, "num_key_value_heads is 5, which does not divide num_attention_heads 32"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0, expected at least 1"),
        ({"layer_types": "sliding"}, "expected a list of layer types"),
        ({"text_config": "x"}, "text_config is 'x', expected an object"),
        ({"text_config": {"hidden_size": 10**9}}, "text_config.hidden_size is 1000000000"),
    ],
)
def test_absurd_values(keys: dict[str, Any], words: str, file: Write, no_worker: None) -> None:
    said = complaint(file(**keys))
    assert words in said
    assert "--set key=value" in said


def test_paths_that_are_no_file(tmp_path: Path, no_worker: None) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "config.json").mkdir(parents=True)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    cases = {
        str(tmp_path / "empty"): "has no config.json",
        str(tmp_path / "odd"): "is not a regular file",
        str(tmp_path / "odd" / "config.json"): "has no config.json",
        str(tmp_path / "fifo"): "is not a regular file",
        str(tmp_path / "loop"): "cannot read",
        str(tmp_path / "none"): "no such file",
        "nothing-of-that-name.json": "no such file",
        "/dev/zero": "is not a regular file",
        "/dev/null": "is not a regular file",
        str(tmp_path / ("x" * 300)): "cannot read",
    }
    for target, words in cases.items():
        said = complaint(target)
        assert words in said, target
        assert "hint: " in said


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("acme/none", "acme/none is neither in the local hub cache nor in the bundled catalog, and --offline is set"),
        ("acme/$(touch x);rm -rf", "no hub id: acme/$(touch x);rm -rf"),
        ("acme/[bold]x", "no hub id: acme/[bold]x"),
        ("acme/\x1b[31mred", r"no hub id: acme/\x1b[31mred"),
        ("acme/a\nb", "no hub id: acme/a b"),
        ("acme/\udcff", r"no hub id: acme/\xff"),
        ("a\0b", "holds a NUL character"),
        ("", "the target is empty"),
        ("acme /" + "x" * 5000, "no hub id: acme /xxx"),
    ],
)
def test_targets_that_are_nothing(target: str, words: str, no_worker: None) -> None:
    assert words in complaint(target, "--offline")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--impl", "flash"), "choose from eager, sdpa, flash_attention_2"),
        (("--impl", ","), "--impl ',' names nothing"),
        (("--scenario", "plane"), "choose from plain, left-pad"),
        (("--scenario", ""), "--scenario '' names nothing"),
        (("--format", "xml"), "there are html, json, junit, markdown, sarif, terminal"),
        (("-o", "no/such/folder/report.json"), "there is no folder no/such/folder"),
        (("-o", "."), "cannot be written"),
        (("-o", ""), "cannot be written"),
        (("--plugin", "no.such.module"), "--plugin no.such.module: there is no such module"),
        (("--plugin", "../x"), "--plugin ../x: there is no such module"),
        (("--revision", "main"), "--revision main makes no sense for the model type mistral"),
    ],
)
def test_wrong_options(arguments: tuple[str, str], words: str, no_worker: None) -> None:
    assert words in complaint("mistral", *arguments)


def test_a_gpu_that_is_not_there(no_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from attncheck.environment import Environment

    monkeypatch.setattr(pipeline, "read_environment", lambda: Environment("3.12", "Linux", gpu_note="no driver"))
    said = complaint("mistral", "--device", "cuda")
    assert "no GPU is visible (no driver)" in said
    assert "hint: --device cpu" in said


def test_a_folder_that_may_not_be_written(tmp_path: Path, no_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for anybody but root
    assert "permission denied" in complaint("mistral", "-o", str(tmp_path / "report.json"))


class Response:
    """As much of an HTTP response as the errors of huggingface_hub read."""

    headers: ClassVar[dict[str, str]] = {}
    request = None
    status_code = 403


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: errors.GatedRepoError("403", response=Response()), "acme/none is gated"),  # type: ignore[arg-type]
        (
            lambda: errors.RepositoryNotFoundError("404", response=Response()),  # type: ignore[arg-type]
            "the hub has no public repository acme/none (or it is private)",
        ),
        (lambda: errors.LocalEntryNotFoundError("offline"), "the hub cannot be reached"),
        (lambda: errors.EntryNotFoundError("none"), "acme/none has no config.json"),
        (lambda: OSError("disk full"), "acme/none cannot be fetched: disk full"),
        (lambda: RuntimeError("the proxy said no"), "the hub cannot be reached for acme/none: the proxy said no"),
    ],
)
def test_what_the_hub_refuses(
    error: Callable[[], Exception], words: str, no_worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def download(*_: object, **__: object) -> str:
        raise error()

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    said = complaint("acme/none")
    assert words in said
    assert "hint: " in said


@pytest.mark.parametrize(
    ("ref", "content", "words"),
    [
        ("abc", None, "is neither in the local hub cache"),
        ("gone", "{}", "is neither in the local hub cache"),
        ("../../../..", "{}", "is neither in the local hub cache"),
        ("\0\xff", "{}", "is neither in the local hub cache"),
        ("abc", "", "the local hub cache is damaged: "),
        ("abc", '{"model_type": "mis', "the local hub cache is damaged: "),
        ("abc", "<html>log in</html>", "the local hub cache is damaged: "),
    ],
)
def test_a_damaged_cache(
    ref: str, content: str | None, words: str, no_worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--acme--none"
    (folder / "refs").mkdir(parents=True)
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs" / "main").write_text(ref)
    if content is None:
        (folder / "snapshots" / "abc" / "config.json").symlink_to("../../blobs/gone")
    else:
        (folder / "snapshots" / "abc" / "config.json").write_text(content)
    said = complaint("acme/none", "--offline")
    assert words in said
    if "damaged" in words:
        assert "delete that file" in said


def test_a_token_is_never_shown(no_worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = "hf_" + "averysecretword" * 2

    def download(*_: object, **__: object) -> str:
        raise RuntimeError(f"401 for Authorization: Bearer {token} at https://user:{token}@huggingface.co")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    said = complaint("acme/none")
    assert "401 for Authorization" in said
    assert "averysecretword" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "sliding_windw=3"), "unknown key of model type mistral; nearest: sliding_window"),
        (("--set", "sliding_window=abc"), "'abc' is text, expected a number (now 4096)"),
        (("--set", "sliding_window=true"), "True is true or false, expected a number"),
        (("--set", "hidden_size=[1, 2]"), "[1, 2] is a list, expected a number"),
        (("--set", "sliding_window"), "--set 'sliding_window' is not key=value"),
        (("--set", "=3"), "--set '=3' is not key=value"),
        (("--set", "rope_theta=NaN"), "NaN is not a value of JSON"),
        (("--set", "rope_scaling=" + "[" * 5000 + "]" * 5000), "nested more than 64 levels deep"),
        (("--set", "hidden_size=1000000000"), "with --set: hidden_size is 1000000000, expected at most"),
        (("--set", "num_hidden_layers=1000000"), "with --set: num_hidden_layers is 1000000"),
        (("--set", "sliding_window=-3"), "with --set: sliding_window is -3"),
        (("--set", "num_attention_heads=7"), "num_key_value_heads is 8, which does not divide num_attention_heads 7"),
        (
            ("--set", "num_attention_heads=24", "--set", "hidden_size=4000"),
            "num_attention_heads is 24, which does not divide hidden_size 4000",
        ),
        (("--set", "model_type=banana"), "the installed transformers has no model type 'banana'"),
        (("--set-unknown", "hidden_size=1000000000"), "with --set: hidden_size is 1000000000"),
        (("--set-unknown", "num_hidden_layers=abc"), "num_hidden_layers is 'abc', expected a whole number"),
        (("--set-unknown", "hidden_size.x=3"), "hidden_size is a number, not a sub-config"),
    ],
)
def test_wrong_assignments(arguments: tuple[str, ...], words: str, shared_worker: None) -> None:
    assert words in complaint("mistral", *arguments)


def test_an_unknown_type_names_its_neighbours(shared_worker: None, file: Write) -> None:
    said = complaint("lama")
    assert "has no model type 'lama'" in said
    assert "did you mean llama" in said
    assert "no model type 'qwen22'" in complaint(file(model_type="qwen22"))


def test_a_type_that_only_remote_code_could_build(shared_worker: None, file: Write) -> None:
    path = file(model_type="homemade", auto_map={"AutoConfig": "configuration_homemade.HomemadeConfig"})
    assert "which is run only with --trust-remote-code" in complaint(path)


def test_heads_that_do_not_divide_the_width(shared_worker: None, file: Write) -> None:
    path = file(num_attention_heads=24)
    assert "num_attention_heads is 24, which does not divide hidden_size 4096" in complaint(path)


def test_what_is_only_odd_is_a_note(shared_worker: None, file: Write) -> None:
    keys = json.dumps({**CONFIG, "auto_map": {"AutoConfig": "configuration_x.C"}})
    path = file(keys[:-1] + ', "sliding_window": 64}')
    result = CliRunner().invoke(cli.app, ["compare", path, *SHORT])
    assert result.exit_code == 0, result.output
    assert "remote-code" in result.stdout
    assert "sliding_window stands there more than once" in " ".join(result.stdout.split())
    assert "window 64" in result.stdout


def test_a_key_nobody_knows_may_be_passed_unchecked(shared_worker: None) -> None:
    result = CliRunner().invoke(cli.app, ["compare", "mistral", "--set-unknown", "no.such=1", *SHORT])
    assert result.exit_code == 0, result.output


# What needs a process of its own ------------------------------------------------------------------

#: Runs a command and tells its exit code, its streams and the peak memory of the largest process below it.
MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True, stdin=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([done.returncode, done.stdout, done.stderr, peak * (1 if sys.platform == "darwin" else 1024)]))
"""
COMPARE = (sys.executable, "-m", "attncheck", "compare")


def surroundings(*first: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, first), *filter(None, sys.path)])}


def test_large_input_takes_little_memory(tmp_path: Path) -> None:
    large, long, wide = tmp_path / "large.json", tmp_path / "long.json", tmp_path / "wide.json"
    with large.open("wb") as file:
        file.truncate(200 * 1000 * 1000)
    long.write_text('{"model_type": "mistral", "x": [' + "{}," * 4_000_000 + "1]}")
    wide.write_text(json.dumps({**CONFIG, "hidden_size": 10**9, "num_hidden_layers": 10**6}))
    for path, words in ((large, "has 200 MB; a config has at most"), (long, "4000001 entries"), (wide, "hidden_size")):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *COMPARE, str(path)],
            capture_output=True,
            text=True,
            env=surroundings(),
            check=True,
        )
        code, stdout, stderr, peak = json.loads(done.stdout)
        assert (code, stdout) == (2, "")
        assert words in checked(stderr)
        assert peak < 1e9, f"{path.name}: {peak / 1e6:.0f} MB"


@pytest.mark.parametrize(
    ("library", "text", "words"),
    [
        ("torch", "raise ImportError('libcudart.so.12: not found')", "torch cannot be used: ImportError: libcudart"),
        ("transformers", "raise RuntimeError('nms does not exist')", "transformers cannot be used: RuntimeError: nms"),
    ],
)
def test_a_broken_library_is_named(library: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("def set_num_threads(count): pass")
    (tmp_path / library).mkdir(exist_ok=True)
    (tmp_path / library / "__init__.py").write_text(text)
    done = subprocess.run([*COMPARE, "llama"], capture_output=True, text=True, env=surroundings(tmp_path), check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert words in checked(done.stderr)
    assert "attncheck doctor" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs the redirections of a POSIX shell")
@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        (">/dev/full", 2, "standard output cannot be written: No space left on device"),
        (">&-", 2, "standard output is closed"),
        ("2>&-", 0, ""),
        ("<&- 2>&-", 0, ""),
    ],
)
def test_streams_that_cannot_be_used(redirection: str, code: int, words: str) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m attncheck explain window-ignored {redirection}', sys.executable],
        capture_output=True,
        text=True,
        env=surroundings(),
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert words in (checked(done.stderr) if words else done.stderr)
