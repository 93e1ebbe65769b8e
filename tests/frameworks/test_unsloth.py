"""Unsloth's resolver: routes, kernels, remarks by release, settings; and how live models are recognised."""

from __future__ import annotations

import pytest

from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.findings import Severity
from attncheck.frameworks import plugin, unsloth, unsloth_defects, unsloth_history, unsloth_words
from attncheck.frameworks.plugin import Asked, Fails, ModelFacts, Resolution, Runs, RunsOwn, Unresolved
from attncheck.frameworks.unsloth_history import FLASH, KERNELS, SDPA, XFORMERS, Span
from attncheck.frameworks.unsloth_recognition import patched
from attncheck.semantics.observation import Basis
from tests.frameworks.unsloth_models import ENVIRONMENT, environment

WINDOWED = {"sliding_window": 4096}


def resolved(
    model_type: str = "llama",
    version: str | None = None,
    where: Environment = ENVIRONMENT,
    has_window: bool = False,
    **settings: str,
) -> Resolution:
    asked = Asked(assigned=settings, version=version, model="some/model")
    config = {"model_type": model_type, **(WINDOWED if has_window else {})}
    facts = ModelFacts("some/model", model_type, config, has_window=has_window)
    return unsloth.resolve(asked, where, facts)


def said(found: Resolution) -> str:
    return "\n".join(remark.message for remark in found.remarks)


def test_it_is_found_by_name() -> None:
    assert plugin.find("unsloth") is unsloth.FRAMEWORK


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "gemma", "gemma2", "qwen3"])
def test_types_with_a_fast_path_run_unsloths_own_attention(model_type: str) -> None:
    assert isinstance(resolved(model_type).outcome, RunsOwn)


def test_other_types_take_the_compiled_route_which_is_not_guessed() -> None:
    assert isinstance(resolved("phi3").outcome, Unresolved)
    assert resolved("phi3", attn_implementation="sdpa").outcome == Runs("sdpa")
    # Before 2025.4.1 the argument was overwritten.
    assert isinstance(resolved("phi3", "2025.3.19", attn_implementation="eager").outcome, Unresolved)


@pytest.mark.parametrize(("version", "own"), [("2025.4.1", False), ("2025.4.2", True)])
def test_qwen3_has_a_fast_path_from_its_release_on(version: str, own: bool) -> None:
    assert isinstance(resolved("qwen3", version).outcome, RunsOwn) is own


@pytest.mark.parametrize("key", ["full_finetuning", "load_in_8bit"])
def test_some_arguments_leave_the_fast_path(key: str) -> None:
    found = resolved("llama", **{key: "true"})
    assert isinstance(found.outcome, Unresolved)
    assert any(step.setting == key for step in found.steps)
    assert not found.remarks
    assert isinstance(resolved("llama", "2025.3.9", **{key: "true"}).outcome, RunsOwn)


def test_the_kernel_follows_what_is_installed_and_the_gpu() -> None:
    assert kernels(environment(flash=True, xformers=True)) == (FLASH, XFORMERS, SDPA)
    assert kernels(environment(xformers=True)) == (XFORMERS, SDPA)
    assert kernels(environment(flash=True, capability=(7, 5))) == (SDPA,)
    assert kernels(environment(flash=True, capability=None)) == KERNELS  # nobody knows where it will run


def kernels(where: Environment) -> tuple[str, ...]:
    outcome = resolved(where=where).outcome
    assert isinstance(outcome, RunsOwn)
    return outcome.backends


def test_an_asked_implementation_is_thrown_away_on_the_fast_path() -> None:
    found = resolved(attn_implementation="eager")
    assert isinstance(found.outcome, RunsOwn)
    assert any(step.setting == "attn_implementation" and "thrown away" in step.does for step in found.steps)


# What is known of releases --------------------------------------------------------------------------


def test_everything_said_of_a_release_is_labelled_static() -> None:
    for version in ("2024.8", "2025.6.12", "2025.11.6", "2026.10.9"):
        for model_type in ("llama", "mistral", "qwen2", "gemma2"):
            for remark in resolved(model_type, version, has_window=True, packing="true").remarks:
                assert remark.basis is Basis.STATIC
                assert remark.slug == "known-bad-version"
                assert remark.evidence
                assert remark.fixes


