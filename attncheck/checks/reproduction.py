"""A snippet that shows a finding by itself: replaces one token of a layer's input and looks which outputs move."""

from __future__ import annotations

import pprint
from collections.abc import Mapping
from typing import Any

from attncheck.checks.interface import Inputs, Issue, View
from attncheck.findings import Finding, Severity
from attncheck.semantics.layout import PAD, Layout
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Part

#: Implementations that plain `python` with torch and transformers can run on a CPU.
_ANYWHERE = ("eager", "sdpa", "flex_attention")
_SCENARIOS = (
    "plain", "left-pad", "right-pad", "decode", "chunked-prefill", "packed", "packed-batch", "packed-cache", "custom-mask",
    "bidirectional", "output-attentions",
)  # fmt: skip

_TEMPLATE = '''\
# {title}
# {implementation}, scenario {scenario}, layer {layer} of a tiny {model_type}. Needs torch and transformers only.
{switch}import torch
from transformers import AutoConfig, {model_class}

config = AutoConfig.for_model(**{config})
torch.manual_seed(0)
model = {model_class}._from_config(config, attn_implementation="{implementation}").eval()
layers = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == {num_layers}]
layer = layers[0][{layer}]

ROW, QUERY = {row}, {query}
DECLARED = {declared}  # the keys that this query may see
STEPS = {steps}  # tokens of each forward call
ids = torch.randint({low}, {high}, ({rows}, {length}), generator=torch.Generator().manual_seed(0))
noise = torch.randn(config.hidden_size, generator=torch.Generator().manual_seed(1))
{inputs}

def output_at_query(replaced):
    """Output of the layer at QUERY when its input at the token `replaced` is noise."""
    seen, start = [], 0

    def before(module, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        if replaced is not None and start <= replaced < start + hidden.shape[1]:
            hidden = hidden.clone()
            hidden[ROW, replaced - start] = noise
        return ((hidden, *args[1:]), kwargs) if args else (args, {{**kwargs, "hidden_states": hidden}})

    def after(module, args, output):
        seen.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after)]
    cache = None
    for start, stop in STEPS:
        with torch.no_grad():
            result = model(input_ids=ids[:, start:stop], **inputs(start, stop, cache))
        cache = getattr(result, "past_key_values", None)
    for hook in hooks:
        hook.remove()
    return torch.cat(seen, dim=1)[ROW, QUERY]


clean = output_at_query(None)
sees = [key for key in range({keys}) if key != QUERY and (output_at_query(key) - clean).abs().max() > 1e-6]
wrong = sorted(set(sees) ^ set(DECLARED))
print(f"query {{QUERY}} sees keys {{sees}}")
print(f"declared are     {{DECLARED}}")
print(f"{{len(wrong)}} wrong: {{wrong}}")
'''


def for_issue(issue: Issue, inputs: Inputs) -> str:
    """A snippet where the fault is one of the mask and shows in a layer's own output, else the command that shows it."""
    if _can_snippet(issue, inputs):
        return _snippet(issue, inputs)
    return command(issue.view.run.implementation, issue.view.run.scenario, inputs)


def for_finding(finding: Finding, inputs: Inputs) -> str:
    """The command for findings that come from no single issue; empty for notes."""
    if finding.severity is Severity.NOTE or not finding.implementation or not finding.scenario:
        return finding.reproduction
    return command(finding.implementation, finding.scenario, inputs)


def command(implementation: str, scenario: str, inputs: Inputs) -> str:
    """The attncheck call that measures one implementation beside eager in one scenario."""
    names = implementation if implementation == "eager" else f"eager,{implementation}"
    return f"attncheck compare {inputs.target} --impl {names} --scenario {scenario}"


def _can_snippet(issue: Issue, inputs: Inputs) -> bool:
    view, evidence = issue.view, issue.evidence
    one_stack = view.run.decoder is None or view.run.encoder is None
    hidden_by_other_heads = bool(evidence.heads) and not evidence.leaked
    return (
        view.run.basis is Basis.MEASURED
        and view.run.implementation in _ANYWHERE
        and view.run.scenario in _SCENARIOS
        and not view.kernel
        and one_stack
        and view.part not in (Part.CROSS, Part.VISION)
        and inputs.options.dtype == "float32"
        and bool(inputs.model_class and inputs.tiny_config.get("model_type"))
        and evidence.first_difference is not None
        and evidence.declared_mask is not None
        and not hidden_by_other_heads
        and issue.slug not in ("dropout-active", "cache-mismatch")
    )


