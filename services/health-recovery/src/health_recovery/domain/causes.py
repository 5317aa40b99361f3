"""Root causes: which ill package explains another one that is ill.

The ill packages are a graph: from each there is an edge to every ill one that it needs, on its own
machine (``depends_on``) or elsewhere (``relies_on``). The cause of a package is the deepest one that it
reaches: one that needs nothing ill. Where all that it reaches goes round in circles, it is the least in the
circle by the order of keys, so that every illness has exactly one cause and every cause is its own. Nothing
here can hang: each package is looked at once, in circles once for each circle.
"""

from collections.abc import Callable, Iterable, Sequence

from health_recovery.domain.keys import Key

IllNeeds = Callable[[Key], Sequence[Key]]
"""The ill packages that an ill package needs, the likeliest explanation first."""


def cause_of(key: Key, needs: IllNeeds) -> Key | None:
    """What makes this ill package ill; null if it is its own cause."""
    path = _to_the_deepest(key, needs)
    return path[-1] if len(path) > 1 else None


def chain_to_cause(key: Key, needs: IllNeeds) -> list[Key]:
    """From what an ill package needs to its cause, step by step; empty if it is its own cause."""
    return _to_the_deepest(key, needs)[1:]


def _to_the_deepest(key: Key, needs: IllNeeds) -> list[Key]:
    """The way to the first package that needs nothing ill, else to the least in the circle reached."""
    came_from: dict[Key, Key] = {}
    stack = [key]
    while stack:
        here = stack.pop()
        ill = needs(here)
        if not ill:
            return _way(key, here, came_from)
        for one in reversed(ill):
            if one not in came_from:
                came_from[one] = here
                if one != key:
                    stack.append(one)
    least = min(came_from)
    # The least may only lead to a circle; what is reached from there is less each time, so this ends.
    rest = [key] if least == key else _to_the_deepest(least, needs)
    return _way(key, least, came_from) + rest[1:]


def _way(key: Key, end: Key, came_from: dict[Key, Key]) -> list[Key]:
    way = [end]
    while way[-1] != key:
        way.append(came_from[way[-1]])
    return way[::-1]


def all_above(keys: Iterable[Key], above: Callable[[Key], Iterable[Key]]) -> set[Key]:
    """These packages and all whose cause may be another one now that these have changed.

    ``above`` names the ill packages that need one directly.
    """
    found = set(keys)
    stack = list(found)
    while stack:
        for one in above(stack.pop()):
            if one not in found:
                found.add(one)
                stack.append(one)
    return found
