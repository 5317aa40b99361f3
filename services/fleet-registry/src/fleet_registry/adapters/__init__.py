"""The outside, one system per file."""
