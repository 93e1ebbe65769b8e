"""What is called for each decision of transformers, and whether its own kernel can run where the probes run."""

from __future__ import annotations

import pytest

from attncheck.comparison.measuring import called_as, runs_here
from attncheck.frameworks.interface import Decision, Redirected, Unavailable, Usable
from attncheck.semantics.observation import NotRun, Reason, Rejected

WHY = (Reason("why", "", "somewhere"),)
HUB = "kernels-community/flash-attn2"


@pytest.mark.parametrize(
    ("decision", "called"),
    [
        (Usable("flash_attention_2"), "flash_attention_2"),
        (Unavailable("flash_attention_2", WHY), "flash_attention_2"),
        (Rejected(WHY), None),
        (Redirected("flash_attention_2", HUB, WHY, False, "flash_attention_3"), None),
        (Redirected("flash_attention_2", HUB, WHY, True, "flash_attention_3"), "flash_attention_3"),
    ],
)
def test_what_is_called(decision: Decision, called: str | None) -> None:
    assert called_as("flash_attention_2", decision) == called


def test_an_unknown_contract_is_not_run() -> None:
    found = called_as("flash_attention_2", Redirected("flash_attention_2", HUB, WHY, True, None))
    assert found == NotRun(f"transformers would run {HUB} instead, whose call contract is not known")


def test_where_only_the_contract_can_answer() -> None:
    assert runs_here("flash_attention_2", Usable("flash_attention_2"), "cuda")
    assert not runs_here("flash_attention_2", Usable("flash_attention_2"), "cpu")
    assert runs_here("sdpa", Usable("sdpa"), "cpu")
    assert not runs_here("sdpa", Unavailable("sdpa", WHY), "cuda")
    assert not runs_here("sdpa", Redirected("sdpa", HUB, WHY, True, "sdpa"), "cuda")
