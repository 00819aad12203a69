"""``Models``: the models of a page by the names that it asks by, and which of them has answered a turn."""

from collections.abc import Mapping

from dhenara_async.conversation import ConversationNode
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import ConfigurationError
from dhenara_async.hosts.registry import rules_of
from dhenara_async.messages.media import placeholder
from dhenara_async.messages.messages import FilePart, Origin
from dhenara_async.plans.targets import Target, endpoints, target_of
from dhenara_async.stores import NodeOutline
from dhenara_async.web.chat.history import Json
from dhenara_async.web.playground.node_json import AskedModel

MODEL = "playground_model"
"""The name of a model in the metadata of a turn; a node names its endpoint, but not the plan over it."""


class Models:
    """The models of a page.

    Args:
        models: The targets, by name.

    Raises:
        ConfigurationError: There is none, or one cannot be used.
    """

    def __init__(self, models: Mapping[str, Target | str]) -> None:
        if not isinstance(models, Mapping) or not models:  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ConfigurationError('endpoints is a mapping of names: {"claude": claude, "gpt": gpt}')
        self._targets: dict[str, Target] = {name: target_of(model, "playground") for name, model in models.items()}

    def get(self, name: str) -> Target | None:
        """Return the target of that name; None if there is none."""
        return self._targets.get(name)

    def of_turn(self, node: ConversationNode | NodeOutline) -> AskedModel:
        """Return the model of a turn, which may be running still."""
        name, origin = self._asked_name(node), node.origin
        if origin is None:
            endpoint = None if name is None else next(endpoints(self._targets[name]))
            if endpoint is None:
                return AskedModel()
            return AskedModel(
                id=name, name=shown_name(endpoint), provider=str(endpoint.api.provider), currency=_currency(endpoint)
            )
        answered = None if name is None else self.endpoint_of(name, origin)
        currency = "USD" if answered is None else _currency(answered)
        return AskedModel(id=name, name=origin.model, provider=origin.provider, currency=currency)

    def _asked_name(self, node: ConversationNode | NodeOutline) -> str | None:
        """Return the name that a turn was begun with, else one behind which its endpoint is."""
        name = (node.metadata or {}).get(MODEL)
        if isinstance(name, str) and name in self._targets:
            return name
        return None if node.origin is None else self._name_of(node.origin)

    def endpoint_of(self, name: str, origin: Origin) -> AIModelEndpoint | None:
        """Return the endpoint behind a name that made a turn; None if none of them has."""
        target = self._targets.get(name)
        found = () if target is None else endpoints(target)
        return next((endpoint for endpoint in found if _made_by(endpoint, origin)), None)

    def endpoint_that_made(self, origin: Origin) -> AIModelEndpoint | None:
        """Return the endpoint of this app that made a turn; None if none of them has."""
        name = self._name_of(origin)
        return None if name is None else self.endpoint_of(name, origin)

    def currency_of(self, name: str) -> str | None:
        """Return the currency of the prices behind a name; see ``AskedModel``."""
        target = self._targets.get(name)
        own = target is not None and any(endpoint.pricing.rates is not None for endpoint in endpoints(target))
        return None if own else "USD"

    def _name_of(self, origin: Origin) -> str | None:
        """Return the name of the first model that has an origin, of endpoints before those of plans."""
        alone = [name for name, target in self._targets.items() if isinstance(target, AIModelEndpoint)]
        for name in (*alone, *(name for name in self._targets if name not in alone)):
            if self.endpoint_of(name, origin) is not None:
                return name
        return None

    def to_json(self) -> list[Json]:
        """Return the models as the page lists them."""
        return [_told(name, target) for name, target in self._targets.items()]


def shown_name(endpoint: AIModelEndpoint) -> str:
    """Return the name of an endpoint's model for people."""
    return endpoint.ai_model.display_name or endpoint.ai_model.model_name


def _told(name: str, target: Target) -> Json:
    members = list(endpoints(target))
    rules = [rules_of(endpoint) for endpoint in members]
    windows = [endpoint.ai_model.context_window for endpoint in members]
    known = [window for window in windows if window is not None]
    return {
        "id": name,
        "kind": "endpoint" if isinstance(target, AIModelEndpoint) else "plan",
        "plan": None if isinstance(target, AIModelEndpoint) else type(target).__name__.lower(),
        "members": list(dict.fromkeys(map(shown_name, members))),
        "provider": ", ".join(dict.fromkeys(str(endpoint.api.provider) for endpoint in members)),
        "images": all(_takes(rule, "image/png") for rule in rules),
        "documents": all(_takes(rule, "application/pdf") for rule in rules),
        "contextTokens": min(known) if len(known) == len(members) else None,
    }


def _takes(rules: Rules, media_type: str) -> bool:
    return rules.files(FilePart(media_type=media_type, data=placeholder(media_type)), "question")


def _made_by(endpoint: AIModelEndpoint, origin: Origin) -> bool:
    return (str(endpoint.api.provider), endpoint.ai_model.model_name) == (origin.provider, origin.model)


def _currency(endpoint: AIModelEndpoint) -> str | None:
    return None if endpoint.pricing.rates is not None else "USD"
