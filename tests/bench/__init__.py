"""Muster against its peers and against physical limits, alternately, in one run (performance.md)."""
