"""Measures live models of the real Unsloth: the mask that runs, by attncheck and black-box, for many kinds of batches.

python -m tests.campaigns.unsloth_live FOLDER [--device cuda|cpu] [--only NAME ...] [--jobs N] [--limit SECONDS]

Each case runs in a process of its own with its own time limit and writes as it goes: `CASE.jsonl` (one line a batch,
raw) and attncheck's reports; a crash or a hang loses no other case. `summary.md`, `summary.json` and `raw.tar.gz` are
rewritten after every case. Tiny checkpoints are made on the spot; no network is used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.campaigns.unsloth_cases import CASES, LABELLED, TOKENS, WINDOW, Case, load

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = (
    "torch",
    "transformers",
    "unsloth",
    "unsloth_zoo",
    "flash-attn",
    "xformers",
    "bitsandbytes",
    "triton",
    "peft",
)
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1", "TOKENIZERS_PARALLELISM": "false"}


def main() -> int:
    """Run the cases and write what they say; 0 when every case that was to run gave a result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--limit", type=int, default=170)
    parser.add_argument("--child")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.child:
        return child(next(case for case in CASES if case.name == options.child), options.folder, options.device)
    wanted = [case for case in CASES if not options.only or case.name in options.only]
    wanted = [case for case in wanted if options.device == "cuda" or not case.gpu]
    ends: dict[str, str] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = {pool.submit(run, case, options): case for case in wanted}
        for done in as_completed(waiting):
            ends[waiting[done].name] = done.result()
            print(f"{waiting[done].name}: {ends[waiting[done].name]}", flush=True)
            summarise(options.folder, wanted, ends)
    print((options.folder / "summary.md").read_text())
    return 0 if all(end.startswith("ok") for end in ends.values()) else 1


