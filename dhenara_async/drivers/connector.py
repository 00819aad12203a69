"""``HostedTool(type="mcp")``: an MCP server that the provider calls, read from the spelling of any provider.

Options may be written as OpenAI, Anthropic or Gemini spell them, so that one tool serves conversations that change
their provider. Each dialect spells them again.

Sources: ``Mcp`` of the ``openai`` package 3.57, ``BetaRequestMCPServerURLDefinitionParam`` and ``BetaMCPToolsetParam``
of the ``anthropic`` package 2.14, ``McpServer`` of ``google-genai`` 3.4 (read 2026-11-28)
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

from dhenara_async.drivers.base import JsonObject, as_list, as_object, as_text
from dhenara_async.errors import ConfigurationError
from dhenara_async.tools.declarations import HostedTool

_NAMES = ("server_label", "name", "mcp_server_name")
_URLS = ("server_url", "url")
_TOKENS = ("authorization", "authorization_token")
_TRANSPORTS = ("streamableHttpTransport", "streamable_http_transport")
_READ = {*_NAMES, *_URLS, *_TOKENS, *_TRANSPORTS, "headers", "allowed_tools", "type"}


@dataclass(frozen=True, slots=True)
class McpConnector:
    """An MCP server for a provider to call.

    Attributes:
        name: Its label.
        url: Its address; empty for one that the provider knows by an id.
        token: The bearer token; empty if there is none.
        headers: Headers that the provider sends.
        allowed: The only tools that may be used; None = all.
        rest: Options of one provider alone, unchanged.
    """

    name: str
    url: str
    token: str
    headers: JsonObject
    allowed: object
    rest: JsonObject

    @property
    def allowed_names(self) -> list[str] | None:
        """The names of the only tools that may be used; None = all."""
        if self.allowed is None:
            return None
        names = as_list(self.allowed) or as_list(as_object(self.allowed).get("tool_names"))
        return [as_text(name) for name in names]


def connector_of(tool: HostedTool) -> McpConnector:
    """Read the options of a hosted tool of type ``mcp``.

    Raises:
        ConfigurationError: They name no server.
    """
    options: JsonObject = {**deepcopy(tool.options)}
    transport = next((as_object(options[key]) for key in _TRANSPORTS if key in options), JsonObject())
    url = _first(options, _URLS) or as_text(transport.get("url"))
    if not url and not {"connector_id", "tunnel_id"} & options.keys():
        raise ConfigurationError(
            "a hosted MCP server needs its address: HostedTool(type='mcp', options={'server_url': 'https://…'})"
        )
    token = _first(options, _TOKENS)
    return McpConnector(
        name=_first(options, _NAMES) or "mcp",
        url=url,
        token=token if tool.authorization is None else tool.authorization.get_secret_value(),
        headers={**as_object(transport.get("headers")), **as_object(options.get("headers"))},
        allowed=options.get("allowed_tools"),
        rest={key: value for key, value in options.items() if key not in _READ},
    )


def connector_secrets(tools: Iterable[object]) -> Iterator[str]:
    """Yield the tokens and headers of hosted MCP servers, which no error may repeat."""
    for tool in tools:
        if isinstance(tool, HostedTool) and tool.type == "mcp":
            connector = connector_of(tool)
            values = (connector.token, *(as_text(value) for value in connector.headers.values()))
            yield from (word for value in values if len(word := value.strip().rpartition(" ")[2]) >= 8)


def _first(options: JsonObject, names: Iterable[str]) -> str:
    return next((text for name in names if (text := as_text(options.get(name)))), "")
