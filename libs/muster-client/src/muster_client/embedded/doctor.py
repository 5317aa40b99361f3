"""The doctor: named checks of an embedded fleet, each with what was found and what to do about it.

Checks of the machine come first and need nothing running; those of the fleet need its supervisor.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from muster_client.embedded import checkup_fleet, checkup_machine
from muster_client.embedded.finding import Finding, fail, warn
from muster_client.embedded.layout import Layout
from muster_client.embedded.record import read
from muster_client.outputs import CheckResult, DoctorOutput, Health

CHECK_SECONDS = 10.0
_WORST = (Health.OK, Health.WARN, Health.FAIL)


async def examine(layout: Layout) -> DoctorOutput:
    """Run every check; one that fails in a way nobody foresaw is a finding as well."""
    results = [await _run(name, _local(check, layout)) for name, check in checkup_machine.CHECKS.items()]
    record = read(layout)
    if not record.supervised and not record.survivors:
        # The first line names the part; the others quote its log.
        failed = record.problem.partition("; the end of")[0].partition("\n")[0]
        before = f"; the last start failed: {failed}" if failed else ""
        results.append(_result("fleet", warn(f"nothing runs here{before}", "start it with muster up")))
    else:
        patient = checkup_fleet.Patient.of(layout, record)
        # All at once: what waits for an answer that never comes is waited for only once.
        waits = [_run(name, check(patient)) for name, check in checkup_fleet.CHECKS.items()]
        results += await asyncio.gather(*waits)
    verdict = max((result.verdict for result in results), key=_WORST.index)
    return DoctorOutput(directory=str(layout.root), verdict=verdict, checks=results)


async def _local(check: Callable[[Layout], Finding], layout: Layout) -> Finding:
    return await asyncio.to_thread(check, layout)


async def _run(name: str, check: Awaitable[Finding]) -> CheckResult:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            finding = await check
    except TimeoutError:
        finding = fail(
            f"no result within {CHECK_SECONDS:.0f} s", "see muster logs; then muster down, muster up"
        )
    except Exception as error:  # noqa: BLE001  (whatever it is, the other checks go on)
        finding = fail(f"{type(error).__name__}: {error}", "see muster logs")
    return _result(name, finding)


def _result(name: str, finding: Finding) -> CheckResult:
    return CheckResult(name=name, verdict=finding.verdict, text=finding.text, advice=finding.advice or None)


def names() -> Sequence[str]:
    """Every check there is."""
    return [*checkup_machine.CHECKS, *checkup_fleet.CHECKS]
