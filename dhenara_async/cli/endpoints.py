"""Build the endpoints of models named on the command line, and check that there are keys for them."""

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from dhenara_async.cli.settings import Keys, kept_model
from dhenara_async.endpoint import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelEndpoint
from dhenara_async.errors import ConfigurationError, printable
from dhenara_async.hosts.names import Named, known_models
from dhenara_async.hosts.registry import host_of
from dhenara_async.messages.messages import Citation
from dhenara_async.models import anthropic, google, openai

if TYPE_CHECKING:
    from dhenara_async.testing import ProviderServer

FIRST_CHOICES = (
    (AIModelAPIProviderEnum.ANTHROPIC, anthropic.ClaudeSonnet55),
    (AIModelAPIProviderEnum.OPEN_AI, openai.GPT6Luna),
    (AIModelAPIProviderEnum.GOOGLE_AI, google.Gemini38Flash),
)
"""The models that are asked when none is named."""


def key_source(provider: str) -> str | None:
    """Say where the key of ``provider`` comes from: ``environment``, ``file``, ``keyring``; None if there is no key."""
    if any(os.environ.get(variable, "").strip() for variable in host_of(provider).key_variables):
        return "environment"
    return Keys().places().get(provider)


def reachable(provider: str) -> bool:
    """Whether there is a key for ``provider``, or it needs none."""
    return not host_of(provider).key_required or key_source(provider) is not None


def any_reachable(named: Iterable[Named]) -> bool:
    """Whether at least one of the models is ``reachable``."""
    return any(reachable(model.provider) for model in named)


def check_reachable(named: Iterable[Named], *, base_url: str | None = None) -> None:
    """Check that every model has a key and an address.

    Raises:
        ConfigurationError: One has not; the message says which command or variable gives it.
    """
    for model in named:
        provider, host = str(model.provider), host_of(model.provider)
        if not reachable(provider):
            unknown = _unknown_note(model)
            raise ConfigurationError(
                f"there is no key for {provider}{unknown}; run: dhenara-async keys set {provider}, or set "
                f"{' or '.join(host.key_variables)}; --loopback has stand-ins answer"
            )
        given = base_url or any(os.environ.get(variable, "").strip() for variable in host.base_url_variables)
        if host.base_url is None and not given:
            variables = "".join(f", or set {variable}" for variable in host.base_url_variables)
            raise ConfigurationError(f"{provider} has no address of its own; give --base-url URL{variables}")


def _unknown_note(named: Named) -> str:
    """Return a note that a model is none whose maker's models are listed, so that a wrong id is not taken for a key."""
    known = known_models()
    if named.model.model_name in known or named.provider not in {model.provider for model in known.values()}:
        return ""
    name = printable(named.model.model_name)
    return f" (and its list here has no {name}: dhenara-async models shows the known ones)"


def model_note(model: AIModel, *, loopback: bool = False) -> str:
    """Describe a model in a few words: its maker, whether its key is missing, and when it is or was retired."""
    maker = model.provider
    notes = [str(maker or "")]
    if not loopback and maker is not None and not reachable(maker):
        notes.append("no key")
    if model.retired_on is not None:
        past = model.retired_on <= date.today()
        notes.append(f"{'its maker retired it on' if past else 'its maker serves it until'} {model.retired_on}")
    return ", ".join(notes)


def default_model(*, loopback: bool) -> str:
    """Return the model that is asked when none is named: the kept one, else one of a provider that has a key.

    Raises:
        ConfigurationError: There is neither.
    """
    kept = kept_model()
    if kept is not None:
        return kept
    for provider, model in FIRST_CHOICES:
        if loopback or reachable(provider):
            return f"{provider.value}:{model.model_name}"
    raise ConfigurationError(
        "no model is named and there is no key; run: dhenara-async keys set PROVIDER (dhenara-async hosts lists them), "
        "or give --model; --loopback has stand-ins answer"
    )


def endpoint_of(named: Named, server: "ProviderServer | None", *, base_url: str | None = None) -> AIModelEndpoint:
    """Build the endpoint of a model: on ``server`` if given, else at ``base_url`` or the usual address."""
    if server is not None:
        return AIModelEndpoint(api=server.api(named.provider), ai_model=named.model)
    # the library reads the environment itself, at each call
    kept = None if key_source(named.provider) == "environment" else Keys().get(named.provider)
    return AIModelEndpoint(
        api=AIModelAPI(provider=named.provider, api_key=kept, base_url=base_url), ai_model=named.model
    )


def stand_in_server(*, delay: float, thoughtful: bool = False) -> "ProviderServer":
    """Return a loopback server whose stand-ins answer in place of models.

    Args:
        delay: Seconds before each token.
        thoughtful: Whether answers have reasoning and a citation, which a hop drops.
    """
    from dhenara_async.testing import Answer, ProviderServer, SeenRequest  # here: most commands never need them
    from dhenara_async.testing.stand_in import tell

    def answer(seen: SeenRequest) -> Answer:
        reasoning = f"What would a story by {seen.model} be without a thought of its own?"
        source = Citation(url="https://example.com/robots-that-paint", title="Robots that paint")
        return replace(tell(seen), reasoning=reasoning, citations=(source,))

    return ProviderServer(answer if thoughtful else None, delay=delay, keep=0)