def test_the_dropped_training_mask_is_a_warning_only_where_one_is_passed() -> None:
    custom = [remark for remark in resolved(attention_mask="custom").remarks if "(mask-dropped)" in remark.message]
    assert [remark.severity for remark in custom] == [Severity.WARNING]
    other = [remark for remark in resolved().remarks if "(mask-dropped)" in remark.message]
    assert [remark.severity for remark in other] == [Severity.NOTE]
    assert "(mask-dropped)" not in said(resolved(for_inference="true"))


@pytest.mark.parametrize(
    ("version", "flag"), [("2025.6.5", False), ("2025.7.1", False), ("2026.10.3", False), ("2026.10.4", True)]
)
def test_the_flag_that_keeps_masks_is_offered_where_the_release_reads_it(version: str, flag: bool) -> None:
    fixes = next(remark.fixes for remark in resolved(version=version).remarks if "(mask-dropped)" in remark.message)
    assert any("_unsloth_keep_padding_mask" in fix.paste for fix in fixes) is flag
    assert any("AutoModelForCausalLM" in fix.paste for fix in fixes)


@pytest.mark.parametrize(
    ("model_type", "version", "there"),
    [
        ("llama", "2025.1.8", False), ("llama", "2025.2.2", True), ("qwen2", "2025.7.1", True),
        ("llama", "2025.7.2", False), ("qwen3", "2025.8.9", True), ("qwen3", "2025.8.10", False),
        ("mistral", "2025.7.2", True), ("mistral", "2025.12.1", True), ("mistral", "2025.12.4", False),
    ],
)  # fmt: skip
def test_bidirectional_training_by_release(model_type: str, version: str, there: bool) -> None:
    assert ("(causal-ignored)" in said(resolved(model_type, version, environment()))) is there
    # With another kernel it cannot be met.
    assert "(causal-ignored)" not in said(resolved(model_type, version, environment(flash=True, xformers=True)))


@pytest.mark.parametrize(
    ("version", "flash", "slugs"),
    [
        ("2026.10.3", True, {"window-off-by-one"}), ("2026.10.4", True, set()),
        ("2026.8.9", False, {"window-ignored"}), ("2026.8.10", False, set()), ("2025.12.4", False, {"window-ignored"}),
    ],
)  # fmt: skip
def test_mistrals_window_by_release_and_kernel(version: str, flash: bool, slugs: set[str]) -> None:
    text = said(resolved("mistral", version, environment(flash=flash), has_window=True))
    assert {slug for slug in ("window-off-by-one", "window-ignored") if f"({slug})" in text} == slugs
    assert "(4096, 4096)" in text or "window-off-by-one" not in slugs
    assert "window" not in said(resolved("mistral", version, environment(flash=flash)))


def test_qwen2_has_no_window_in_training_in_any_release() -> None:
    for version in ("2024.8", "2025.9.11", "2026.10.9"):
        assert "(window-ignored)" in said(resolved("qwen2", version, has_window=True))
        assert "(window-ignored)" not in said(resolved("qwen2", version))
        assert "only when a 2D attention_mask is passed" in said(
            resolved("qwen2", version, has_window=True, for_inference="true")
        )


def test_packing_defects_are_told_to_who_packs() -> None:
    assert "(packing-leak)" not in said(resolved("llama", "2026.10.7"))
    assert "(packing-leak)" in said(resolved("llama", "2026.10.7", packing="true"))
    assert "(packing-leak)" not in said(resolved("llama", "2026.10.8", packing="true"))


def test_without_a_gpu_conditions_are_said_instead_of_taken() -> None:
    text = said(resolved("mistral", "2026.10.3", environment(capability=None), has_window=True))
    assert "(with flash-attn)" in text


def test_every_defect_names_a_slug_that_a_rule_documents() -> None:
    from attncheck.checks.registry import code_of

    for defect in unsloth_defects.DEFECTS:
        assert code_of(defect.slug)


def test_mistral_without_xformers_ends_in_the_releases_that_made_its_mask_always() -> None:
    outcome = resolved("mistral", "2025.7.1", environment(flash=True)).outcome
    assert isinstance(outcome, Fails)
    assert isinstance(resolved("mistral", "2025.7.2", environment(flash=True)).outcome, RunsOwn)
    assert isinstance(resolved("mistral", "2025.7.1", environment(xformers=True)).outcome, RunsOwn)


