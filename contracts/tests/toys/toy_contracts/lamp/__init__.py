"""Said by lamps."""
