"""Hiding what may be secret in a configuration file, whatever format it has.

Known by its key alone, as everywhere: ``password: x``, ``"token": "x"``, ``API_KEY=x``; private keys by their
frame. Too much is hidden rather than too little.
"""

import re

from muster_runtime.secrets import HIDDEN, hide, is_secret_key

_QUOTED = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\''
_PAIR = re.compile(
    rf"""(?P<key>["']?[\w.-]+["']?)(?P<sign>\s*(?:[:=]|=>)\s*)(?P<value>{_QUOTED}|[^\s,;}}\]"'][^,;}}\]\n]*)"""
)
_BLOCK = re.compile(r"^(?P<indent>\s*)(?:-\s+)?[\"']?(?P<key>[\w.-]+)[\"']?\s*[:=]\s*[|>\[{]?[+-]?\s*$")
_SPACED = re.compile(r"^(?P<key>\s*[\w.-]+)(?P<sign>\s+)(?P<value>\S.*)$")
_ELEMENT = re.compile(r"<(?P<key>[\w.-]+)(?P<sign>[^<>]*>)(?P<value>[^<]+)</")
_PEM = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def without_secrets(text: str) -> str:
    """The same text with each value hidden whose key names a secret."""
    text = _PEM.sub(rf"\1 {HIDDEN} \2", text)
    hidden, inside = [], None
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indent > inside:
            hidden.append(line[:indent] + HIDDEN)
            continue
        inside = indent if (block := _BLOCK.match(line)) and is_secret_key(block["key"]) else None
        hidden.append(hide(_line(line)))
    return "\n".join(hidden)


def without_secrets_of(content: str, text: str) -> str:
    """What is said of a file's content, with each value hidden that is secret there."""
    for line, hidden in zip(content.split("\n"), without_secrets(content).split("\n"), strict=False):
        if line == hidden:
            continue
        before, _, after = hidden.partition(HIDDEN)
        known = line.startswith(before) and line.endswith(after)
        if value := (line[len(before) : len(line) - len(after)] if known else line).strip():
            text = text.replace(value, HIDDEN)
    return without_secrets(text)


def _line(line: str) -> str:
    for kind in (_PAIR, _ELEMENT):
        line = kind.sub(_hidden, line)
    return _SPACED.sub(_hidden, line) if HIDDEN not in line else line


def _hidden(found: re.Match[str]) -> str:
    if not is_secret_key(found["key"].strip("\"' ")):
        return found[0]
    quote = found["value"][0] if found["value"][0] in "\"'" else ""
    start = found.start("value") - found.start()
    end = found.end("value") - found.start()
    return f"{found[0][:start]}{quote}{HIDDEN}{quote}{found[0][end:]}"
