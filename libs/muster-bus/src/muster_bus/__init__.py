"""Muster on NATS: connect, say, ask, hear, and lose nothing."""

from muster_bus.bus import Bus, letter_of
from muster_bus.errors import (
    AskError,
    AskFailed,
    CannotConnect,
    MusterError,
    NoAnswer,
    NobodyAnswers,
    NotPermitted,
    Reject,
    Retry,
    SpoolFailed,
    SpoolFull,
    TooLarge,
)
from muster_bus.identity import BadSeed, Keypair
from muster_bus.settings import BusSettings
from muster_bus.spool import FileSpool, Letter, Spool

__all__ = [
    "AskError",
    "AskFailed",
    "BadSeed",
    "Bus",
    "BusSettings",
    "CannotConnect",
    "FileSpool",
    "Keypair",
    "Letter",
    "MusterError",
    "NoAnswer",
    "NobodyAnswers",
    "NotPermitted",
    "Reject",
    "Retry",
    "Spool",
    "SpoolFailed",
    "SpoolFull",
    "TooLarge",
    "letter_of",
]
