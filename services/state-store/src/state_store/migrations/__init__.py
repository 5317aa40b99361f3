"""Version files of the ledger's database."""
