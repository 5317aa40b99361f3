"""What machines are told to do, and what becomes of it."""
