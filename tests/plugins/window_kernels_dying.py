"""The pair of `window_kernels` whose second kernel ends its process."""

import os

from tests.plugins.window_kernels import backend


def dying(*args, **kwargs):
    os.abort()


BACKEND = backend(dying)
