"""Version files of the database of health."""
