"""What the bus itself has to tell: messages nobody could read."""
