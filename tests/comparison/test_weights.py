"""The dtype that a framework's settings load the model in is the one that is measured on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attncheck.comparison import framework
from attncheck.comparison.options import CompareOptions, device_and_dtype, run_dtype
from attncheck.environment import Environment
from attncheck.gpus import Gpu

CPU = Environment("3.11", "Linux", (), torch_cuda="")
GPU = replace(CPU, gpus=(Gpu(0, "H100", (9, 0), 80 << 30),), torch_cuda="13.0")


@pytest.mark.parametrize(
    ("line", "said", "on_gpu", "on_cpu", "shapes"),
    [
        ("fp16: true", None, "float16", "float32", "float16"),
        ("bf16: true", None, "bfloat16", "float32", "bfloat16"),
        ("stage: sft", None, "bfloat16", "float32", "bfloat16"),
        ("fp16: true", "bfloat16", "bfloat16", "bfloat16", "bfloat16"),
        ("bf16: true", "float32", "float32", "float32", "float32"),
    ],
)
def test_a_settings_file_says_the_dtype_where_the_user_does_not(
    line: str, said: str | None, on_gpu: str, on_cpu: str, shapes: str, tmp_path: Path
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(f"model_name_or_path: some/model\ntemplate: qwen\n{line}\n")
    setup = framework.read(CompareOptions(str(file), dtype=said))
    assert setup is not None
    assert device_and_dtype(setup.options, GPU) == ("cuda", on_gpu)
    assert device_and_dtype(setup.options, CPU) == ("cpu", on_cpu)
    assert device_and_dtype(replace(setup.options, device="cpu"), GPU) == ("cpu", on_cpu)
    assert run_dtype(setup.options) == shapes


def test_a_word_that_is_no_dtype_is_left_to_the_framework() -> None:
    asked = CompareOptions("some/model", framework="unsloth", framework_set=("dtype=torch.float16",))
    found, other = framework.read(asked), framework.read(replace(asked, framework_set=("dtype=torch.int8",)))
    assert found is not None
    assert other is not None
    assert (run_dtype(found.options), run_dtype(other.options)) == ("float16", "bfloat16")
