"""`attncheck compare`."""

from __future__ import annotations

from attncheck.commands.output import check_output, finish, known_findings
from attncheck.commands.running import guarded, names, progress
from attncheck.options import (
    Arguments,
    Assign,
    AssignUnknown,
    BenchFile,
    Device,
    DeviceName,
    DtypeName,
    Fail,
    FailOn,
    Format,
    FrameworkName,
    FrameworkSet,
    FrameworkVersion,
    Impl,
    KnownReport,
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
    Without,
)


def compare(
    target: Target,
    arguments: Arguments = None,
    assign: Assign = None,
    assign_unknown: AssignUnknown = None,
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    framework: FrameworkName = None,
    framework_version: FrameworkVersion = None,
    framework_set: FrameworkSet = None,
    use: UseFor = Use.GENERATE,
    packing: Packing = False,
    seq_len: SeqLen = None,
    without: Without = None,
    bench: BenchFile = None,
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
    baseline: KnownReport = None,
) -> None:
    """Compare the attention a model declares with what each implementation computes."""
    with guarded():
        check_output(format_name, output, "compare")
        known = known_findings(baseline, "compare")
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
            without=names("--without", without),
            bench=bench,
            framework=framework,
            framework_version=framework_version,
            framework_set=tuple(framework_set or ()),
            arguments=tuple(arguments or ()),
        )
        with progress() as tell:
            report = pipeline.compare(options, tell)
        finish(report, format_name, output, fail_on, known)
