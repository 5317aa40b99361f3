"""What can be set of recovery."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from health_recovery.domain.acts import Terms


class RecoverySettings(BaseModel):
    """What is done by itself about ill packages. What one package wants stands in its package.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    dry_run: bool = Field(default=False, description="Only say what would be done.")
    budget_percent: float = Field(
        default=20.0,
        ge=0,
        le=100,
        description="At most this part of a group, a site and the packages of one name recover at once; "
        "one always may.",
    )
    settle_seconds: float = Field(
        default=3.0, ge=0, le=3600, description="So long after an act its effect is not judged."
    )
    aftermath_seconds: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="What another package made ill has so long to be well after that one, before it is "
        "restarted itself.",
    )
    blame_seconds: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="What needs other packages is left alone for so long once it is ill: the checks of the "
        "one to blame may see it a moment later.",
    )
    begin_seconds: float = Field(
        default=60.0, ge=1, le=3600, description="An agent that gets an order later does not begin with it."
    )
    start_seconds: float = Field(
        default=60.0, ge=1, le=3600, description="Longer may an order not wait for its turn on an agent."
    )
    run_seconds: float = Field(
        default=300.0, ge=1, le=86_400, description="Longer may a restart or a script not take."
    )
    keep_days: float = Field(default=90.0, ge=1, le=3650, description="So long acts are remembered.")

    @property
    def terms(self) -> Terms:
        """How long an order may take."""
        return Terms(self.begin_seconds, self.start_seconds, self.run_seconds)

    @property
    def aftermath(self) -> timedelta:
        """How long what was made ill by another is left alone after that one is well again."""
        return timedelta(seconds=self.aftermath_seconds)

    @property
    def blame(self) -> timedelta:
        """How long a package that needs others is ill before it is to blame itself."""
        return timedelta(seconds=self.blame_seconds)

    @property
    def kept(self) -> timedelta:
        """How long acts are remembered."""
        return timedelta(days=self.keep_days)
