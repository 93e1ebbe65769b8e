"""`attncheck doctor`."""

from __future__ import annotations

from attncheck.commands.output import check_output, emit, finish, known_findings, style
from attncheck.commands.running import guarded, names, progress
from attncheck.options import (
    ApiNames,
    CheckNames,
    Fail,
    FailOn,
    Format,
    KnownReport,
    ListChecks,
    Output,
    Reproduce,
    Static,
    Thorough,
    Timeout,
    WindowNumber,
)


def doctor(
    static: Static = False,
    list_checks: ListChecks = False,
    check: CheckNames = None,
    api: ApiNames = None,
    reproduce: Reproduce = None,
    window: WindowNumber = None,
    thorough: Thorough = False,
    timeout: Timeout = 120.0,
    format_name: Format = "terminal",
    output: Output = None,
    fail_on: Fail = FailOn.ERROR,
    baseline: KnownReport = None,
) -> None:
    """Is something broken, and what mends it? What is installed, what runs here, what the kernels' numbers mean."""
    with guarded():
        check_output(format_name, output, "doctor")
        known = known_findings(baseline, "doctor")
        from attncheck.doctor import DoctorOptions, examine, machine_checks

        if list_checks:
            from attncheck.render import rules

            emit(rules.render_checks(machine_checks(), format_name, style(output)), output)
            return
        from attncheck import reproduce as incidents

        incident = incidents.asked(
            reproduce,
            window,
            timeout,
            beside={"--static": static, "--check": check, "--api": api, "--thorough": thorough},
        )
        with progress() as tell:
            if incident is not None:
                report = incidents.reproduce(incident, tell)
            else:
                chosen = names("--check", check), names("--api", api)
                report = examine(DoctorOptions(static, chosen[0], timeout, thorough, chosen[1]), tell)
        finish(report, format_name, output, fail_on, known)
