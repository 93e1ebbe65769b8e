"""The pair of `window_kernels`, with three further APIs beside it: two that agree, and one that raises a slip."""

from tests.plugins.window_kernels import backend, inclusive


def rounded(*args, **kwargs):
    return inclusive(*args, **kwargs) + 0.25


def slipping(*args, **kwargs):
    raise AttributeError("no such thing")


BACKEND = backend(None, te_flash=inclusive, te_fused=rounded, te_unfused=slipping)
