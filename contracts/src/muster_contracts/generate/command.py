"""What every generator's command does with its plan; ``muster_bus.generate`` is one more of them."""

import sys
from collections.abc import Callable
from pathlib import Path

from muster_contracts.generate.files import Plan


def home() -> Path:
    """The checkout this package was installed from.

    Raises:
        FileNotFoundError: it was not installed from a checkout.
    """
    root = Path(__file__).parents[4]
    if not (root / "contracts" / "pyproject.toml").exists():
        raise FileNotFoundError("cannot find the repository: give its directory as --root")
    return root


def run(plan: Callable[[Path], Plan], root: Path, *, check: bool) -> int:
    """Carry a plan out, or say what of it is stale; the exit code. Other generators use this too."""
    if not check:
        for path in plan(root).carry_out():
            sys.stdout.write(f"wrote {path.relative_to(root)}\n")
        return 0
    stale = plan(root).stale()
    for path in stale:
        sys.stderr.write(f"stale: {path.relative_to(root)}: run `just generate` and commit the result\n")
    return 1 if stale else 0
