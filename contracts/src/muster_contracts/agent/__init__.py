"""What every kind of agent says and is told: heartbeats, hellos, goodbyes, granted intervals."""
