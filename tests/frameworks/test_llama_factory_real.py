"""attncheck's resolution against LLaMA-Factory itself: real packages in throw-away folders, case by case, all equal.

By default a handful of cases runs under 0.9.5 beside the installed transformers: one wheel of a megabyte and twenty
seconds. `pytest -m slow` runs some 200 cases for each of four releases beside a transformers that it accepts, and 0.9.5
as a whole: parser, loader on a tiny checkpoint, collator.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from attncheck.frameworks import llama_factory_keys
from tests.frameworks import llama_factory_cases as fixed
from tests.legacy import environments

pytestmark = pytest.mark.legacy
HERE = Path(__file__).parent
#: LLaMA-Factory and a transformers that its requirement allows; None is the installed one.
PAIRS = (("0.9.2", "4.49.0"), ("0.9.3", "4.52.4"), ("0.9.4", "4.57.1"), ("0.9.5", "5.6.0"), ("0.9.5", "4.55.4"))
#: What 0.9.5 imports as a whole, without the web interface and the media libraries.
WHOLE = (
    "accelerate==1.11.0", "peft==0.18.1", "trl==0.24.0", "datasets==4.0.0", "omegaconf==2.3.0",
    "antlr4-python3-runtime==4.9.3", "tyro==0.8.14", "fire==0.7.1", "pandas", "pyarrow", "multiprocess", "dill",
    "xxhash", "requests", "urllib3", "certifi", "idna", "charset_normalizer", "httpx", "python-dateutil", "six",
    "aiohttp", "docstring_parser", "shtab", "termcolor", "typeguard",
)  # fmt: skip

Answers = list[dict[str, Any]]
Runner = Callable[..., Any]


@pytest.fixture(scope="session")
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = getattr(request.config, "cache", None)
    return Path(cache.mkdir("legacy")) if cache is not None else tmp_path_factory.getbasetemp().parent / "legacy"


@pytest.fixture(scope="session")
def run(root: Path) -> Runner:
    def asked(
        script: str,
        cases: Sequence[dict[str, Any]],
        release: str,
        transformers: str | None,
        further: Sequence[str] = (),
    ) -> Any:
        path = [environments._folder(root, (f"llamafactory=={release}",), True)]
        path += environments.transformers_release(transformers, root) if transformers else ()
        path += [environments._folder(root, tuple(further), True)] if further else []
        done = subprocess.run(
            [sys.executable, str(HERE / script)],
            input=json.dumps(list(cases)),
            capture_output=True,
            text=True,
            env=dict(environments.variables(tuple(path))),
            check=False,
            timeout=1800,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return asked


def different(answers: Answers) -> Answers:
    """The cases in which attncheck says another thing than LLaMA-Factory does."""

    def outcome(answer: dict[str, Any]) -> tuple[Any, ...]:
        return answer["kind"], answer.get("error"), answer.get("implementation")

    return [one for one in answers if outcome(one["real"]) != outcome(one["ours"])]


def test_a_handful_of_cases_beside_the_installed_transformers(run: Runner) -> None:
    answers = run("real_llama_factory.py", fixed.FEW, "0.9.5", None)
    assert len(answers) == len(fixed.FEW)
    assert different(answers) == []
    assert {one["real"]["kind"] for one in answers} == {"runs", "fails"}


def test_the_comparison_sees_a_resolution_that_is_wrong() -> None:
    right = {"real": {"kind": "runs", "implementation": "sdpa"}, "ours": {"kind": "runs", "implementation": "sdpa"}}
    wrong = {**right, "ours": {"kind": "runs", "implementation": "eager"}}
    failing = {**right, "real": {"kind": "fails", "error": "ValueError"}}
    assert different([right, wrong, failing]) == [wrong, failing]


@pytest.mark.slow
@pytest.mark.parametrize(("release", "transformers"), PAIRS)
def test_every_case_beside_a_transformers_that_the_release_takes(run: Runner, release: str, transformers: str) -> None:
    answers = run("real_llama_factory.py", fixed.cases(), release, transformers)
    assert len(answers) >= 180  # types that the old transformers does not know are left out
    assert different(answers) == []


@pytest.mark.slow
def test_the_whole_package(run: Runner) -> None:
    cases = [one for one in fixed.cases() if one["type"] in fixed.BUILT[:4] and not one["flash"]]
    found = run("whole_llama_factory.py", cases, "0.9.5", "5.6.0", WHOLE)
    assert len(found["cases"]) >= 50
    assert different(found["cases"]) == []
    packed = [one["real"] for one in found["cases"] if one["case"]["settings"].get("neat_packing")]
    assert {answer["mask"] for answer in packed if answer["kind"] == "runs"} == {4}
    missing = set(found["keys"]) - llama_factory_keys.keys("0.9.5")
    assert missing == set(), "keys that the real parser takes and attncheck would refuse"
