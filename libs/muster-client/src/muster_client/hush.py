"""Quiet for commands: what goes wrong is said once, in the command's own words."""

import logging


def hush_libraries() -> None:
    """Have the bus and the NATS client log nothing: what they retry or cannot reach is no news to people."""
    logging.getLogger().addHandler(logging.NullHandler())
    for name in ("muster", "nats"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
