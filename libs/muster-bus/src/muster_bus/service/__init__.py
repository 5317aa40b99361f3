"""Muster's services on FastStream, hardened: routes in, a bus with a watchdog out."""

from muster_bus.service.routes import Routes
from muster_bus.service.service_bus import ServiceBus

__all__ = ["Routes", "ServiceBus"]
