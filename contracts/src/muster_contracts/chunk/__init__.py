"""What outgrows a message, in chunks."""
