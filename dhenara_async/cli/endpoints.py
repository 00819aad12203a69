"""Build the endpoints of models named on the command line, and check that the environment has their keys."""

import os
from collections.abc import Iterable

from dhenara_async.endpoint import AIModelAPI, AIModelEndpoint
from dhenara_async.hosts.names import Named
from dhenara_async.hosts.registry import host_of
from dhenara_async.testing import ProviderServer


def reachable(provider: str) -> bool:
    """Whether the environment has a key for ``provider``, or it needs none."""
    host = host_of(provider)
    return not host.key_required or any(os.environ.get(variable, "").strip() for variable in host.key_variables)


def any_reachable(named: Iterable[Named]) -> bool:
    """Whether at least one of the models is ``reachable``."""
    return any(reachable(model.provider) for model in named)


def endpoint_of(named: Named, server: ProviderServer | None, *, base_url: str | None = None) -> AIModelEndpoint:
    """Build the endpoint of a model: on ``server`` if given, else at ``base_url`` or the usual address."""
    if server is not None:
        return AIModelEndpoint(api=server.api(named.provider), ai_model=named.model)
    return AIModelEndpoint(api=AIModelAPI(provider=named.provider, base_url=base_url), ai_model=named.model)
