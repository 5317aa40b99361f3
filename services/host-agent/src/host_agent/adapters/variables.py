"""The variables a package is started with: from its files, its own, and its secrets."""

from pathlib import Path

from host_agent.adapters.trusted_files import open_trusted
from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun
from muster_contracts.package.specification import SecretFile
from muster_contracts.package.v1 import Driver

LONGEST_FILE = 1 << 20


def variables(package: Loaded, *, for_another: bool) -> dict[str, str]:
    """Later files over earlier ones, ``environment`` over them, secrets over all; read now.

    Args:
        package: whose variables.
        for_another: whether it runs as another user than the agent, which reads its files. What that user
            can put in place of a file must not give them what only the agent may read.

    Raises:
        CannotRun: a file cannot be read; the text names it and never what is in it.
    """
    found: dict[str, str] = {}
    for name in package.spec.environment_files:
        text = _read(package, name, "environment file", "no-environment", for_another=for_another)
        found |= _parse(package, package.path(name), text)
    found |= package.spec.environment
    for variable, secret in package.spec.secrets.items():
        found[variable] = read_secret(package, secret, f"secret {variable}", for_another=for_another)
    return found


def read_secret(
    package: Loaded, secret: SecretFile, what: str, *, for_another: bool, doing: str = "start"
) -> str:
    """What is in the file of a secret, less a newline at its end; as for ``variables``."""
    text = _read(package, secret.file, what, "no-secret", for_another=for_another, doing=doing)
    return text.removesuffix("\n")


def is_for_another(package: Loaded) -> bool:
    """Whether somebody else than the agent runs it, as far as its package.json tells."""
    return package.spec.user is not None or package.spec.driver is not Driver.PROCESS


def _parse(package: Loaded, path: Path, content: str) -> dict[str, str]:
    """Lines ``NAME=value``; empty lines and those that begin with # say nothing."""
    found = {}
    for number, line in enumerate(map(str.strip, content.splitlines()), start=1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            text = f"cannot start package {package.name}: {path}:{number} is no line NAME=value"
            raise CannotRun(text, "no-environment")
        found[name] = value
    return found


def _read(
    package: Loaded, name: str, what: str, reason: str, *, for_another: bool, doing: str = "start"
) -> str:
    path = package.path(name)
    try:
        opened = open_trusted(path, package.directory) if for_another else path
        with open(opened, "rb") as file:  # noqa: PTH123  (a descriptor, or a path)
            raw = file.read(LONGEST_FILE)
    except OSError as error:
        text = f"cannot {doing} package {package.name}: {what}: {path}: {error.strerror}"
        raise CannotRun(text, reason) from None
    return raw.decode(errors="surrogateescape")
