"""Checks of models that are already loaded, in the user's own process: `compare`, `verify` and what builds on them.

Public (`import attncheck`; loaded lazily, so that the command line stays free of torch):

    attncheck.compare(target, *, impl=(), scenario=(), overrides=None, unchecked=None, seq_len=None, use="generate",
                      packing=False, device="auto", dtype=None, revision=None, trust_remote_code=False, plugins=(),
                      offline=False, timeout=120.0, seed=0, fail_on="error", **further) -> Report
        target: a hub id, path or model type, a config as a mapping, or a transformers config object. `further` takes
        the other fields of `comparison.options.CompareOptions` by their names.

    attncheck.verify(model, batch=None, *, forward=None, layers=None, method="auto", fit=True, use=None, packing=None,
                     seq_len=None, memory=DEFAULT_MEMORY, implementation="", declared=None, seed=0, fail_on="error"
                     ) -> Report
        batch: keyword arguments of one forward call (a mapping), or None for small ones of our own.
        forward: `forward(model, batch)` where `model(**batch)` is not how the model is called.
        layers: layer numbers to read; None reads every layer whose call differs from one that was read before.
        method: "auto", "interface" (identity values in the attention interface) or "perturbation" (re-runs of single
        attention modules).  use: "train" or "generate"; None says what `model.training` says.
        implementation: the name that reports shall use; "" takes the config's.  declared: a config (mapping or object)
        to judge by instead of `model.config`.  memory: bytes that the reading may add to one forward pass without
        gradients.

    Report.raise_for_findings(fail_on=None) -> Report
        itself, or raises `attncheck.FindingsError` (its `.report` is the report).

    attncheck.text(report, format="terminal", *, width=100) -> str
        format: "terminal", "markdown", "json", "html", "sarif" or "junit"; redacted as the command line does it.

    attncheck.save(report, path) -> None
        the format by the suffix: .html .json .md .sarif .txt .xml; `attncheck render` reads what was saved as .json.

For what builds on verify (watch, trainer callback, frameworks):

    live.verify.measure(model, batch, settings: Settings) -> Measured      one forward pass, read and put back
    live.verify.judge(model, measured: Sequence[Measured], settings) -> Report   the same checks as compare
    probe.inside.recording.recording(model, plan) -> (Recording, begin)   every attention call of the passes inside;
                                   to be used inside `probe.inside.state.undisturbed(model)`
"""