def _snippet(issue: Issue, inputs: Inputs) -> str:
    view, evidence = issue.view, issue.evidence
    assert evidence.first_difference is not None
    assert evidence.declared_mask is not None
    row, query, _ = evidence.first_difference
    step = int(evidence.figures.get("step", 0))
    start, stop = view.layout.steps[step]
    # A query's own key cannot be told from outside: a residual connection carries it past the attention.
    declared = [key for key in range(stop) if key != query and evidence.declared_mask.keeps(query - start, key)]
    config = _overridden(inputs.tiny_config, view)
    low = min(64, inputs.vocab_size // 2)
    return _TEMPLATE.format(
        title=issue.message,
        implementation=view.run.implementation,
        scenario=f"{view.run.scenario} ({view.run.variant})",
        switch='import os\n\nos.environ["TORCHDYNAMO_DISABLE"] = "1"  # flex_attention without minutes of compiling\n'
        if view.run.implementation == "flex_attention"
        else "",
        model_type=config["model_type"],
        model_class=inputs.model_class,
        config=pprint.pformat(config, width=110, sort_dicts=False, indent=1),
        num_layers=len(inputs.tiny.of_part(view.part)),
        layer=view.layer,
        row=row,
        query=query,
        declared=declared,
        steps=list(view.layout.steps),
        low=low,
        high=min(120, inputs.vocab_size),
        rows=len(view.layout.rows),
        length=view.layout.length,
        keys=stop,
        inputs=_inputs(view),
    )


def _inputs(view: View) -> str:
    """The function that gives each forward call its mask, positions and cache."""
    layout, run = view.layout, view.run
    lines, entries = [], []
    mask = _mask(layout, run.variant)
    if mask:
        lines.append(mask)
        cut = "start:stop, :stop" if layout.rows[0].custom is not None else ""
        entries.append(f'"attention_mask": mask[:, :, {cut}]' if cut else '"attention_mask": mask[:, :stop]')
    if run.scenario.startswith("packed"):
        lines.append(f"positions = torch.tensor({[list(row.position) for row in layout.rows]})")
        entries.append('"position_ids": positions[:, start:stop]')
    cached = len(layout.steps) > 1 or run.scenario == "packed-cache"
    entries.append(f'"use_cache": {cached}')
    if len(layout.steps) > 1:
        entries.append('**({"past_key_values": cache} if cache is not None else {})')
    if run.scenario == "output-attentions":
        entries.append('"output_attentions": True')
    body = ",\n        ".join(entries)
    lines += ["", "", "def inputs(start, stop, cache):", "    return {", f"        {body},", "    }", ""]
    return "\n".join(lines)


def _mask(layout: Layout, variant: str) -> str:
    if all(row.custom is not None for row in layout.rows):
        words = [list(row.custom.rows) for row in layout.rows if row.custom is not None]
        keep = (
            f"KEEP = {words}  # a bitset of keys for each query\n"
            f"mask = torch.tensor([[[row >> key & 1 for key in range({layout.length})] for row in rows] for rows in KEEP])"
            "[:, None].bool()"
        )
        additive = "\nmask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)"
        return keep + (additive if "additive" in variant else "")
    padded = any(number == PAD for row in layout.rows for number in row.document)
    if not padded and "ones-mask" not in variant:
        return ""
    return f"mask = torch.tensor({[[int(number != PAD) for number in row.document] for row in layout.rows]})"


def _overridden(config: Mapping[str, Any], view: View) -> dict[str, Any]:
    """The tiny config with the overrides of the run, dotted keys reaching sub-configs."""
    result = dict(config)
    for key, value in view.run.overrides:
        *path, name = key.split(".")
        level = result
        for part in path:
            level[part] = dict(level.get(part) or {})
            level = level[part]
        level[name] = value
    return result
