"""What the registry knows: who is in the fleet, and since when."""
