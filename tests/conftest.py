"""Settings of the whole suite. With this file here, pytest also puts the folder above on the path (`tests.builders`)."""

import os

# As in the worker: flex_attention runs uncompiled, and tiny models gain nothing from threads. Before torch is imported.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
