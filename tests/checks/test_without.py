"""The rules about flash that should not run: a fault, quiet cases, crashed probes, and what they advise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attncheck import checks
from attncheck.checks import without
from attncheck.checks.interface import Case, Inputs
from attncheck.findings import Finding, Recommendation, Setting, Severity
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Part
from attncheck.semantics.sub_models import Asked, AskedRun, Phase, SubModelRun, WithoutFlash
from attncheck.verdicts import Status
from tests import runs

CPU_FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"
MATH = "aten::_scaled_dot_product_attention_math"
SOFTMAX = "aten::softmax"


def sub(kernel: str, reached: str, *, key: str = "text_config", requested: str = "", **fields: Any) -> SubModelRun:
    tower = key == "vision_config"
    return SubModelRun(
        key=key,
        title="vision tower" if tower else "language model",
        module="Module",
        part=Part.VISION if tower else Part.DECODER,
        requested=requested,
        config=reached,
        **{"reached": (reached,), "phases": (Phase("prefill", (kernel,)),), **fields},
    )


def both(asked: Asked, tower: str, text: str, reached: str = "sdpa") -> AskedRun:
    return AskedRun(asked, (sub(tower, reached, key="vision_config"), sub(text, reached)))


DEFAULT = both(Asked("sdpa"), CPU_FLASH, CPU_FLASH)
EAGER = both(Asked("eager", "eager"), SOFTMAX, SOFTMAX, "eager")
OFF = both(Asked("sdpa, flash off", "sdpa", ("no-flash",)), MATH, MATH)
TEXT_ONLY = AskedRun(
    Asked("language model eager", (("text_config", "eager"),)),
    (sub(CPU_FLASH, "sdpa", key="vision_config"), sub(SOFTMAX, "eager")),
)


def settings(name: str) -> Recommendation:
    return Recommendation(name, (Setting("transformers", "attn_implementation", f'"{name}"', f'load("{name}")'),))


def inputs(*asked: AskedRun, ways: tuple[AskedRun, ...] = (EAGER, OFF, TEXT_ONLY), **fields: Any) -> Inputs:
    layer = runs.layer()
    seen = runs.run(runs.calls(layer, runs.PLAIN), implementation="sdpa")
    answer = WithoutFlash(asked, ways)
    made = runs.inputs(runs.model(layer), seen, default="sdpa", settings=settings, **fields)
    return replace(made, without=answer)


def concluded(given: Inputs) -> list[Finding]:
    return [f for f in without.conclude(Case(given, ())) if f.slug.startswith(("flash", "silent"))]


def test_sdpas_own_flash_kernel_is_an_error_in_each_sub_model() -> None:
    found = concluded(inputs(DEFAULT))
    assert [(f.slug, f.severity, f.part, f.implementation, f.basis) for f in found] == [
        ("flash-not-off", Severity.ERROR, Part.VISION, "sdpa", Basis.MEASURED),
        ("flash-not-off", Severity.ERROR, Part.DECODER, "sdpa", Basis.MEASURED),
    ]
    tower, text = found
    assert "SDPA's own flash kernel" in tower.message
    assert tower.evidence.figures["profiler"] == CPU_FLASH
    assert tower.evidence.figures["calls"] == "prefill"
    assert text.reproduction == "attncheck compare made/model --without flash --impl sdpa"


def test_only_ways_that_were_measured_free_are_advised_and_partial_ones_last() -> None:
    tower, text = concluded(inputs(DEFAULT))
    assert [advice.text.partition(":")[0] for advice in tower.recommendations] == ["eager", "sdpa, flash off"]
    assert [advice.text.partition(":")[0] for advice in text.recommendations] == [
        "eager", "sdpa, flash off", "language model eager",
    ]  # fmt: skip
    assert [advice.paste for advice in text.recommendations] == [
        'load("eager")',
        "torch.backends.cuda.enable_flash_sdp(False)",
        'load({"text_config": "eager"})',
    ]
    assert "the vision tower still runs one" in text.recommendations[2].text


def test_a_way_that_does_not_help_is_not_advised() -> None:
    """On Hopper SDPA goes on to cuDNN's flash kernel when its own is off."""
    cudnn = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7"
    useless = both(Asked("sdpa, flash off", "sdpa", ("no-flash",)), cudnn, cudnn)
    (finding, _) = concluded(inputs(both(Asked("sdpa"), cudnn, cudnn), ways=(useless, EAGER)))
    assert "cuDNN" in finding.message
    assert [advice.text.partition(":")[0] for advice in finding.recommendations] == ["eager"]


