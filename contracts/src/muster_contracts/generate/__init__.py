"""Everything that is generated from the catalogue: ``python -m muster_contracts.generate``.

Each module of this package makes one kind of output from a list of contracts, as texts by path; only
``files`` touches the disk. Nothing here is imported by a running service.
"""
