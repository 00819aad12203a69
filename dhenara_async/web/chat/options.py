"""``ChatOptions``: what an app may set of its chat."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.web.frames.ui_messages import UIStreamVersion
from dhenara_async.web.inputs.fields import WebLimits


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ChatOptions(ShortRepr):
    """Options of ``chat_routes``.

    Attributes:
        instructions: System instructions of every turn.
        config: The options of every call; None = the manager's.
        run_tools: How the tools of the config are run; None = they are not.
        detach: Whether an answer goes on when its page goes away, so that it survives a reload; it is then ended by the
            ``stop`` route. False, or a manager without a journal = the page that goes away ends it.
        sdk: The major version of the page's ``ai`` package.
        known_tools: Names of the tools that the page declares.
        origins: Origins of other sites whose pages may send requests (``https://app.example.com``). The framework sends
            the headers of CORS.
        limits: How much a client may send.
    """

    instructions: tuple[str, ...] = field(default=(), repr=False)
    config: AIModelCallConfig | None = None
    run_tools: ToolPolicy | None = None
    detach: bool = True
    sdk: UIStreamVersion = 6
    known_tools: Collection[str] = ()
    origins: Collection[str] = ()
    limits: WebLimits = field(default_factory=WebLimits)


def chat_options(
    instructions: Iterable[str],
    config: AIModelCallConfig | None,
    run_tools: ToolPolicy | None,
    detach: bool,
    sdk: UIStreamVersion,
    known_tools: Collection[str],
    origins: Collection[str],
    limits: WebLimits | None,
) -> ChatOptions:
    """Return checked options.

    Raises:
        ConfigurationError: ``sdk`` is neither 6 nor 7, or one text is given where several are taken.
    """
    if sdk not in (6, 7):
        raise ConfigurationError(f"sdk is the major version of the page's ai package, 6 or 7, not {sdk!r}")
    if isinstance(instructions, str) or isinstance(origins, str):
        raise ConfigurationError("instructions and origins are sequences of texts: write [text]")
    return ChatOptions(
        instructions=tuple(instructions),
        config=config,
        run_tools=run_tools,
        detach=detach,
        sdk=sdk,
        known_tools=known_tools,
        origins=frozenset(origins),
        limits=limits or WebLimits(),
    )