def test_quiet_where_no_flash_kernel_runs() -> None:
    assert concluded(inputs(EAGER)) == []
    assert concluded(inputs(OFF)) == []
    assert concluded(replace(inputs(DEFAULT), without=None)) == []


def test_a_crashed_or_refused_way_is_not_proven() -> None:
    broken = AskedRun(Asked("sdpa", "sdpa"), failure="it broke (signal): SIGSEGV")
    (finding,) = concluded(inputs(broken))
    assert (finding.slug, finding.severity) == ("flash-not-proven", Severity.WARNING)
    assert "SIGSEGV" in finding.message


def test_attention_of_a_frameworks_own_is_not_blamed_on_the_default() -> None:
    patched = AskedRun(Asked("LLaVA's patch"), failure="it is not measured here", basis=Basis.STATIC)
    (finding,) = concluded(inputs(patched))
    assert (finding.slug, finding.basis, finding.implementation) == ("flash-not-proven", Basis.STATIC, None)
    assert finding.message.startswith("Under LLaVA's patch ")
    assert finding.reproduction == ""


def test_advice_in_a_frameworks_words_is_what_was_measured() -> None:
    """A settings file has one value for the whole model, and its diff keeps its lines beside torch's switches."""

    def diff(name: str) -> Recommendation:
        return Recommendation(name, (Setting("some", "attn", name, f"--- a.yaml\n+attn: {name}"),))

    given = replace(inputs(DEFAULT, ways=(TEXT_ONLY,)), settings=diff)
    (advice,) = concluded(given)[1].recommendations
    assert advice.settings == ()
    running = AskedRun(Asked("eager", "eager"), DEFAULT.sub_models)
    (advice,) = concluded(replace(inputs(running, ways=(OFF,)), settings=diff))[0].recommendations
    assert advice.paste == "--- a.yaml\n+attn: sdpa\ntorch.backends.cuda.enable_flash_sdp(False)"


def test_a_part_that_is_not_proven_is_not_said_to_run_flash() -> None:
    unseen = sub("", "sdpa", key="vision_config", phases=(Phase("image"),))
    half = AskedRun(Asked("language model eager", (("text_config", "eager"),)), (unseen, sub(SOFTMAX, "eager")))
    (advice,) = concluded(inputs(DEFAULT, ways=(half,)))[1].recommendations
    assert advice.text.endswith("none in the language model; not proven for the vision tower")


def test_calls_without_a_kernel_and_calls_that_break_prove_nothing() -> None:
    silent = AskedRun(Asked("eager", "eager"), (sub(SOFTMAX, "eager", phases=(Phase("prefill"),)),))
    broken = AskedRun(
        Asked("eager", "eager"), (sub("", "eager", phases=(Phase("decode", failure="RuntimeError: no"),)),)
    )
    unfed = AskedRun(Asked("eager", "eager"), (sub("", "eager", phases=(), missing="nobody knows how to feed it"),))
    for run, said in ((silent, "no attention kernel"), (broken, "RuntimeError"), (unfed, "nobody knows")):
        (finding,) = concluded(inputs(run))
        assert finding.slug == "flash-not-proven"
        assert said in finding.message
    assert concluded(inputs(AskedRun(Asked("eager", "eager"))))[0].slug == "flash-not-proven"


