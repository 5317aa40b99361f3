"""How packages, hosts and the fleet are, and what is done about it."""
