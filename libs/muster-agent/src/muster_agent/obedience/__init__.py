"""The agent's side of commands: begun at most once, ended exactly once, whatever happens to the agent.

A command that comes is written down, fsynced, before anything else; then it is answered, waits for its turn
in its lane, is checked, is written down as running, and is performed. Its end is written down with the
message id it will be said under, and said until the spool has it. So a crash at any point leaves either a
command that never began, and begins now, or one that may have begun, and ends as interrupted.
"""

from muster_agent.obedience.limits import Limits
from muster_agent.obedience.obedience import Obedience
from muster_agent.obedience.obedient import Admitted, Obedient, Refused, Result
from muster_agent.obedience.work import Work

__all__ = ["Admitted", "Limits", "Obedience", "Obedient", "Refused", "Result", "Work"]
