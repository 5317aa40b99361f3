"""Channels as the settings say."""

from collections.abc import Mapping

from health_recovery.adapters.alertmanager import Alertmanager
from health_recovery.adapters.http_post import Poster, Resolve, resolve
from health_recovery.adapters.log_channel import LogChannel
from health_recovery.adapters.smtp import Smtp
from health_recovery.adapters.templates import Template, TemplateFailed
from health_recovery.adapters.webhook import Webhook, key_of
from health_recovery.domain.notice import SAMPLE
from health_recovery.notice_ports import Channel
from health_recovery.notice_settings import (
    AlertmanagerSettings,
    ChannelSettings,
    HttpSettings,
    LogSettings,
    NotificationSettings,
    SmtpSettings,
    WebhookSettings,
    secret_in,
)
from muster_runtime import Clock, ConfigurationError


async def open_channels(
    settings: NotificationSettings, clock: Clock, resolver: Resolve = resolve
) -> dict[str, Channel]:
    """Every channel, by name; secrets are read, and templates rendered once with a sample.

    Raises:
        ConfigurationError: with one sentence for each problem.
    """
    problems: list[str] = []
    made: dict[str, Channel] = {}
    for name, one in settings.channels.items():
        problems += [problem for template in _templates(name, one) if (problem := await _problem(template))]
        try:
            made[name] = _channel(name, one, settings, clock, resolver)
        except ConfigurationError as error:
            problems += [f"channel {name}: {problem}" for problem in error.problems]
    if problems:
        await close_channels(made)
        raise ConfigurationError(problems)
    return made


async def close_channels(channels: Mapping[str, Channel]) -> None:
    """Let go of their connections."""
    for channel in channels.values():
        await channel.close()


def _channel(
    name: str, one: ChannelSettings, settings: NotificationSettings, clock: Clock, resolver: Resolve
) -> Channel:
    match one:
        case LogSettings():
            return LogChannel()
        case SmtpSettings():
            return _smtp(name, one)
        case WebhookSettings():
            poster = _poster(one, one.address(), settings, resolver)
            return _webhook(name, one, poster, clock)
        case AlertmanagerSettings():
            url = f"{one.address().rstrip('/')}/api/v2/alerts"
            return Alertmanager(
                name,
                _poster(one, url, settings, resolver),
                resend=settings.pace(one).repeat,
                token=_token(one),
            )


def _poster(one: HttpSettings, url: str, settings: NotificationSettings, resolver: Resolve) -> Poster:
    try:
        egress = settings.egress.egress()
        return Poster(url, egress, seconds=one.timeout_seconds, ca_file=one.ca_file, resolver=resolver)
    except OSError as error:
        raise ConfigurationError([f"cannot use {one.ca_file}: {type(error).__name__}"]) from None


def _webhook(name: str, one: WebhookSettings, poster: Poster, clock: Clock) -> Webhook:
    try:
        key = key_of(secret_in(one.key_file)) if one.key_file else None
    except ValueError as error:
        raise ConfigurationError([f"cannot use the key in {one.key_file}: {error}"]) from None
    return Webhook(
        name,
        poster,
        clock,
        key=key,
        token=_token(one),
        format=one.format,
        template=_template(name, "template", one.template),
        content_type=one.content_type,
    )


def _smtp(name: str, one: SmtpSettings) -> Smtp:
    try:
        return Smtp(
            name,
            host=one.host,
            port=one.port,
            security=one.security,
            sender=one.sender,
            to=one.to,
            username=one.username,
            password=secret_in(one.password_file) if one.password_file else None,
            seconds=one.timeout_seconds,
            ca_file=one.ca_file,
            subject=_template(name, "subject_template", one.subject_template),
            template=_template(name, "template", one.template),
        )
    except OSError as error:
        raise ConfigurationError([f"cannot use {one.ca_file}: {type(error).__name__}"]) from None


def _token(one: HttpSettings) -> str | None:
    return secret_in(one.token_file) if one.token_file else None


def _template(channel: str, name: str, source: str | None) -> Template | None:
    return Template(f"{name} of channel {channel}", source) if source is not None else None


def _templates(channel: str, one: ChannelSettings) -> list[Template]:
    sources = {name: getattr(one, name, None) for name in ("subject_template", "template")}
    made = [_template(channel, name, source) for name, source in sources.items()]
    return [template for template in made if template]


async def _problem(template: Template) -> str | None:
    try:
        await template.render(SAMPLE.told())
    except TemplateFailed as error:
        return str(error)
    return None
