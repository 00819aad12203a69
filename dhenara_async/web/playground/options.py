"""``PlaygroundOptions``: what an app may set of its page."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.web.inputs.fields import WebLimits


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PlaygroundOptions(ShortRepr):
    """Options of ``playground``.

    Attributes:
        instructions: System instructions of every turn; empty = those of the conversation or the manager.
        config: The options of every call; None = the manager's.
        run_tools: How the tools of the config are run; None = they are not.
        origins: Origins of other sites whose pages may send requests.
        limits: How much a client may send.
        demo: Whether stand-ins answer in place of models, which the page then says.
        details: Whether the page shows errors as they are recorded, with the words of the provider: for those who run
            the app themselves.
    """

    instructions: tuple[str, ...] = field(default=(), repr=False)
    config: AIModelCallConfig | None = None
    run_tools: ToolPolicy | None = None
    origins: Collection[str] = ()
    limits: WebLimits = field(default_factory=WebLimits)
    demo: bool = False
    details: bool = False


def playground_options(
    instructions: Iterable[str],
    config: AIModelCallConfig | None,
    run_tools: ToolPolicy | None,
    origins: Collection[str],
    limits: WebLimits | None,
    *,
    demo: bool,
    details: bool,
) -> PlaygroundOptions:
    """Return checked options.

    Raises:
        ConfigurationError: One text is given where several are taken.
    """
    if isinstance(instructions, str) or isinstance(origins, str):
        raise ConfigurationError("instructions and origins are sequences of texts: write [text]")
    return PlaygroundOptions(
        instructions=tuple(instructions),
        config=config,
        run_tools=run_tools,
        origins=frozenset(origins),
        limits=limits or WebLimits(),
        demo=demo,
        details=details,
    )
