"""`attncheck bench`."""

from __future__ import annotations

from attncheck.commands import bench_options as own
from attncheck.commands.output import check_output, finish
from attncheck.commands.partial import Partial, check_shows_changes, earlier
from attncheck.commands.plots import check_plots, write_plots
from attncheck.commands.running import guarded, lengths, names, one_of, progress
from attncheck.options import (
    Assign,
    AssignUnknown,
    Device,
    DeviceName,
    DtypeName,
    Fail,
    FailOn,
    Offline,
    Output,
    Plugin,
    Revision,
    Seed,
    TrustRemoteCode,
)


def bench(
    target: own.Target = None,
    assign: Assign = None,
    assign_unknown: AssignUnknown = None,
    revision: Revision = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
    preset: own.Preset = None,
    seq_lens: own.SeqLens = None,
    batch: own.Batch = None,
    level: own.Level = None,
    phase: own.Phase = None,
    inputs: own.Inputs = None,
    mask: own.Masks = None,
    forward_only: own.ForwardOnly = False,
    impl: own.Impl = None,
    include_wrong: own.IncludeWrong = False,
    device: DeviceName = Device.AUTO,
    dtype: DtypeName = None,
    plugin: Plugin = None,
    timeout: own.Timeout = 300.0,
    seed: Seed = 0,
    plots: own.Plots = None,
    compare: own.Compare = None,
    format_name: own.Format = "terminal",
    output: Output = None,
    fail_on: Fail = FailOn.ERROR,
) -> None:
    """Time and memory of the implementations that are right: a fast wrong kernel is no winner."""
    with guarded():
        check_output(format_name, output, "bench")
        from attncheck.bench import options as choices
        from attncheck.bench import run

        options = choices.BenchOptions(
            target=target,
            preset=preset or "",
            seq_lens=lengths("--seq-lens", seq_lens),
            batch=batch,
            levels=one_of("--level", level, choices.LEVELS),
            phases=one_of("--phase", phase, choices.PHASES),
            passes=("forward",) if forward_only else (),
            masks=one_of("--mask", mask, choices.MASKS),
            inputs=one_of("--inputs", inputs, choices.INPUTS),
            impl=names("--impl", impl),
            include_wrong=include_wrong,
            device=device.value,
            dtype=dtype.value if dtype else None,
            assignments=tuple(assign or ()),
            unchecked=tuple(assign_unknown or ()),
            revision=revision,
            offline=offline,
            trust_remote_code=trust_remote_code,
            plugins=tuple(plugin or ()),
            timeout=timeout,
            seed=seed,
        )
        if compare is not None:
            check_shows_changes(format_name)
        before = None if compare is None else earlier(compare)
        check_plots(plots)
        partial = Partial(format_name, output, fail_on, before)
        with partial.kept(), progress() as tell:
            partial.done(run.bench(options, tell, partial))
        report = partial.report()
        write_plots(report, plots)
        finish(report, format_name, output, fail_on)
