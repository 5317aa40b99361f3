"""The errors of the runtime."""


class ConfigurationError(Exception):
    """The settings cannot be used; every problem is one sentence for the person who wrote them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))
