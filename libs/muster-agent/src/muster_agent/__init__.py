"""What every kind of agent shares: identity, heartbeat, goodbye."""
