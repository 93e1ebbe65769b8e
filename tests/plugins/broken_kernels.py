"""Attention functions broken on purpose, registered under their own names when the worker imports this plug-in."""

import ctypes
import os
import time

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface


def segfaulting(*args, **kwargs):
    ctypes.string_at(0)


def hanging(*args, **kwargs):
    if told := os.environ.get("HANGING_KERNEL_WRITES_ITS_PROCESS_TO"):
        whole = f"{told}.partial"
        with open(whole, "w") as file:
            file.write(str(os.getpid()))
        os.rename(whole, told)
    time.sleep(100_000)


def raising(*args, **kwargs):
    raise RuntimeError("the kernel is out of sorts")


def printing(*args, **kwargs):
    print("chatter on standard output")
    return sdpa_attention_forward(*args, **kwargs)


def poisoned(*args, **kwargs):
    output, weights = sdpa_attention_forward(*args, **kwargs)
    return torch.full_like(output, float("nan")), weights


for kernel in (segfaulting, hanging, raising, printing, poisoned):
    AttentionInterface.register(kernel.__name__, kernel)
    AttentionMaskInterface.register(kernel.__name__, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
