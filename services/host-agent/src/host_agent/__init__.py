"""One machine: its vitals, its packages, its checks, its logs."""
