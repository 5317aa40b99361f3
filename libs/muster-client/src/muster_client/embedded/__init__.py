"""One fleet on one machine: broker, Redis, services and an agent, supervised from one directory.

Everything here but the doctor and the groundwork imports the standard library only: the supervisor
stays resident, so it stays small, and ``muster status`` answers at once.
"""