def test_flash_attention_itself_needs_no_measurement_and_says_so() -> None:
    asked = Asked("flash_attention_2", "flash_attention_2", predicted=True)
    run = AskedRun(asked, (sub("", "flash_attention_2", phases=(), missing="its kernel cannot run here"),))
    (finding,) = concluded(inputs(run))
    assert (finding.slug, finding.basis, finding.implementation) == (
        "flash-not-off", Basis.PREDICTED, "flash_attention_2",
    )  # fmt: skip
    # the switches alone would not help: what to load with is named too
    off = next(advice for advice in finding.recommendations if advice.text.startswith("sdpa, flash off"))
    assert off.paste == 'load("sdpa"); torch.backends.cuda.enable_flash_sdp(False)'


def test_every_switch_of_a_way_stands_in_its_line() -> None:
    off = both(Asked("sdpa, flash and cuDNN off", "sdpa", ("no-flash", "no-cudnn")), MATH, MATH)
    (advice,) = concluded(inputs(DEFAULT, ways=(off,)))[0].recommendations
    assert advice.paste == "torch.backends.cuda.enable_flash_sdp(False); torch.backends.cuda.enable_cudnn_sdp(False)"
    context = both(Asked("sdpa, efficient or math only", "sdpa", ("efficient-or-math",)), MATH, MATH)
    (advice,) = concluded(inputs(DEFAULT, ways=(context,)))[0].recommendations
    assert advice.paste.startswith("with torch.nn.attention.sdpa_kernel([")


def test_what_the_user_runs_is_kept_where_a_switch_is_enough() -> None:
    own = AskedRun(Asked("eager", "eager"), (sub(CPU_FLASH, "sdpa", key="vision_config"), sub(SOFTMAX, "eager")))
    kept = both(Asked("eager, and SDPA's flash off", "eager", ("no-flash",)), MATH, SOFTMAX)
    best = checks.evaluate(inputs(own, ways=(OFF, kept))).recommended
    assert best is not None
    assert best.implementation == "eager"
    assert [setting.paste for setting in best.recommendation.settings] == [
        "torch.backends.cuda.enable_flash_sdp(False)"
    ]


def test_a_sub_model_that_runs_something_else_is_a_fallback() -> None:
    asked = Asked("sdpa", "sdpa")
    fallback = AskedRun(asked, (sub(SOFTMAX, "eager", key="vision_config", requested="sdpa"),))
    right = AskedRun(asked, (sub(MATH, "sdpa", requested="sdpa"),))
    (finding,) = concluded(replace(inputs(EAGER), sub_models=(fallback, right)))
    assert (finding.slug, finding.part, finding.severity) == ("silent-fallback", Part.VISION, Severity.WARNING)
    assert "eager runs there" in finding.message
    tower = replace(sub("", "eager", key="vision_config", requested="sdpa", phases=()), reached=())
    unseen = AskedRun(asked, (tower,))
    (note,) = concluded(replace(inputs(EAGER), sub_models=(unseen,)))
    assert (note.slug, note.severity) == ("silent-fallback", Severity.NOTE)
    assert "by its config" in note.message


def test_the_implementation_stays_right_and_what_is_recommended_is_free_of_flash() -> None:
    conclusion = checks.evaluate(inputs(DEFAULT))
    (entry,) = [entry for entry in conclusion.implementations if entry.name == "sdpa"]
    assert entry.status is Status.OK
    assert conclusion.recommended is not None
    assert conclusion.recommended.implementation == "sdpa"
    assert conclusion.recommended.recommendation.paste == "torch.backends.cuda.enable_flash_sdp(False)"
    only_eager = checks.evaluate(inputs(DEFAULT, ways=(EAGER,)))
    assert only_eager.recommended is not None
    assert only_eager.recommended.implementation == "eager"
    assert checks.evaluate(inputs(DEFAULT, ways=())).recommended is None


def test_what_is_free_of_flash_already_stays_recommended() -> None:
    free = replace(DEFAULT, sub_models=OFF.sub_models)
    conclusion = checks.evaluate(inputs(free))
    assert conclusion.recommended is not None
    assert conclusion.recommended.recommendation.paste == 'load("sdpa")'
