"""The Stage in memory, real servers, and a fleet simulator."""
