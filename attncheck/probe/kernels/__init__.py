"""Probes of kernels by themselves, without a model: what each API's numbers mean, real shapes, known incidents."""
