"""Packages: the supervised services of a machine."""
