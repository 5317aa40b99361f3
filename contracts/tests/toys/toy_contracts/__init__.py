"""A toy catalogue with two versions of one contract: what the machinery of contracts is tried on."""
