"""How the fleet is: judged health, root causes, recovery, notifications."""
