"""Model code that comes with a config is run only when it is trusted, and then found where the config lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CONFIG = {
    "model_type": "homemade",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "auto_map": {
        "AutoConfig": "configuration_home.HomeConfig",
        "AutoModelForCausalLM": "modeling_home.HomeForCausalLM",
    },
}
CONFIGURATION = """
import pathlib
from transformers import LlamaConfig
pathlib.Path(__file__).with_name("was_run").touch()
class HomeConfig(LlamaConfig):
    model_type = "homemade"
"""
MODELING = """
from transformers import LlamaForCausalLM
from .configuration_home import HomeConfig
class HomeForCausalLM(LlamaForCausalLM):
    config_class = HomeConfig
"""


def compare(target: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attncheck", "compare", str(target), "--offline", "--format", "json", *arguments]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HF_MODULES_CACHE": str(target.parent / "modules"),
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_code_of_a_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.json").write_text(json.dumps(CONFIG))
    (home / "configuration_home.py").write_text(CONFIGURATION)
    (home / "modeling_home.py").write_text(MODELING)

    untrusted = compare(home)
    assert (untrusted.returncode, untrusted.stdout) == (2, "")
    assert "which is run only with --trust-remote-code" in untrusted.stderr
    assert not list(tmp_path.rglob("was_run"))

    trusted = compare(home, "--trust-remote-code", "--impl", "eager,sdpa", "--scenario", "plain")
    assert list(tmp_path.rglob("was_run"))
    report = json.loads(trusted.stdout)
    # Nothing says what a type that only its own code knows declares: it was run, but nobody can judge it.
    assert {cell["verdict"] for cell in report["matrix"]} == {"unknown"}
    assert report["recommended"] is None
    assert trusted.returncode == report["summary"]["exit_code"] == 3
