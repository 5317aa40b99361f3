"""The variables a package is started with: from its files, its own, and its secrets."""

from pathlib import Path

from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun

LONGEST_FILE = 1 << 20


def variables(package: Loaded) -> dict[str, str]:
    """Later files over earlier ones, ``environment`` over them, secrets over all; read now.

    Raises:
        CannotRun: a file cannot be read; the text names it and never what is in it.
    """
    found: dict[str, str] = {}
    for name in package.spec.environment_files:
        found |= _parse(package, package.path(name))
    found |= package.spec.environment
    for variable, secret in package.spec.secrets.items():
        text = _read(package, package.path(secret.file), f"secret {variable}", "no-secret")
        found[variable] = text.removesuffix("\n")
    return found


def _parse(package: Loaded, path: Path) -> dict[str, str]:
    """Lines ``NAME=value``; empty lines and those that begin with # say nothing."""
    found = {}
    lines = _read(package, path, "environment file", "no-environment").splitlines()
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            text = f"cannot start package {package.name}: {path}:{number} is no line NAME=value"
            raise CannotRun(text, "no-environment")
        found[name] = value
    return found


def _read(package: Loaded, path: Path, what: str, reason: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_FILE)
    except OSError as error:
        text = f"cannot start package {package.name}: {what}: {path}: {error.strerror}"
        raise CannotRun(text, reason) from None
    return raw.decode(errors="surrogateescape")
