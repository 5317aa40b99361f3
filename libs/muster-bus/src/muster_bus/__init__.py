"""Muster on NATS: connect, say, ask, hear, and lose nothing."""
