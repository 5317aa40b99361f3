"""Decisions about one machine: values in, values out, no system call."""
