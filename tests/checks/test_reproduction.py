"""Snippets: they compile, they are given only where they can show the fault, and the real ones do show it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from attncheck import checks
from attncheck.findings import Finding
from attncheck.semantics.observation import Basis, ScenarioRun
from tests import runs
from tests.runs import DECODE_16, LEFT_PAD, PLAIN, layer, model

WINDOWED, CAUSAL = layer(7), layer()


def reproduction(made: ScenarioRun, **fields: Any) -> str:
    found = checks.evaluate(runs.inputs(model(WINDOWED), made, **fields)).findings
    return next(finding.reproduction for finding in found if finding.implementation)


@pytest.mark.parametrize("layout", [PLAIN, LEFT_PAD, DECODE_16])
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_snippets_compile_and_name_what_is_declared(layout: Any, implementation: str) -> None:
    text = reproduction(runs.run(runs.calls(CAUSAL, layout), layout, implementation=implementation))
    compile(text, "snippet.py", "exec")
    assert f'attn_implementation="{implementation}"' in text
    assert "from transformers import AutoConfig, MadeForCausalLM" in text
    assert "attncheck" not in text
    assert ("TORCHDYNAMO_DISABLE" in text) == (implementation == "flex_attention")


@pytest.mark.parametrize(
    "fields",
    [
        {"basis": Basis.PREDICTED, "implementation": "flash_attention_2"},
        {"implementation": "made_by_a_plugin"},
        {"scenario": "static-cache"},
    ],
)
def test_what_a_snippet_cannot_show_gets_the_command(fields: dict[str, Any]) -> None:
    made = runs.run(runs.calls(CAUSAL, PLAIN), **fields)
    name, scenario = made.implementation, made.scenario
    assert reproduction(made) == f"attncheck compare made/model --impl eager,{name} --scenario {scenario}"


def test_a_head_that_sees_less_is_hidden_by_the_others() -> None:
    text = reproduction(runs.run(runs.calls(layer(6), PLAIN, heads=[1], declared=WINDOWED)))
    assert text.startswith("attncheck compare")
    text = reproduction(runs.run(runs.calls(CAUSAL, PLAIN, heads=[1], declared=WINDOWED)))
    assert text.startswith("#")


def real_findings(config: dict[str, Any], implementation: str, scenario: str) -> tuple[Finding, ...]:
    from attncheck.declared import oracle
    from attncheck.probe import runner
    from attncheck.probe.protocol import ClassFacts, Probe
    from attncheck.probe.tiny import build as tiny
    from attncheck.probe.tiny import facts

    known, built = facts.describe(config), tiny.build(config)
    assert isinstance(known, ClassFacts)
    assert isinstance(built, tiny.TinyModel)

    def declare(overrides: Any) -> Any:
        return oracle.declare({**built.info.config, **dict(overrides)}, known.defaults)

    made = [entry for entry in runner.run(built, Probe(implementation, (scenario,))) if isinstance(entry, ScenarioRun)]
    return checks.evaluate(
        checks.Inputs(
            target=config["model_type"],
            real=oracle.declare(config, known.defaults),
            tiny=declare(()),
            declare=declare,
            runs=made,
            tiny_config=built.info.config,
            model_class=built.info.model_class,
            vocab_size=built.info.vocab_size,
        )
    ).findings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "implementation", "scenario", "slug"),
    [
        ({"model_type": "doge"}, "flex_attention", "left-pad", "padding-ignored"),
        ({"model_type": "moshi", "sliding_window": 1000}, "eager", "decode", "window-ignored"),
        ({"model_type": "moshi", "sliding_window": 1000}, "sdpa", "chunked-prefill", "window-ignored"),
        ({"model_type": "llama"}, "sdpa", "packed-cache", "packing-leak"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sdpa", "custom-mask", "window-ignored"),
        ({"model_type": "bert"}, "sdpa", "packed", "packing-leak"),
        ({"model_type": "gemma"}, "eager", "bidirectional", "causal-unexpected"),
    ],
)
def test_real_snippets_show_the_fault_by_themselves(
    config: dict[str, Any], implementation: str, scenario: str, slug: str, tmp_path: Any
) -> None:
    found = next(f for f in real_findings(config, implementation, scenario) if f.slug == slug and f.implementation)
    snippet = tmp_path / "snippet.py"
    snippet.write_text(found.reproduction)
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TORCH"))}
    done = subprocess.run(
        [sys.executable, snippet], capture_output=True, text=True, timeout=300, cwd=tmp_path, env=plain, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wrong = re.search(r"(\d+) wrong: \[(.*)\]", done.stdout)
    assert wrong is not None
    assert int(wrong[1]) > 0
    assert found.evidence.first_difference is not None
    assert str(found.evidence.first_difference[2]) in wrong[2].split(", ")
