"""What counts as an announced refusal, and what as a crash."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from attncheck.probe.refusal import memory_words, outcome_of
from attncheck.semantics.observation import Crashed, Rejected


def raised(code: str, module: str = "transformers.models.made_up") -> BaseException:
    """The exception that `code` raises inside a module of that name."""
    made = ModuleType(module)
    exec(compile(f"def run():\n    {code}", module, "exec"), made.__dict__)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        made.run()
    return caught.value


@pytest.mark.parametrize("kind", ["ValueError", "NotImplementedError", "ImportError"])
def test_a_raise_statement_of_the_library_is_a_refusal(kind: str):
    outcome = outcome_of(raised(f"raise {kind}('no sinks here. Ask elsewhere.')"))
    assert isinstance(outcome, Rejected)
    (reason,) = outcome.reasons
    assert reason.text == "no sinks here"
    assert reason.source == "transformers.models.made_up.run"


def test_torch_announces_too():
    assert isinstance(outcome_of(raised("raise NotImplementedError('no')", "torch.nn.attention")), Rejected)


def test_a_missing_package_is_a_refusal():
    outcome = outcome_of(raised("import no_such_package_anywhere"))
    assert isinstance(outcome, Rejected)
    assert "no_such_package_anywhere" in outcome.reasons[0].text


def test_an_assertion_is_a_refusal_only_when_it_says_what_it_wants():
    assert isinstance(outcome_of(raised("assert False, 'one token at a time'")), Rejected)
    assert isinstance(outcome_of(raised("assert False")), Crashed)


def test_an_implicit_error_of_the_same_type_is_a_crash():
    outcome = outcome_of(raised("a, b = (1, 2, 3)"))
    assert isinstance(outcome, Crashed)
    assert outcome.kind == "exception"
    assert "too many values" in outcome.reason
    assert "transformers.models.made_up.run" in outcome.reason


def test_other_types_and_other_modules_crash():
    assert isinstance(outcome_of(raised("raise RuntimeError('size mismatch')")), Crashed)
    assert isinstance(outcome_of(raised("raise ValueError('mine')", "somebodys_kernels")), Crashed)


@pytest.mark.parametrize(
    "code", ["raise MemoryError()", "raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')"]
)
def test_out_of_memory_has_its_own_kind(code: str):
    outcome = outcome_of(raised(code))
    assert isinstance(outcome, Crashed)
    assert outcome.kind == "memory"


def test_what_did_not_fit_is_told_without_the_account_of_every_process() -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 64.00 GiB. GPU 0 has a total capacity of 79.18 GiB of which 5.01 GiB is "
        "free. Process 642 has 812.00 MiB memory in use. Of the allocated memory 66.94 GiB is allocated by PyTorch"
    )
    assert memory_words(error) == "Tried to allocate 64.00 GiB, 5.01 GiB free"
    outcome = outcome_of(error)
    assert isinstance(outcome, Crashed)
    assert (outcome.kind, outcome.reason) == ("memory", "Tried to allocate 64.00 GiB, 5.01 GiB free")
    assert memory_words(MemoryError("no room. Buy more.")) == "no room"
    assert memory_words(
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"
        )
    ).startswith("tried to allocate 8 bytes")


def test_an_empty_message_still_says_something():
    outcome = outcome_of(raised("raise KeyError()"))
    assert isinstance(outcome, Crashed)
    assert "KeyError" in outcome.reason
