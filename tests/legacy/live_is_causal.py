"""Command: a live Llama whose attention modules are told `is_causal=False`, as LLM2Vec does; prints what verify says.

python -m tests.legacy.live_is_causal IMPLEMENTATION
"""

from __future__ import annotations

import json
import sys

from attncheck.findings import Finding


def findings(implementation: str) -> list[Finding]:
    """What verify measures of such a model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from attncheck.live.verify import verify
    from attncheck.semantics.observation import Basis

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, vocab_size=97,
        intermediate_size=48, max_position_embeddings=256,
    )  # fmt: skip
    model = LlamaForCausalLM._from_config(config, attn_implementation=implementation).eval()
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    report = verify(model, fail_on="never")
    return [found for found in report.findings if found.basis is not Basis.STATIC]


def main() -> None:
    """Prints slugs and figures as JSON."""
    import transformers

    found = findings(sys.argv[1])
    print(
        json.dumps(
            {
                "transformers": transformers.__version__,
                "slugs": sorted({finding.slug for finding in found}),
                "figures": "; ".join(
                    f"{f.slug} ({f.severity.value}, {f.scenario or '-'} {f.variant}): {f.message}" for f in found
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
