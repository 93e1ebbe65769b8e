"""Settings files as users (or enemies) write them: plain values with their lines, or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from attncheck.errors import UsageError
from attncheck.frameworks import settings_file
from attncheck.frameworks.settings_file import Nested


def written(folder: Path, text: str | bytes, name: str = "train.yaml") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_values_are_typed_as_yaml_types_them_and_keep_their_lines(tmp_path: Path) -> None:
    text = "# settings\nflash_attn: off  # sic\n\n'packing': true\ncutoff_len: 1024\nlora_target: [q, v]\nnone:\n"
    found = settings_file.read(written(tmp_path, text))
    assert found.values == {
        "flash_attn": False,
        "packing": True,
        "cutoff_len": 1024,
        "lora_target": Nested("list"),
        "none": None,
    }
    assert found.lines == {"flash_attn": 2, "packing": 4, "cutoff_len": 5, "lora_target": 6, "none": 7}
    assert found.text[1] == "flash_attn: off  # sic"


def test_json_keeps_its_lines_too(tmp_path: Path) -> None:
    found = settings_file.read(written(tmp_path, '{\n\t"flash_attn": "fa2",\n\t"x": {"y": 1}\n}\n', "train.json"))
    assert found.values == {"flash_attn": "fa2", "x": Nested("mapping")}
    assert found.lines["flash_attn"] == 2


def test_lines_of_json_are_those_of_the_outermost_object(tmp_path: Path) -> None:
    text = (
        '{"x": {"flash_attn": 1,\n "y": "\\"packing\\": 3"},\n"flash_attn" :\n"fa2", "packing": true,\n"\\u0061b": []}'
    )
    found = settings_file.read(written(tmp_path, text, "train.json"))
    assert found.lines == {"x": 1, "flash_attn": 3, "packing": 4, "ab": 5}
    assert settings_file.read(written(tmp_path, "{}", "train.json")).lines == {}


def test_anchors_are_read_and_never_expanded(tmp_path: Path) -> None:
    levels = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 12))
    merges = "m0: &m0 {a: 1}\n" + "".join(
        f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}\n" for n in range(1, 9)
    )
    text = f"k0: &k0 [1]\n{levels}{merges}name: &name qwen\nagain: *name\nself: &self [*self]\n"
    found = settings_file.read(written(tmp_path, text))
    assert found.values["k11"] == Nested("list")
    assert found.values["m8"] == Nested("mapping")
    assert found.values["again"] == "qwen"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\n\tb: 2\n", "line 2 is not YAML: a tab"),
        ("flash_attn:\tfa2\n", "line 1 is not YAML: a tab"),
        ("a: [1\n", "is not YAML"),
        ("a: *nowhere\n", "undefined alias"),
        ("a: 1\na: 2\n", "line 2: a stands there a second time (first in line 1)"),
        ("- a\n- b\n", "holds a list, expected lines of `key: value`"),
        ("just words\n", "holds one value"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("? [a, b]\n: 1\n", "a key is a list or mapping"),
        (
            "a: !!python/object/apply:os.system [touch {mark}]\n",
            "the tag !!python/object/apply:os.system would construct",
        ),
        ("a: [1, !!python/name:os.system x]\n", "the tag !!python/name:os.system would construct"),
        ("a: {b: !!python/object/new:os.system [touch {mark}]}\n", "would construct an object; nothing was executed"),
        ("a: !mine x\n", "the tag !mine would construct"),
        ("a: !!binary aGk=\n", "the tag !!binary would construct"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "line 1 cannot be read"),
        ("b: 1\na: !!bool maybe\n", "line 2 cannot be read: the value is no bool"),
        ("a: !!int ''\n", "line 1 cannot be read: the value is no int"),
        ("a: 1" + ":1" * 250 + ".0\n", "line 1 cannot be read: the value is no float"),
        ("a: 0x" + "f" * 20_000, "line 1 cannot be read: a whole number of 80000 bits"),
        ("a: \x00\n", "is not YAML"),
        ("base: &b {flash_attn: fa2}\n<<: *b\n", "line 2: merge keys (<<) are not read"),
        ("a: " + "x" * (10 << 20), "is larger than"),
        (b"a: \xff\xfe\n", "is not UTF-8 text: byte 3"),
    ],
)
def test_what_is_no_file_of_settings_is_one_clear_line(text: str | bytes, expected: str, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    if isinstance(text, str):
        text = text.replace("{mark}", str(mark))
    with pytest.raises(UsageError) as caught:
        settings_file.read(written(tmp_path, text))
    assert expected in caught.value.message
    assert "\n" not in caught.value.message.strip()
    assert "train.yaml" in caught.value.message
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "train.json, line 1 is not JSON"),
        ("[1]", "holds a list"),
        ('{"a": ' + "[" * 50_000, "nested too deeply"),
        ('{"a": 1' + "0" * 400 + "}", "line 1 cannot be read: a whole number of"),
        ('{"a": 1,\n"a": 2}', "line 2: a stands there a second time (first in line 1)"),
    ],
)
def test_json_that_is_none(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train\.json") as caught:
        settings_file.read(written(tmp_path, text, "train.json"))
    assert expected in caught.value.message


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        settings_file.read("no/such.yaml")


def test_secrets_are_not_repeated() -> None:
    for text in ("hf_hub_token=abc", "swanlab_api_key=abc", "swanlab_lark_webhook_url=abc", "TOKEN=abc"):
        assert settings_file.shown(text) == f"{text.partition('=')[0]}=<hidden>"
    for text in ("max_new_tokens=12", "use_fast_tokenizer=true", "train.yaml", "flash_attn=fa2"):
        assert settings_file.shown(text) == text


def test_arguments_are_typed_as_yaml() -> None:
    typed = [settings_file.typed(text, "x") for text in ("off", "1024", "fa2", "", "true")]
    assert typed == [False, 1024, "fa2", None, True]
    for text in ("[1]", "!!python/name:os.system x", "{a: 1}"):
        with pytest.raises(UsageError):
            settings_file.typed(text, "x")
