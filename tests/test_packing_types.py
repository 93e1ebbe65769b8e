"""The 22 types of transformers 5.23 whose positions never reach the mask: those that take position_ids leak."""

from __future__ import annotations

import functools
from importlib.metadata import version

import pytest
import torch
from packaging.version import Version

from attncheck import checks
from attncheck.declared import oracle
from attncheck.probe.protocol import Probe
from attncheck.probe.runner import run
from attncheck.probe.scenario import DOCUMENTS
from attncheck.probe.tiny.build import TinyModel, build
from attncheck.semantics.layout import documents
from attncheck.semantics.observation import NotApplicable, ScenarioRun
from attncheck.verdicts import Cell, Verdict

#: Their forward takes position_ids, and the documents of a packed row attend to each other all the same.
LEAKING = (
    "afmoe", "bert", "bert-generation", "biogpt", "camembert", "data2vec-text", "electra", "ernie", "gpt_oss", "opt",
    "roberta", "roberta-prelayernorm", "roc_bert", "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
#: Their forward takes none, so that nobody can tell them where a document starts.
WITHOUT_POSITIONS = ("bart", "blenderbot", "blenderbot-small", "marian", "mbart", "pegasus", "plbart")

pytestmark = pytest.mark.skipif(
    Version(version("transformers")).release[:2] != (5, 23), reason="the list was measured on transformers 5.23"
)


@functools.cache
def tiny_of(model_type: str) -> TinyModel:
    built = build({"model_type": model_type})
    assert isinstance(built, TinyModel)
    return built


def runs_of(model_type: str) -> list[ScenarioRun]:
    answers = run(tiny_of(model_type), Probe("eager", ("packed",)))
    return [answer for answer in answers if isinstance(answer, ScenarioRun)]


def cells_of(model_type: str) -> list[Cell]:
    tiny = tiny_of(model_type)
    spec = oracle.declare(tiny.info.config, tiny.defaults)
    inputs = checks.Inputs(
        target=model_type,
        real=spec,
        tiny=spec,
        declare=lambda _: spec,
        runs=runs_of(model_type),
        implementations=("eager",),
    )
    return list(checks.evaluate(inputs).cells)


def logits_of(model_type: str, tokens: torch.Tensor) -> torch.Tensor:
    positions = torch.tensor([documents(*DOCUMENTS).position])
    with torch.no_grad():
        output = tiny_of(model_type).instantiate("eager")(input_ids=tokens, position_ids=positions, use_cache=False)
    return output.logits[0]


@pytest.mark.parametrize("model_type", LEAKING)
def test_types_with_positions_leak_in_eager(model_type: str) -> None:
    found = {cell.difference for cell in cells_of(model_type) if cell.variant == "no-mask"}
    assert found == {"packing-leak"}


@pytest.mark.parametrize("model_type", LEAKING)
def test_the_leak_reaches_the_logits(model_type: str) -> None:
    """The same without attncheck's reading: another token in the first document changes the logits of the second."""
    tokens = torch.arange(64, 64 + sum(DOCUMENTS))[None]
    swapped = tokens.clone()
    swapped[0, 3] = 110
    second = slice(DOCUMENTS[0], None)
    change = (logits_of(model_type, tokens)[second] - logits_of(model_type, swapped)[second]).abs().max()
    assert change > 1e-6


def test_a_type_that_isolates_shows_neither() -> None:
    """The control: llama's positions do reach the mask."""
    assert {cell.verdict for cell in cells_of("llama") if cell.variant == "no-mask"} == {Verdict.OK}
    tokens = torch.arange(64, 64 + sum(DOCUMENTS))[None]
    swapped = tokens.clone()
    swapped[0, 3] = 110
    second = slice(DOCUMENTS[0], None)
    assert torch.equal(logits_of("llama", tokens)[second], logits_of("llama", swapped)[second])


@pytest.mark.parametrize("model_type", WITHOUT_POSITIONS)
def test_types_without_positions_say_that_packing_is_not_applicable(model_type: str) -> None:
    (said,) = runs_of(model_type)
    assert isinstance(said.outcome, NotApplicable)
    assert "takes no position_ids" in said.outcome.reason
    assert [cell.verdict for cell in cells_of(model_type)] == [Verdict.NOT_APPLICABLE]
