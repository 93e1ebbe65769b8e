"""LLaVA by version: what its scripts and its loader lead to, and what to change, held against the real package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from attncheck.environment import LIBRARIES, Environment, Library
from attncheck.errors import UsageError
from attncheck.findings import Severity
from attncheck.frameworks import plugin
from attncheck.frameworks.interface import ClassSupport
from attncheck.frameworks.llava_versions import RELEASES, release
from attncheck.frameworks.llava_words import for_language, recommend, without_flash
from attncheck.frameworks.plugin import Asked, Fails, ModelFacts, Resolution, Runs, RunsOwn, Unresolved

HERE = Environment("3.11", "Linux", (Library("transformers", "5.23.0"),))
TOWER = "openai/clip-vit-large-patch14-336"
ORIGINAL = ModelFacts(
    "liuhaotian/llava-v1.5-7b",
    "llava",
    {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": TOWER},
    ClassSupport("LlamaForCausalLM", "5.23.0", default="sdpa"),
)  # fmt: skip
NATIVE = ModelFacts(
    "llava-hf/llava-1.5-7b-hf",
    "llava",
    {"model_type": "llava", "text_config": {"model_type": "llama"}},
    ClassSupport("LlamaForCausalLM", "5.23.0", default="sdpa"),
)


def resolved(version: str | None = None, facts: ModelFacts = ORIGINAL, **settings: str) -> Resolution:
    return plugin.find("llava").resolve(Asked(assigned=settings, version=version), HERE, facts)


@pytest.mark.parametrize(
    ("version", "settings", "outcome"),
    [
        ("1.0", {}, Runs("sdpa")),
        ("1.1.1", {"script": "train.py"}, Runs("sdpa")),
        ("1.2.2.post1", {}, Runs("sdpa")),
        ("1.2.2.post1", {"use_flash_attn": "false"}, Runs("sdpa")),
        ("1.2.2.post1", {"use_flash_attn": "true"}, Runs("flash_attention_2")),
        ("1.2.2.post1", {"use_flash_attn": "true", "attn_implementation": "eager"}, Runs("flash_attention_2")),
        ("1.2.2.post1", {"attn_implementation": "eager"}, Runs("eager")),
        ("1.2", {"script": "train_mem.py"}, Runs("flash_attention_2")),
        ("1.2", {"script": "llava/train/train.py"}, Runs("sdpa")),
        ("1.2", {"script": "train_xformers.py"}, Runs("sdpa")),
        ("1.7.0.dev0", {}, Runs("flash_attention_2")),
        ("1.7.0.dev0", {"attn_implementation": "eager"}, Runs("eager")),
        ("1.7.0.dev0", {"script": "train_mem.py", "attn_implementation": "sdpa"}, Runs("sdpa")),
        ("1.7.0.dev0", {"model_base": "vicuna", "attn_implementation": "eager"}, Runs("sdpa")),
    ],
)
def test_what_runs(version: str, settings: dict[str, str], outcome: Runs) -> None:
    found = resolved(version, **settings)
    assert found.outcome == outcome
    assert found.steps
    assert all(step.source for step in found.steps)


def test_the_monkey_patch_is_llavas_own_attention() -> None:
    found = resolved("1.1", script="train_mem.py")
    assert isinstance(found.outcome, RunsOwn)
    assert "flash-attn" in found.outcome.backends[0]


def test_a_training_flag_that_version_1_2_does_not_have_ends_the_run() -> None:
    outcome = resolved("1.2", script="train_mem.py", attn_implementation="eager").outcome
    assert isinstance(outcome, Fails)
    assert outcome.error == "ValueError"


def test_false_means_the_default_and_not_eager() -> None:
    (remark,) = resolved("1.2", use_flash_attn="false").remarks
    assert (remark.slug, remark.severity) == ("setting-ignored", Severity.NOTE)
    assert "sdpa" in remark.message
    assert remark.fixes[0].paste == (
        'load_pretrained_model(model_path, None, model_name, use_flash_attn=False, attn_implementation="eager")'
    )
    assert resolved("1.2", use_flash_attn="true").remarks == ()


def test_the_xformers_script_is_inert_since_attention_classes_have_a_forward_of_their_own() -> None:
    (remark,) = resolved("1.2", script="train_xformers.py").remarks
    assert remark.severity is Severity.WARNING
    assert "never called" in remark.message
    with pytest.raises(UsageError, match="has no train_xformers"):
        resolved("1.0", script="train_xformers.py")


def test_the_vision_tower_is_a_row_of_its_own() -> None:
    text, tower = resolved("1.2", use_flash_attn="true").sub_models
    assert (text.requested, text.effective) == ("flash_attention_2", "flash_attention_2")
    assert tower.name == "vision tower"  # names are not redacted in reports, and the tower may be a path
    assert tower.why.startswith("openai/clip-vit-large-patch14-336: ")
    assert (tower.requested, tower.effective) == ("nothing", "sdpa")
    siglip = {**ORIGINAL.config, "mm_vision_tower": "google/siglip-so400m-patch14-384"}
    facts = ModelFacts("lmms-lab/x", "llava", siglip, ORIGINAL.support)
    assert resolved("1.7", facts).sub_models[1].effective == "eager"  # LLaVA-NeXT's own code


def test_a_dict_of_sub_configs_is_not_taken_for_an_implementation() -> None:
    for version in ("1.2", "1.7.0.dev0"):
        found = resolved(version, attn_implementation='{"text_config": "eager"}')
        assert isinstance(found.outcome, Unresolved)
    assert resolved("1.2", attn_implementation="kernels-community/flash-attn2").runs == "kernels-community/flash-attn2"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"attn_implementation": "fast"}, "there is no such implementation"),
        ({"attn_implementation": '{"a":' + "[" * 50_000}, "not JSON"),
        ({"use_flash_attention": "false"}, "none reads an environment variable"),
        ({"nonsense": "1"}, "no such setting"),
        ({"use_flash_attn": "maybe"}, "not true or false"),
        ({"script": "train_fast.py"}, "no such script"),
        ({"attn_implementation": "{'text_config'"}, "not JSON"),
    ],
)
def test_settings_that_do_not_exist_are_refused(settings: dict[str, str], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        resolved("1.2", **settings)


def test_use_flash_attn_exists_from_1_2_on_and_not_in_llava_next() -> None:
    for version in ("1.0", "1.7"):
        with pytest.raises(UsageError, match="has no use_flash_attn"):
            resolved(version, use_flash_attn="false")


@pytest.mark.parametrize(
    ("libraries", "version"),
    [
        ({"llava": "1.1.3"}, "1.1.3"),
        ({"llava-torch": "1.1.1"}, "1.1.1"),
        ({"llava": "0.0.1.dev0", "llava-torch": "1.2.2.post1"}, "1.2.2.post1"),
    ],
)
def test_the_installed_version_is_known_under_both_names(libraries: dict[str, str], version: str) -> None:
    here = Environment("3.11", "Linux", tuple(Library(*pair) for pair in libraries.items()))
    found = plugin.find("llava").resolve(Asked(assigned={}, version=None), here, ORIGINAL)
    assert (found.version, found.version_from) == (version, "installed")
    assert set(libraries) <= set(LIBRARIES)


def test_versions() -> None:
    assert resolved().version_from == "newest known"
    qwen = ModelFacts("lmms-lab/x", "llava_qwen", {"model_type": "llava_qwen"}, ORIGINAL.support)
    assert (resolved(facts=qwen).version, resolved(facts=qwen).outcome) == ("1.7.0.dev0", Runs("flash_attention_2"))
    assert for_language("qwen2", "eager", training=True).paste == "--attn_implementation eager"
    assert release("1.1.3") is RELEASES[0]
    assert release("1.2.2.post1") is RELEASES[1]
    assert release("1.7.0.dev0") is RELEASES[2]
    assert release("nonsense") is None
    placeholder = resolved("0.0.1.dev0").outcome
    assert isinstance(placeholder, Unresolved)
    assert "holds no code" in placeholder.reason


def test_transformers_own_checkpoints_are_not_loaded_by_the_package() -> None:
    found = resolved(facts=NATIVE)
    assert found.outcome == Runs("sdpa")  # what transformers picks by itself
    assert "transformers' own format" in found.steps[0].does
    assert found.recommend("eager").paste.startswith("model = AutoModelForImageTextToText.from_pretrained(")
    assert resolved(facts=NATIVE, attn_implementation="eager").outcome == Runs("eager")
    wrong = resolved(facts=NATIVE, attn_implementation='{"vision_tower": "eager", "text_config": "eager"}')
    (remark,) = wrong.remarks
    assert "vision_tower" in remark.message
    assert resolved(facts=NATIVE, attn_implementation='{"vision_config": "eager"}').remarks == ()


@pytest.mark.parametrize(("key", "value"), [("script", "train_mem.py"), ("use_flash_attn", "false")])
def test_settings_of_the_package_do_nothing_for_transformers_own_checkpoints(key: str, value: str) -> None:
    found = resolved(facts=NATIVE, **{key: value})
    assert found.outcome == Runs("sdpa")
    (remark,) = found.remarks
    assert (remark.slug, remark.setting) == ("setting-ignored", key)
    assert remark.message.startswith(f"{key}={value} has no effect: ")
    assert remark.fixes[0].paste.startswith("model = ")


def test_advice_names_the_line_the_flag_or_the_script() -> None:
    old, new, following = RELEASES
    assert "train.py" in recommend("eager", old).paste
    assert recommend("eager", new, training=True).paste.startswith('train(attn_implementation="eager")')
    assert "line 4" in recommend("eager", new, training=True).paste
    assert recommend("sdpa", following, training=True).paste == "--attn_implementation sdpa"
    assert "use_flash_attn=True" in recommend("flash_attention_2", new).paste
    assert not any("export " in line for line in without_flash())


def fetched(requirement: str, folder: Path) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no package index: {done.stderr.strip()[-200:]}")
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def line(wheel: zipfile.ZipFile, path: str, number: int) -> str:
    return wheel.read(path).decode().splitlines()[number - 1].strip()


@pytest.mark.legacy
def test_the_lines_that_are_named_stand_there_in_the_real_packages(tmp_path: Path) -> None:
    old = fetched("llava-torch==1.1.1", tmp_path / "old")
    assert line(old, "llava/train/train_mem.py", 8) == RELEASES[0].statement
    assert "use_flash_attn" not in old.read("llava/model/builder.py").decode()
    new = fetched("llava-torch==1.2.2.post1", tmp_path / "new")
    assert line(new, "llava/train/train_mem.py", 4) == RELEASES[1].statement
    assert "attn_implementation" in line(new, "llava/model/builder.py", 46)
    assert line(new, "llava/train/train_xformers.py", 8) == "replace_llama_attn_with_xformers_attn()"
    assert "use_flash_attn=False, **kwargs" in new.read("llava/model/builder.py").decode()
    metadata = new.read("llava_torch-1.2.2.post1.dist-info/METADATA").decode()
    assert "torch ==2.0.1" in metadata
    assert "transformers ==4.36.2" in metadata
    for wheel in (old, new):  # no environment variable decides about attention
        for name in wheel.namelist():
            text = wheel.read(name).decode("utf-8", "replace") if name.endswith(".py") else ""
            assert not [row for row in text.splitlines() if "environ" in row and ("FLASH" in row or "ATTN" in row)]


@pytest.mark.legacy
def test_the_sdpa_class_of_those_days_has_a_forward_of_its_own(tmp_path: Path) -> None:
    """So a patched LlamaAttention.forward is never called, and sdpa needs torch 2.1.1."""
    wheel = fetched("transformers==4.36.2", tmp_path)
    text = wheel.read("transformers/models/llama/modeling_llama.py").decode()
    sdpa = text.partition("class LlamaSdpaAttention(LlamaAttention):")[2].partition("\nclass ")[0]
    assert "def forward(" in sdpa
    assert 'version.parse("2.1.1")' in wheel.read("transformers/utils/import_utils.py").decode()
    assert "sdpa" not in wheel.read("transformers/models/clip/modeling_clip.py").decode()