def run(case: Case, options: argparse.Namespace) -> str:
    """One case in its own process; how it ended, in words."""
    folder = options.folder.resolve()
    command = [sys.executable, "-m", __spec__.name, str(folder), "--child", case.name, "--device", options.device]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, open(folder / f"{case.name}.log", "w") as log:
        compiled = {"UNSLOTH_COMPILE_LOCATION": f"{scratch}/unsloth_compiled_cache"}
        environment = {**os.environ, **ENVIRONMENT, **compiled, "TMPDIR": scratch, "PYTHONPATH": _path()}
        try:
            done = subprocess.run(
                command, cwd=scratch, env=environment, stdout=log, stderr=log, timeout=options.limit, check=False
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"ended after {options.limit} s"
    took = f"{time.monotonic() - begun:.0f} s"
    return f"ok, {took}" if done.returncode == 0 else f"exit {done.returncode}, {took}"


def _path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def child(case: Case, folder: Path, device: str) -> int:
    """One case: every mode and batch, a line for each as it is done."""
    sys.path.insert(0, str(ROOT))
    if device == "cpu" and case.route != "transformers":
        from tests.campaigns import unsloth_cpu

        unsloth_cpu.prepare()
    with open(folder / f"{case.name}.jsonl", "w") as lines, tempfile.TemporaryDirectory() as scratch:

        def say(**entry: Any) -> None:
            print(json.dumps({"case": case.name, **entry}), file=lines, flush=True)

        try:
            model = load(case, Path(scratch), device)
        except BaseException as error:
            say(load=_error(error))
            raise
        say(load="ok", **facts(model))
        for mode in case.modes:
            getattr(model, mode)()
            for name in case.batches:
                for labels in (False, True) if case.labels and mode == "train" and name in LABELLED else (False,):
                    say(
                        mode=mode,
                        batch=name,
                        labels=labels,
                        **measured(case, model, mode, name, labels, device, folder),
                    )
        if case.lora and "train" in case.modes:
            say(mode="train", batch="step", **step(model, device))
    return 0


def facts(model: Any) -> dict[str, Any]:
    """What the live model is, before anything runs."""
    import torch

    from attncheck.frameworks.unsloth_recognition import patched
    from tests.campaigns.unsloth_masks import last_layer

    found = patched(model)
    attention = last_layer(model).self_attn
    return {
        "model_class": type(model).__name__,
        "forward": type(attention).forward.__module__,
        "attention_class": f"{type(attention).__module__}.{type(attention).__name__}",
        "config_says": getattr(model.config, "_attn_implementation", None),
        "route": None if found is None else found.route,
        "projection": type(attention.q_proj).__name__,
        "versions": {name: _version(name) for name in VERSIONS},
        "python": platform.python_version(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def measured(case: Case, model: Any, mode: str, name: str, labels: bool, device: str, folder: Path) -> dict[str, Any]:
    """One batch: the black-box mask, the one through the backward, and attncheck's own reading and findings."""
    import torch

    from tests.campaigns import unsloth_masks as masks

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    window = WINDOW if "sliding_window" in case.config else None
    given = masks.batch(name, TOKENS, window, case.wanted, device, dtype)
    found: dict[str, Any] = {}
    if case.layers == 1:
        found["swap"] = _tried(lambda: masks.words(masks.swapped(model, given, labels), given.asked, given.real))
        if mode == "train" and not labels and name in ("none", "block", "left-pad"):
            found["backward"] = _tried(lambda: masks.words(masks.by_gradients(model, given), given.asked, given.real))
    label = f"{case.name}-{mode}-{name}{'-labels' if labels else ''}"
    found["attncheck"] = _tried(lambda: verified(case, model, given, labels, folder / f"{label}.json"))
    return found


def verified(case: Case, model: Any, given: Any, labels: bool, path: Path) -> dict[str, Any]:
    """attncheck's reading of the batch: masks of every layer, findings; the report goes to `path`."""
    import torch

    from attncheck.live import verify
    from attncheck.live.settings import Settings
    from attncheck.render import interface
    from tests.campaigns import unsloth_masks as masks

    batch = {**given.kwargs, **({"labels": given.kwargs["input_ids"].clone()} if labels else {})}
    declared = {**model.config.to_dict(), "is_causal": False} if case.edit else None
    settings = Settings(fit=False, declared=declared)
    seen = verify.measure(model, batch, settings)
    report = verify.judge(model, [seen], settings)
    path.write_text(interface.render(report, "json", interface.Style()))
    calls = [call for run in seen.runs for call in getattr(run.outcome, "calls", ())]
    layers = []
    for call in calls:
        keep = call.masks[0].keep
        mask = torch.tensor([[keep.keeps(i, j) for j in range(keep.kv_len)] for i in range(keep.q_len)])
        layers.append({"layer": call.layer, "method": call.method.value, **masks.words(mask, given.asked, given.real)})
    failures = [text for run in seen.runs for text in getattr(run.outcome, "failures", ())]
    return {
        "layers": layers,
        "outcomes": [type(run.outcome).__name__ for run in seen.runs],
        "failures": failures,
        "findings": [
            [f.slug, f.severity.value, f.basis.value if f.basis else None, f.message] for f in report.findings
        ],
        "report": path.name,
    }


def step(model: Any, device: str) -> dict[str, Any]:
    """One real training step's loss and gradients: that what was measured also trains."""
    import torch

    def go() -> dict[str, Any]:
        ids = (torch.arange(TOKENS) * 7 % 113)[None].to(device)
        model.train()
        loss = model(input_ids=ids, labels=ids.clone()).loss
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        sound = all(bool(grad.isfinite().all()) for grad in grads)
        return {"loss": float(loss), "gradients": len(grads), "finite": sound}

    return _tried(go)


def _tried(go: Any) -> Any:
    try:
        return go()
    except Exception as error:
        return _error(error)


def _error(error: BaseException) -> dict[str, str]:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return {"error": f"{type(error).__name__}: {error}"[:600], "at": f"{Path(where.filename).name}:{where.lineno}"}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# The summary ----------------------------------------------------------------------------------------


def summarise(folder: Path, cases: list[Case], ends: dict[str, str]) -> None:
    """`summary.md`, `summary.json` and `raw.tar.gz` of what is there by now."""
    entries = {case.name: _lines(folder / f"{case.name}.jsonl") for case in cases}
    (folder / "summary.json").write_text(json.dumps({"ends": ends, "cases": entries}, indent=1))
    text = [
        "| case | mode | batch | black-box L,R (cells) | backward | attncheck | as asked | findings |",
        "|" + "---|" * 8,
    ]
    for case in cases:
        if case.name not in ends:
            continue
        first = entries[case.name][0] if entries[case.name] else {"load": "nothing was written"}
        note = f"{first.get('forward')}; config says {first.get('config_says')}; {first.get('route')}"
        text.append(
            f"| **{case.name}** ({ends[case.name]}) | {note if first['load'] == 'ok' else first['load']} |||||||"
        )
        text += [_row(case, entry) for entry in entries[case.name][1:]]
    (folder / "summary.md").write_text("\n".join(text) + "\n")
    with tarfile.open(folder / "raw.tar.gz", "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            if path.suffix in (".json", ".jsonl", ".log"):
                tar.add(path, path.name)


def _row(case: Case, entry: dict[str, Any]) -> str:
    name = entry["batch"] + (" + labels" if entry.get("labels") else "")
    if name == "step":
        said = json.dumps({key: value for key, value in entry.items() if key not in ("case", "mode", "batch")})
        return f"| {case.name} | train | one step | {said} |||||"
    ran, swap = entry.get("attncheck", {}), entry.get("swap", {})
    layers = ran.get("layers", [])
    asked = {bool(one["as_asked"]) for one in (*layers, swap) if "as_asked" in one}
    found = [f"{slug} ({severity})" for slug, severity, basis, _ in ran.get("findings", []) if basis == "measured"]
    cells = (
        case.name,
        entry["mode"],
        name,
        _reach(swap),
        _reach(entry.get("backward", {})),
        "; ".join(_reach(one) for one in layers) or ran.get("error") or "; ".join(ran.get("failures", [])) or "-",
        "?" if not asked else "differ" if len(asked) > 1 else "yes" if asked == {True} else "**no**",
        ", ".join(found),
    )
    return "| " + " | ".join(cells) + " |"


def _reach(one: dict[str, Any]) -> str:
    if "error" in one:
        return one["error"].partition("\n")[0][:90]
    return f"{one['left']},{one['right']} ({one['cells']})" if "left" in one else ""


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # the process ended while it wrote
    return found


if __name__ == "__main__":
    sys.exit(main())
