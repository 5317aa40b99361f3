"""What a host agent says of its machine."""
