"""Keeping a package's secrets out of what its scripts and its container's check say."""

import asyncio
from collections.abc import Iterable, Mapping

from host_agent.adapters.variables import is_for_another, variables
from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun
from muster_runtime.secrets import HIDDEN, hide, is_secret_key

SHORTEST = 4
"""Characters of a value that is hidden: shorter ones are in every text."""


async def without_secrets(text: str, package: Loaded, more: Mapping[str, str] | None = None) -> str:
    """The text without the values of the package's secrets and of variables that are secret by their names.

    Args:
        text: what somebody printed.
        package: whose secrets.
        more: other variables that were known to whoever printed it.
    """
    if not text:
        return text
    spec = package.spec
    try:
        if spec.secrets or spec.environment_files:
            values = await asyncio.to_thread(variables, package, for_another=is_for_another(package))
        else:
            values = spec.environment
    except CannotRun:
        return "(not shown: a file of the package's secrets cannot be read, so they could not be hidden)"
    both = {**values, **(more or {})}
    return hide(_hidden(text, (both[name] for name in both if name in spec.secrets or is_secret_key(name))))


def _hidden(text: str, secrets: Iterable[str]) -> str:
    """The longest first; of a secret of several lines each line is one."""
    parts = {part for secret in secrets for part in (secret, *secret.splitlines())}
    for part in sorted(parts, key=len, reverse=True):
        if len(part.strip()) >= SHORTEST:
            text = text.replace(part.strip(), HIDDEN)
    return text
