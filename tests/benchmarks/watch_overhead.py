"""What a watch costs once it has read its calls: CPU seconds of a step with stand-ins, asleep, and without any watch.

Start: `python -m tests.benchmarks.watch_overhead [--rounds 15]` from the repository root. The three states take turns
in one process, block by block, so that a slow minute of the machine meets all of them; the middle ratio of a state to
its neighbour without a watch counts. Prints ratios; judges nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.nn.functional import scaled_dot_product_attention as bound

from attncheck.watching.apis import APIS
from attncheck.watching.listeners import Listener
from attncheck.watching.watcher import Watcher

Step = Callable[[], object]


class Block(torch.nn.Module):
    """A layer that calls torch's attention itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(x)


def training() -> Step:
    model = torch.nn.Sequential(*(Block(64, 4) for _ in range(4)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(2, 32, 64)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def transformers_training() -> Step:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=4, vocab_size=256))
    ids = torch.randint(0, 256, (2, 32))

    def step() -> None:
        model.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()

    return step


def bare() -> Step:
    q = torch.randn(1, 4, 32, 32)

    def step() -> None:
        for _ in range(100):
            F.scaled_dot_product_attention(q, q, q)

    return step


#: What is stepped, and how many steps a block has.
LOOPS: dict[str, tuple[str, Callable[[], Step], int]] = {
    "training": ("training step, 4 tiny layers that call torch's attention", training, 20),
    "transformers": ("training step, 4 tiny layers of transformers (sdpa)", transformers_training, 10),
    "bare": ("100 tiny attention calls and nothing else", bare, 20),
}


def watcher() -> Watcher:
    """A watch that keeps nothing."""
    return Watcher(Listener(3, lambda _: None, lambda _: None, lambda text: print(text, file=sys.stderr)))


def attach(watch: Watcher) -> None:
    """Stand-ins everywhere, as in a process that `attncheck run` started."""
    watch.replacing.module("torch.nn.functional", F)
    for name, module in list(sys.modules.items()):
        if name == "transformers.modeling_utils":
            watch.replacing.interface(module)
        elif name.startswith("transformers.models.") and ".modeling_" in name:
            watch.replacing.modeling(module)


def block(step: Step, steps: int) -> float:
    """CPU seconds of a step."""
    begun = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - begun) / steps


def ratios(make: Callable[[], Step], steps: int, rounds: int) -> tuple[list[float], list[float], float]:
    """Ratios with stand-ins that know every site, ratios asleep, and seconds of a step without a watch."""
    step = make()
    watch = watcher()
    attach(watch)
    known = 0
    while known < 200:  # until nothing new has come for long: every site is closed
        step()
        known += 1
    awake, asleep, plain = [], [], []
    for _ in range(rounds):
        watch.replacing.restore()
        attach(watch)
        watch.asleep, watch.quiet = False, 1 << 60
        awake.append(block(step, steps))
        watch.sleep()
        asleep.append(block(step, steps))
        watch.replacing.restore()
        plain.append(block(step, steps))
    watch.replacing.restore()
    return (
        [with_it / without for with_it, without in zip(awake, plain)],
        [with_it / without for with_it, without in zip(asleep, plain)],
        statistics.median(plain),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=15, help="Blocks of each state, of whose ratios the median counts."
    )
    parser.add_argument("--loops", default=",".join(LOOPS))
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"{'':58} {'a step':>10}  {'known sites':>11}  {'asleep':>7}")
    for name in options.loops.split(","):
        words, make, steps = LOOPS[name]
        awake, asleep, seconds = ratios(make, steps, options.rounds)
        middle = statistics.median(awake), statistics.median(asleep)
        print(f"{words:58} {seconds * 1e6:7.0f} us  {middle[0]:11.3f}  {middle[1]:7.3f}", flush=True)
    q = torch.randn(1, 4, 32, 32)
    watch = watcher()
    stand_in = watch.stand_in(APIS[0], bound)
    watch.asleep = True
    times: dict[str, list[float]] = {"plain": [], "asleep": []}
    for _ in range(options.rounds):
        for label, function in (("plain", bound), ("asleep", stand_in)):
            times[label].append(block(lambda call=function: [call(q, q, q) for _ in range(100)], 20))  # type: ignore[misc]
    ratio = statistics.median(a / b for a, b in zip(times["asleep"], times["plain"]))
    words = "the same by a name that was bound at import"
    print(f"{words:58} {statistics.median(times['plain']) * 1e6:7.0f} us  {'':11}  {ratio:7.3f}")


if __name__ == "__main__":
    main()
