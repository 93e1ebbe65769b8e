"""`attncheck compare`."""

from __future__ import annotations

from attncheck.commands.output import check_output, finish
from attncheck.commands.running import guarded, names, progress
from attncheck.options import (
    Assign,
    AssignUnknown,
    Device,
    DeviceName,
    DtypeName,
    Fail,
    FailOn,
    Format,
    Impl,
    Offline,
    Output,
    Packing,
    Plugin,
    Revision,
    Scenarios,
    Seed,
    SeqLen,
    Target,
    Timeout,
    TrustRemoteCode,
    Use,
    UseFor,
)


def compare(
    target: Target,
    assign: Assign = None,
    assign_unknown: AssignUnknown = None,
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    use: UseFor = Use.GENERATE,
    packing: Packing = False,
    seq_len: SeqLen = None,
    impl: Impl = None,
    scenario: Scenarios = None,
    device: DeviceName = Device.AUTO,
    dtype: DtypeName = None,
    plugin: Plugin = None,
    timeout: Timeout = 120.0,
    seed: Seed = 0,
    format_name: Format = "terminal",
    output: Output = None,
    fail_on: Fail = FailOn.ERROR,
) -> None:
    """Compare the attention a model declares with what each implementation computes."""
    with guarded():
        check_output(format_name, output, "compare")
        from attncheck import pipeline

        options = pipeline.CompareOptions(
            target=target,
            impl=names("--impl", impl),
            scenario=names("--scenario", scenario),
            assignments=tuple(assign or ()),
            unchecked=tuple(assign_unknown or ()),
            seq_len=seq_len,
            use=use.value,
            packing=packing,
            device=device.value,
            dtype=dtype.value if dtype else None,
            revision=revision,
            trust_remote_code=trust_remote_code,
            plugins=tuple(plugin or ()),
            offline=offline,
            timeout=timeout,
            seed=seed,
        )
        with progress() as tell:
            report = pipeline.compare(options, tell)
        finish(report, format_name, output, fail_on)
