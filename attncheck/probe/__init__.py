"""The only place that runs kernels: the worker process, tiny models, scenarios, and the probes themselves."""
