"""The versions of the registry's database, oldest first."""
