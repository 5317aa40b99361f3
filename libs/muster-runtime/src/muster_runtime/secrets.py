"""What must never be printed, and how it is hidden wherever text leaves the process."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretBytes, SecretStr

HIDDEN = "[redacted]"

_SECRET_KEY = re.compile(
    r"(?:pass(?:word|wd|phrase)|token|seed|secret|credential|authori[sz]ation|api_?key|private_?key)",
    re.IGNORECASE,
)
# A path or a count is not the secret itself.
_HARMLESS_KEY = re.compile(r"(?:_file|_path|_dir|_directory|_count|_seconds|_bytes|_id)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<start>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/]+@", re.IGNORECASE)
_NKEY_SEED = re.compile(r"\bS[ACNOUX][A-Z2-7]{56}\b")


def is_secret_key(key: str) -> bool:
    """Whether a value under this name is a secret by its name alone."""
    return bool(_SECRET_KEY.search(key)) and not _HARMLESS_KEY.search(key)


def hide(text: str) -> str:
    """The text without passwords in URLs and without nkey seeds."""
    if "://" in text and "@" in text:
        text = _URL_PASSWORD.sub(rf"\g<start>{HIDDEN}@", text)
    if len(text) >= 58:
        text = _NKEY_SEED.sub(HIDDEN, text)
    return text


def redact(value: Any, depth: int = 6) -> Any:  # noqa: PLR0911  (one return per kind of value)
    """The same value with every secret in it hidden, however deep it is nested.

    Below ``depth`` levels the value is cut off with its type's name: logs are no place for deep structures.
    """
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, SecretStr | SecretBytes):
        return HIDDEN
    if isinstance(value, Mapping):
        if depth == 0:
            return type(value).__name__
        return {
            key: HIDDEN if is_secret_key(str(key)) and item is not None else redact(item, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth - 1) for item in value] if depth else type(value).__name__
    if isinstance(value, BaseException):
        return hide(f"{type(value).__name__}: {value}")
    return value
