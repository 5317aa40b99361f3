"""What can be set of notifications: channels, who is told what, and how often."""

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from health_recovery.domain.egress import Egress
from health_recovery.domain.incidents import Rules
from health_recovery.domain.notices import Pace, Route
from muster_contracts.health.v1 import Health
from muster_contracts.ids import PackageName
from muster_contracts.selector import SelectorError, parse
from muster_runtime import ConfigurationError

MOST_SECRET = 4096


class Model(BaseModel):
    """Base of these settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class LogSettings(Model):
    """A line in the log of health-recovery for each incident."""

    kind: Literal["log"] = "log"


class HttpSettings(Model):
    """Where something is posted to."""

    url: SecretStr | None = Field(default=None, description="Where to; it may hold a token.")
    url_file: Path | None = Field(default=None, description="The same, from a file.")
    timeout_seconds: float = Field(default=10.0, gt=0, le=25, description="Of one attempt.")
    ca_file: Path | None = Field(default=None, description="Trust these authorities, not the system's.")
    token_file: Path | None = Field(default=None, description="Sent as a bearer token.")

    @model_validator(mode="after")
    def _has_one_url(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give either url or url_file")
        return self

    def address(self) -> str:
        """The URL.

        Raises:
            ConfigurationError: its file cannot be read, or it is none.
        """
        url = self.url.get_secret_value() if self.url else secret_in(self.url_file)
        try:
            parts = urlsplit(url)
            good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good or "@" in parts.netloc:
            text = (
                "its URL (not shown) is none; give http(s)://HOST[:PORT]/PATH, and a password by token_file"
            )
            raise ConfigurationError([f"cannot use {self.url_file or 'a channel'}: {text}"])
        return url


class WebhookSettings(HttpSettings):
    """JSON is posted, signed if there is a key (as standardwebhooks.com says)."""

    kind: Literal["webhook"]
    format: Literal["muster", "alertmanager"] = Field(
        default="muster",
        description="Muster's own JSON, or what Alertmanager posts to its webhook receivers.",
    )
    key_file: Path | None = Field(default=None, description="The key of the signature; at least 24 bytes.")
    template: str | None = Field(default=None, description="Jinja: the body, instead of JSON of the format.")
    content_type: str = Field(
        default="application/json",
        pattern=r"^[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w-]+)?$",
        description="Of the body.",
    )


class AlertmanagerSettings(HttpSettings):
    """Alerts are posted to an Alertmanager (``/api/v2/alerts`` below its URL), again while they last."""

    kind: Literal["alertmanager"]
    resend_seconds: float = Field(
        default=60.0,
        ge=1,
        description="An Alertmanager takes for over what is not said again for four of these.",
    )


class SmtpSettings(Model):
    """E-mail."""

    kind: Literal["smtp"]
    host: str = Field(description="The mail server.")
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="none only for a server on this machine, or a network of its own."
    )
    sender: str = Field(description="From whom.")
    to: list[str] = Field(min_length=1, max_length=50, description="To whom.")
    username: str | None = Field(default=None, description="With password_file.")
    password_file: Path | None = Field(default=None, description="With username.")
    timeout_seconds: float = Field(default=20.0, gt=0, le=25, description="Of one attempt.")
    ca_file: Path | None = Field(default=None, description="Trust these authorities, not the system's.")
    subject_template: str | None = Field(default=None, description="Jinja: the subject.")
    template: str | None = Field(default=None, description="Jinja: the text.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("give both username and password_file, or neither")
        if self.username and self.security == "none":
            raise ValueError("give security starttls or tls: a password goes over no open connection")
        return self

    @field_validator("sender", "to")
    @classmethod
    def _are_addresses(cls, value: Any) -> Any:
        for one in [value] if isinstance(value, str) else value:
            local, at, domain = one.rpartition("@")
            if not (at and local and domain) or any(ord(sign) <= 32 or sign in '<>,;"' for sign in one):
                raise ValueError("give a plain address like ops@example.com")
        return value


ChannelSettings: TypeAlias = Annotated[
    LogSettings | WebhookSettings | SmtpSettings | AlertmanagerSettings, Field(discriminator="kind")
]
ChannelName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class RouteSettings(Model):
    """Which incidents go to which channels; one meets all that is given."""

    channels: list[ChannelName] = Field(min_length=1)
    severity: Literal["warning", "critical"] = Field(default="warning", description="At least so bad.")
    selector: str = Field(default="", description="Of agents: id, group and labels.")
    packages: list[PackageName] = Field(default_factory=list, description="Of these names; empty: of every.")

    @field_validator("selector")
    @classmethod
    def _is_selector(cls, text: str) -> str:
        try:
            selector = parse(text)
        except SelectorError as error:
            raise ValueError(str(error)) from None
        if selector.uses("kind") or selector.uses("state"):
            raise ValueError("give id, group and labels: an incident has neither kind nor state")
        return text

    def route(self) -> Route:
        """As the domain has it."""
        return Route(
            frozenset(self.channels), Health(self.severity), parse(self.selector), frozenset(self.packages)
        )


class EgressSettings(Model):
    """Where webhooks and alerts may go. By default to every public address, and to no other."""

    hosts: list[str] = Field(
        default_factory=list, description="Names or patterns like *.example.com; empty: all."
    )
    networks: list[str] = Field(
        default_factory=list,
        description="Addresses like 10.1.0.0/16; if given, only these. Empty: all public.",
    )

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, given: list[str]) -> list[str]:
        for one in given:
            try:
                ipaddress.ip_network(one)
            except ValueError as error:
                raise ValueError(f"give networks like 10.1.0.0/16: {error}") from None
        return given

    def egress(self) -> Egress:
        """As the domain has it."""
        return Egress(tuple(self.hosts), tuple(ipaddress.ip_network(one) for one in self.networks))


class NotificationSettings(Model):
    """Incidents, and who is told of them."""

    channels: dict[ChannelName, ChannelSettings] = Field(
        default={"log": LogSettings()}, description="By name: kind log, webhook, smtp or alertmanager."
    )
    routes: list[RouteSettings] = Field(
        default_factory=list, description="All that match count; empty: everything goes to every channel."
    )
    notify_warnings: bool = Field(default=False, description="Whether a warning is an incident.")
    settle_seconds: float = Field(default=5.0, ge=0, description="Ill for so long before it is an incident.")
    calm_seconds: float = Field(
        default=15.0, ge=0, description="Well for so long before an incident is over."
    )
    aftermath_seconds: float = Field(
        default=60.0, ge=0, description="What an incident affected has so long to recover after its cause."
    )
    reopen_seconds: float = Field(
        default=300.0, ge=0, description="Ill again within so long, it is the same incident once more."
    )
    group_by: list[str] = Field(
        default=["package"], description="package, agent, site, severity, or names of labels."
    )
    group_wait_seconds: float = Field(default=1.0, ge=0, description="After the first news of a group.")
    group_interval_seconds: float = Field(default=30.0, ge=0, description="Between notices of one group.")
    repeat_hours: float = Field(default=4.0, gt=0, description="Between reminders of what lasts.")
    notices_per_minute: int = Field(default=20, ge=1, description="Per channel; what is more is summed up.")
    give_up_seconds: float = Field(
        default=3600.0, gt=0, description="A notice that a channel does not take for so long is dropped."
    )
    retention_days: float = Field(
        default=90.0, gt=0, description="How long incidents that are over are kept."
    )
    egress: EgressSettings = EgressSettings()

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        named = {name for route in self.routes for name in route.channels}
        if unknown := sorted(named - self.channels.keys()):
            raise ValueError(f"give routes only to channels there are: {', '.join(unknown)} is none")
        return self

    def rules(self) -> Rules:
        """When something is an incident."""
        return Rules(
            warnings=self.notify_warnings,
            settle=timedelta(seconds=self.settle_seconds),
            calm=timedelta(seconds=self.calm_seconds),
            aftermath=timedelta(seconds=self.aftermath_seconds),
            reopen=timedelta(seconds=self.reopen_seconds),
        )

    def pace(self, channel: ChannelSettings) -> Pace:
        """How a channel is told. An Alertmanager groups and limits by itself, and is told again and again."""
        if isinstance(channel, AlertmanagerSettings):
            again = timedelta(seconds=channel.resend_seconds)
            return Pace(
                group_by=(), group_wait=timedelta(0), group_interval=timedelta(seconds=5), repeat=again,
                per_minute=60, most_items=200, mirror=True,
            )  # fmt: skip
        return Pace(
            group_by=tuple(self.group_by),
            group_wait=timedelta(seconds=self.group_wait_seconds),
            group_interval=timedelta(seconds=self.group_interval_seconds),
            repeat=timedelta(hours=self.repeat_hours),
            per_minute=self.notices_per_minute,
        )

    def to(self) -> list[Route]:
        """The routes, as the domain has them."""
        return [route.route() for route in self.routes]


def secret_in(path: Path | None) -> str:
    """The secret a file holds, without the end of its line.

    Raises:
        ConfigurationError: it cannot be read, is empty, or is no one line of text.
    """
    try:
        text = path.read_bytes()[: MOST_SECRET + 1].decode().rstrip("\r\n") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"cannot read the secret in {path}: {type(error).__name__}"]) from None
    if not text or len(text) > MOST_SECRET or not text.isprintable():
        raise ConfigurationError([f"cannot use the secret in {path}: give a file with one line of text"])
    return text
