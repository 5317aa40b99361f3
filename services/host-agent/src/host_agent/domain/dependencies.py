"""Who depends on whom. A graph is a mapping of each package to those it depends on; some may be missing."""

from collections.abc import Iterable, Mapping, Sequence

Graph = Mapping[str, Sequence[str]]


def missing(graph: Graph, name: str) -> list[str]:
    """What a package depends on, and nobody describes."""
    return [each for each in graph[name] if each not in graph]


def cycles(graph: Graph) -> dict[str, str]:
    """For each package on a cycle the shortest one through it: ``a -> b -> a``."""
    return {name: " -> ".join(path) for name in graph if (path := _way_back(graph, name))}


def _way_back(graph: Graph, start: str) -> list[str]:
    """The shortest path from a package to itself; empty if there is none."""
    came_from: dict[str, str] = {}
    rank = [start]
    while rank:
        following = []
        for here in rank:
            for there in graph.get(here, ()):
                if there == start:
                    return [*reversed(_trail(came_from, here)), start]
                if there not in came_from:
                    came_from[there] = here
                    following.append(there)
        rank = following
    return []


def _trail(came_from: Mapping[str, str], here: str) -> list[str]:
    trail = [here]
    while here in came_from:
        here = came_from[here]
        trail.append(here)
    return trail


def requirements(graph: Graph, name: str) -> set[str]:
    """All that has to run before ``name``, directly or not, and is described."""
    return _reach(graph, name)


def dependents(graph: Graph, name: str) -> set[str]:
    """All that needs ``name``, directly or not."""
    return _reach(reversed_(graph), name)


def direct_dependents(graph: Graph, name: str) -> list[str]:
    """All that names ``name`` in its package.json, in order."""
    return sorted(each for each, needs in graph.items() if name in needs)


def reversed_(graph: Graph) -> dict[str, list[str]]:
    """The graph with each arrow turned around."""
    turned: dict[str, list[str]] = {name: [] for name in graph}
    for name, needs in graph.items():
        for each in needs:
            if each in turned:
                turned[each].append(name)
    return turned


def _reach(graph: Graph, name: str) -> set[str]:
    reached: set[str] = set()
    ahead = [name]
    while ahead:
        fresh = [each for each in graph.get(ahead.pop(), ()) if each in graph and each not in reached]
        reached.update(fresh)
        ahead.extend(fresh)
    return reached - {name}


def start_waves(graph: Graph, names: Iterable[str] | None = None) -> list[list[str]]:
    """In which order to start: each wave needs only what is in the waves before. Stop in reverse.

    What is on a cycle, or depends on one, comes last, in one wave: nobody starts it, yet it may have to
    be stopped.
    """
    left = set(graph) if names is None else set(names) & set(graph)
    waves = []
    while left:
        wave = [name for name in left if not left.intersection(graph[name])] or list(left)
        waves.append(sorted(wave))
        left.difference_update(wave)
    return waves
