"""A snippet that shows a finding on the user's own model, without attncheck: one token replaced, one module re-run."""

from __future__ import annotations

from attncheck.findings import Finding
from attncheck.live.settings import YOURS

_TEMPLATE = """\
# {title}
# Needs `model` as it is loaded now{needs}.
import torch

ROW, QUERY, KEY = {row}, {query}, {key}  # batch row, query token, key token
layers = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == {num_layers}]
attention = next(m for m in layers[0][{layer}].modules() if "att" in type(m).__name__.lower())
{batch}
seen = []


def around(module, args, kwargs, output):
    hidden = args[0] if args else kwargs["hidden_states"]
    changed = hidden.clone()
    changed[ROW, KEY] = 16 * hidden.float().std() * torch.randn_like(hidden[ROW, KEY])
    for sign in (1, -1):
        changed[ROW, KEY] *= sign
        again = {{**kwargs, "past_key_values": None}} if "past_key_values" in kwargs else kwargs
        if args:
            other = module.forward(changed, *args[1:], **again)
        else:
            other = module.forward(**{{**again, "hidden_states": changed}})
        first, second = (x[0] if isinstance(x, tuple) else x for x in (output, other))
        seen.append(float((first - second)[ROW, QUERY].abs().max()))


hook = attention.register_forward_hook(around, with_kwargs=True)
with torch.no_grad():
    model(**batch)
hook.remove()
print(f"query {{QUERY}} {{'sees' if max(seen) > 0 else 'does not see'}} key {{KEY}}; declared: it {declared}")
"""

#: What to feed instead of a batch of the user's, by scenario.
_OWN = {
    "plain": "batch = {{'input_ids': torch.randint(64, 120, (1, {length}), device=model.device)}}",
    "left-pad": (
        "batch = {{'input_ids': torch.randint(64, 120, (2, {length}), device=model.device)}}\n"
        "batch['attention_mask'] = torch.ones_like(batch['input_ids'])\n"
        "batch['attention_mask'][1, :5] = 0"
    ),
    "right-pad": (
        "batch = {{'input_ids': torch.randint(64, 120, (2, {length}), device=model.device)}}\n"
        "batch['attention_mask'] = torch.ones_like(batch['input_ids'])\n"
        "batch['attention_mask'][1, -5:] = 0"
    ),
}
_ONES = "\nbatch['attention_mask'] = torch.ones_like(batch['input_ids'])"


def snippet(finding: Finding, num_layers: int) -> str:
    """The snippet for one wrong cell of a mask in a single forward call; else the call that measures it again."""
    evidence, layer = finding.evidence, min(finding.layers, default=0)
    first, declared, shown = evidence.first_difference, evidence.declared_mask, evidence.effective_mask
    mine = finding.scenario == YOURS
    single = mine or finding.scenario in _OWN
    if first is None or declared is None or shown is None or not single or first[1] == first[2] or not num_layers:
        batch = "batch, " if mine else ""
        return f"attncheck.verify(model, {batch}layers=({layer},))"
    row, query, key = first
    start = shown.kv_len - shown.q_len
    keeps = declared.keeps(query - start, key)
    own = "" if mine else _OWN[finding.scenario].format(length=shown.kv_len)
    if "ones-mask" in finding.variant:
        own += _ONES
    return _TEMPLATE.format(
        title=finding.headline or finding.message,
        needs=" and `batch`, the keyword arguments of the forward call" if mine else "",
        row=row,
        query=query,
        key=key,
        num_layers=num_layers,
        layer=layer,
        batch=own,
        declared="does" if keeps else "does not",
    )
