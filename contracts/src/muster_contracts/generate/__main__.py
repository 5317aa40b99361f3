"""The command: write what is generated, check that it is fresh, or publish the contracts."""

import argparse
import sys
from pathlib import Path

from muster_contracts import catalogue
from muster_contracts.generate import asyncapi, examples, fleet_map, packages, published, schemas
from muster_contracts.generate.command import home, run
from muster_contracts.generate.files import Plan, joined


def everything(root: Path) -> Plan:
    """All that follows from the catalogue."""
    kinds = list(catalogue.contracts())
    models = catalogue.with_answers(kinds)
    return joined(
        schemas.plan(models, root / "contracts"),
        examples.plan(models, root / "contracts"),
        asyncapi.plan(kinds, root / "contracts"),
        fleet_map.plan(kinds, root),
        packages.plan(root),
    )


def complain(root: Path) -> int:
    """Name every published contract that is broken; the exit code."""
    models = catalogue.with_answers(list(catalogue.contracts()))
    broken = published.breakages(models, root / "contracts")
    for breakage in broken:
        print(f"broken: {breakage}", file=sys.stderr)
    if broken:
        print(published.ADVICE, file=sys.stderr)
    return 1 if broken else 0


def publish(root: Path) -> int:
    """Make today's schemas the baseline, unless they break the one there is."""
    if complain(root):
        return 1
    models = catalogue.with_answers(list(catalogue.contracts()))
    return run(lambda at: published.plan(models, at / "contracts"), root, check=False)


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments and do it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m muster_contracts.generate", description=__doc__)
    parser.add_argument("--root", type=Path, help="the repository; the default is the one installed from")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write what is stale; the default")
    what.add_argument("--check", action="store_true", help="write nothing; exit 1 naming what is amiss")
    what.add_argument("--publish", action="store_true", help="make today's schemas the baseline")
    options = parser.parse_args(arguments)
    root = (options.root or home()).resolve()
    if options.publish:
        return publish(root)
    outcome = run(everything, root, check=options.check)
    return max(outcome, complain(root)) if options.check else outcome


if __name__ == "__main__":
    sys.exit(main())
