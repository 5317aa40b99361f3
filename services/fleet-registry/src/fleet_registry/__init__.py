"""Who is in the fleet: identity, presence, connection history, labels and groups."""
