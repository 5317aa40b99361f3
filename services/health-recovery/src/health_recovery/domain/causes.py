"""Root causes: which ill package explains another one that is ill.

The ill packages are a graph: from each there is an edge to every ill one that it needs, on its own
machine (``depends_on``) or elsewhere (``relies_on``). The cause of a package is the deepest one that it
reaches: one that needs nothing ill. Where all that it reaches goes round in circles, it is the least, by the
order of keys, of a circle that leads nowhere else, so that every illness has exactly one cause and every
cause is its own. Nothing here can hang, however machines describe themselves: of all packages asked for at
once each is looked at once, as is each edge (R. Tarjan, "Depth-first search and linear graph
algorithms", 1972).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from health_recovery.domain.keys import Key

IllNeeds = Callable[[Key], Sequence[Key]]
"""The ill packages that an ill package needs, the likeliest explanation first."""


def causes(keys: Iterable[Key], needs: IllNeeds) -> dict[Key, Key | None]:
    """What makes each of these ill packages ill; null for one that is its own cause."""
    search = _Search(needs)
    ends = {key: search.end_of(key) for key in keys}
    return {key: None if end == key else end for key, end in ends.items()}


def chain_to_cause(key: Key, needs: IllNeeds) -> list[Key]:
    """From what an ill package needs to its cause, by the shortest way; empty if it is its own cause."""
    end = _Search(needs).end_of(key)
    came_from: dict[Key, Key] = {}
    reached = [key]
    for here in reached:
        if here == end:
            return _way(key, end, came_from)
        for one in needs(here):
            if one != key and one not in came_from:
                came_from[one] = here
                reached.append(one)
    raise AssertionError(f"{end} was reached from {key} a moment ago")


def _way(key: Key, end: Key, came_from: dict[Key, Key]) -> list[Key]:
    way = [end]
    while way[-1] != key:
        way.append(came_from[way[-1]])
    return way[-2::-1]


class _Search:
    """One search through the graph: circles are found deepest first, and with each where all of it ends."""

    def __init__(self, needs: IllNeeds) -> None:
        self._look_up = needs
        self._needs: dict[Key, Sequence[Key]] = {}
        self._low: dict[Key, int] = {}
        """The earliest one that each leads back to, by its place in the order of discovery."""
        self._loose: list[Key] = []
        """Those whose circle is not known to be complete."""
        self._ends: dict[Key, Key] = {}

    def end_of(self, key: Key) -> Key:
        """The deepest package that is reached."""
        if key not in self._ends:
            self._walk(key)
        return self._ends[key]

    def _walk(self, start: Key) -> None:
        way = [self._enter(start)]
        while way:
            here, place, following = way[-1]
            if (one := next(following, None)) is None:
                way.pop()
                self._leave(here, place)
                if way:
                    self._lead_back(way[-1][0], here)
            elif one not in self._needs:
                way.append(self._enter(one))
            else:
                self._lead_back(here, one)

    def _enter(self, key: Key) -> tuple[Key, int, Iterator[Key]]:
        place = self._low[key] = len(self._needs)
        self._needs[key] = self._look_up(key)
        self._loose.append(key)
        return key, place, iter(self._needs[key])

    def _lead_back(self, here: Key, one: Key) -> None:
        if one not in self._ends:
            self._low[here] = min(self._low[here], self._low[one])

    def _leave(self, key: Key, place: int) -> None:
        """If nothing leads from here to before it, it and what is loose behind it are one circle."""
        if self._low[key] < place:
            return
        circle = [self._loose.pop()]
        while circle[-1] != key:
            circle.append(self._loose.pop())
        end = self._end(sorted(circle))
        self._ends |= dict.fromkeys(circle, end)

    def _end(self, circle: Sequence[Key]) -> Key:
        beyond = [self._ends[one] for key in circle for one in self._needs[key] if one in self._ends]
        well_founded = (end for end in beyond if not self._needs[end])
        return next(well_founded, beyond[0] if beyond else circle[0])


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