def test_variables_are_said_to_act_where_the_release_reads_them() -> None:
    where = environment(variables={"UNSLOTH_KEEP_PADDING": "1"})
    acts = {version: _variable(resolved(version=version, where=where)) for version in ("2025.7.1", "2026.10.9")}
    assert acts["2025.7.1"] == "1 keeps the attention_mask in training"
    assert "is not read" in acts["2026.10.9"]


def _variable(found: Resolution) -> str:
    return next(step.does for step in found.steps if step.setting == "UNSLOTH_KEEP_PADDING")


def test_versions_compare_by_release_number() -> None:
    assert Span("2025.9.11", "2026.10.3").holds("2025.12.1")
    assert not Span("2025.9.11").holds("2025.9.5")
    assert Span("2026.10.4").holds("2027.1.1")


def test_the_required_transformers_is_named() -> None:
    assert "<=5.17.0" in resolved().versions["transformers"]
    assert unsloth_history.transformers_for("2025.10.4") == ""  # between two that were read


# Settings -------------------------------------------------------------------------------------------


def test_the_plan_reads_length_packing_and_use() -> None:
    plan = unsloth.plan(Asked(assigned={"max_seq_length": "2048", "packing": "true", "dtype": "torch.bfloat16"}))
    assert (plan.seq_len, plan.packing, plan.use, plan.dtype) == (2048, True, "train", "bfloat16")
    assert unsloth.plan(Asked(assigned={"for_inference": "true"})).use == "generate"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pakcing", "true", "packing"), ("packing", "yes please", "true or false"),
        ("max_seq_length", "0", "from 1 on"), ("max_seq_length", "long", "a whole number"),
        ("attention_mask", "4d", "none, 2d, custom"), ("packing", "[1, 2]", "list"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_clear_line(key: str, value: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        unsloth.plan(Asked(assigned={key: value}))
    assert words in caught.value.message + caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("value", ["[hf_abc]", "!!python/name:os.system hf_abc", "{hf_abc"])
def test_a_token_is_never_printed(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        unsloth.plan(Asked(assigned={"hf_token": value}))
    assert "hf_token=<hidden>" in caught.value.message
    assert "hf_abc" not in caught.value.message + caught.value.hint


def test_recommendations_are_python_that_parses() -> None:
    found = resolved("qwen2", has_window=True, attention_mask="custom")
    pastes = [fix.paste for remark in found.remarks for fix in remark.fixes]
    pastes += [found.recommend(name).paste for name in found.offers]
    pastes += [fix.paste for fix in unsloth_words.not_causal("2026.10.9")]
    for paste in pastes:
        if not paste.startswith("pip "):
            compile(paste, "paste", "exec")


# Live models ----------------------------------------------------------------------------------------


class _Model:
    def __init__(self, *modules: object) -> None:
        self._modules = modules

    def modules(self) -> tuple[object, ...]:
        return self._modules


def _attention(forward_module: str, class_module: str = "transformers.models.llama.modeling_llama") -> object:
    def forward(self: object) -> None: ...

    forward.__module__ = forward_module
    return type("LlamaAttention", (), {"forward": forward, "__module__": class_module})()


def test_a_fast_path_is_recognised_by_where_its_forward_comes_from() -> None:
    found = patched(_Model(_attention("unsloth.models.llama"), _attention("unsloth.models.llama")))
    assert found is not None
    assert found.fast == ("unsloth.models.llama",)
    assert "fast path" in found.route


def test_the_compiled_route_is_recognised_by_its_generated_module() -> None:
    found = patched(_Model(_attention("unsloth_compiled_module_llama", "unsloth_compiled_module_llama")))
    assert found is not None
    assert (found.fast, found.route) == ((), "Unsloth's compiled route")


def test_plain_transformers_is_not_taken_for_unsloth() -> None:
    assert patched(_Model(_attention("transformers.models.llama.modeling_llama"))) is None


def test_a_forward_set_on_the_instance_counts() -> None:
    attention = _attention("transformers.models.llama.modeling_llama")

    def forward() -> None: ...

    forward.__module__ = "unsloth.models.mistral"
    attention.forward = forward  # type: ignore[attr-defined]
    found = patched(_Model(attention))
    assert found is not None
    assert found.fast == ("unsloth.models.mistral",)
