"""How much obeying may cost a machine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one agent's obedience; beyond them it refuses, truncates, or drops and counts."""

    open_commands: int = 2000
    """Accepted and not ended; more wait in the ledger."""
    known_commands: int = 100_000
    """Remembered in the journal; rather than forget one that could begin again, it refuses new ones."""
    output_bytes: int = 64 << 20
    """Of one command; the rest is dropped, and the output says so at its end."""
    waiting_output_bytes: int = 1 << 30
    """Of commands that have ended, kept for the store; the oldest is dropped first."""
