"""Which roles are services. Apart, so that an agent does not load every contract to know it."""

from muster_contracts.message import Role

SERVICES = (Role.FLEET_REGISTRY, Role.STATE_STORE, Role.HEALTH_RECOVERY)
"""Services hear durable contracts through consumers of their own, and may say dead letters."""
