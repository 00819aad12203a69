"""Declarations of tools: the caller's functions, and hosted tools that the provider runs itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from dhenara_async.errors import ConfigurationError, ToolArgumentsError
from dhenara_async.framing.lenient_json import sound
from dhenara_async.frozen import Aside, FrozenModel
from dhenara_async.tools.mcp.server import McpServer
from dhenara_async.tools.schema_answers import shortened, validation_words, without_placeholders
from dhenara_async.tools.schema_reading import JsonSchema
from dhenara_async.tools.schemas import model_schema

if TYPE_CHECKING:  # annotations only: the module is loaded when a callable is first read
    from dhenara_async.tools.functions import Signature

HostedToolType = Literal["web_search", "code_execution", "url_context", "file_search", "mcp"]


class RequestedCall(Protocol):
    """The fields of a ``ToolCallPart`` that a tool reads."""

    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _PythonSource:
    """The Python source of a tool."""

    model: type[BaseModel]
    signature: "Signature | None" = None


class Tool(FrozenModel):
    """A function that the model may call.

    A tool made from a callable or a pydantic model can also validate and run calls. JSON and pickle keep only the
    declaration, so a tool read back from them cannot.

    Attributes:
        name: The tool's name.
        description: The tool's purpose, written for the model.
        parameters: JSON schema of the arguments, an object.
        strict: Whether the provider enforces the schema on the arguments; None = the provider's default.
    """

    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")
    description: str = ""
    parameters: JsonSchema = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None

    _source: Aside[_PythonSource] = PrivateAttr(default=Aside())

    @field_validator("parameters")
    @classmethod
    def _spell_out(cls, parameters: JsonSchema) -> JsonSchema:
        """Add ``type`` and ``properties`` if they are missing: OpenAI requires both, also without parameters."""
        if parameters.keys() & {"$ref", "anyOf", "oneOf", "allOf"}:
            return parameters
        return {"type": "object", "properties": {}, **parameters}

    @classmethod
    def from_model(
        cls,
        model: type[BaseModel],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool | None = None,
    ) -> "Tool":
        """Build a tool with a pydantic model as its arguments.

        Args:
            model: The arguments.
            name: The tool's name; None = the model's name.
            description: The tool's purpose; None = the model's docstring.
            strict: See the class.

        Raises:
            ConfigurationError: The model has no JSON schema, or one of its type hints cannot be resolved yet.
        """
        from inspect import cleandoc

        schema = model_schema(model)
        described = schema.pop("description", "")
        schema.pop("title", None)
        words = description if description is not None else cleandoc(described) if isinstance(described, str) else ""
        tool = cls(name=name or model.__name__, description=words, parameters=schema, strict=strict)
        tool._source = Aside(_PythonSource(model))
        return tool

    @classmethod
    def from_function(
        cls,
        function: Callable[..., object],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool | None = None,
    ) -> "Tool":
        """Build a tool from a Python callable: type hints give the schema, the docstring gives the descriptions.

        Args:
            function: Sync or async; every parameter needs a type hint.
            name: The tool's name; None = the function's name.
            description: The tool's purpose; None = from the docstring.
            strict: See the class.

        Raises:
            ConfigurationError: A parameter has no type hint, or one without a JSON schema.
        """
        from dhenara_async.tools.functions import signature_of

        signature = signature_of(function)
        try:
            tool = cls(
                name=name or signature.name,
                description=signature.description if description is None else description,
                parameters=signature.schema,
                strict=strict,
            )
        except ConfigurationError as exc:
            raise ConfigurationError(
                f"{name or signature.name!r} cannot be the name of a tool; pass name= with letters, digits, _ and -"
            ) from exc
        tool._source = Aside(_PythonSource(signature.model, signature))
        return tool

    def arguments(self, call: RequestedCall) -> dict[str, object]:
        """Validate a call's arguments and return them as Python values by parameter (or field), defaults included.

        Args:
            call: A ``ToolCallPart`` for this tool.

        Raises:
            ToolArgumentsError: The arguments do not fit; the message can be sent back to the model.
            ConfigurationError: The tool was made from a schema alone; ``call.parsed()`` has the plain JSON.
        """
        source = self._required_source()
        values = self._validated(source, call)
        if source.signature is not None:
            return source.signature.values(values)
        return {name: getattr(values, name) for name in type(values).model_fields}

    def bind(self, call: RequestedCall, *, context: object = None) -> Callable[[], object]:
        """Return a callable without parameters that runs the function with the call's validated arguments.

        For an ``async`` function the callable returns its awaitable; for a tool made from a pydantic model, the
        instance.

        Args:
            call: A ``ToolCallPart`` for this tool.
            context: The value of the parameters that are annotated as ``ToolContext[…]``.

        Raises:
            ToolArgumentsError: The arguments do not fit; the message can be sent back to the model.
            ConfigurationError: The tool was made from a schema alone, so it has no function to run.
        """
        source = self._required_source()
        values = self._validated(source, call)
        return (lambda: values) if source.signature is None else source.signature.bind(values, context)

    @property
    def can_run(self) -> bool:
        """Whether the tool has a function or a pydantic model, so that ``bind`` works."""
        return self._source.held is not None

    def check_context(self, context: object) -> None:
        """Refuse a context that the function does not take.

        Args:
            context: The value of the parameters that are annotated as ``ToolContext[…]``.

        Raises:
            ConfigurationError: It is not an instance of the annotated class, or missing.
        """
        signature = None if self._source.held is None else self._source.held.signature
        if signature is None:
            return
        for name, hint in signature.contexts.items():
            if isinstance(hint, type) and not isinstance(context, cast("type[object]", hint)):
                kind = type(context).__name__
                raise ConfigurationError(
                    f"the parameter {name!r} of the tool {self.name!r} takes a {hint.__name__} as its context, not "
                    f"{kind}; write run_tools=ToolPolicy(context=…)"
                )

    def _required_source(self) -> _PythonSource:
        if self._source.held is None:
            raise ConfigurationError(
                f"the tool {self.name!r} was made from a schema, or comes back from JSON: it has no function or class "
                "to validate arguments with; use call.parsed()"
            )
        return self._source.held

    def _validated(self, source: _PythonSource, call: RequestedCall) -> BaseModel:
        text = sound(call.arguments.strip()) or "{}"
        try:
            return source.model.model_validate_json(text)
        except ValidationError as exc:
            fault = exc
        lean = without_placeholders(self.parameters, text)
        if lean is not None:
            try:
                return source.model.model_validate_json(lean)
            except ValidationError as exc:
                fault = exc
        raise ToolArgumentsError(
            f"the arguments of {shortened(call.name)} do not fit: {validation_words(fault)}", name=call.name
        ) from fault


class HostedTool(FrozenModel):
    """A tool that the provider runs itself.

    ``mcp`` is an MCP server that the provider calls, so its token goes to the provider. Its options are ``server_url``,
    ``server_label``, ``allowed_tools`` and so on, in the spelling of OpenAI, Anthropic or Gemini; each of them gets its
    own. Anthropic and Gemini never ask for an approval. OpenAI does unless ``require_approval`` is ``never``: such a
    request ends the answer. ``ChatResponse.approvals`` has the calls that it asks about; a ``ToolPolicy`` decides
    about them, and ``manager.resume`` sends a decision that comes later.

    ``raw`` is a tool that this library has no name for: ``options`` is the whole entry in the provider's list of tools.

    Attributes:
        type: The tool; for a provider without it, the response carries a warning.
        options: The provider's own settings of the tool, passed on unchanged.
        authorization: The token of an MCP server, which no representation and no JSON shows; None = none, or among the
            options.
    """

    type: HostedToolType | Literal["raw"]
    options: dict[str, JsonValue] = Field(default_factory=dict)
    authorization: SecretStr | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _check_raw(self) -> "HostedTool":
        if self.type == "raw" and not self.options:
            raise ValueError("a raw hosted tool needs options: the provider's own entry, such as {'type': '…'}")
        return self


class NamedTool(FrozenModel):
    """A tool choice that forces one function."""

    name: str


def _as_tool(value: object) -> object:
    """Convert a pydantic model or a function to a tool."""
    if isinstance(value, McpServer):
        return value
    if isinstance(value, type):
        kind = cast("type[object]", value)
        return Tool.from_model(kind) if issubclass(kind, BaseModel) else value
    return Tool.from_function(value) if callable(value) else value


def _made_in_code(value: object) -> object:
    """Refuse a server that is read from data: it would open connections and start programs."""
    if isinstance(value, McpServer):
        return value
    raise ValueError("an McpServer is made in code; it cannot be read from data")


AnyTool = Annotated[Tool | HostedTool | Annotated[McpServer, BeforeValidator(_made_in_code)], BeforeValidator(_as_tool)]
Usable = Tool | HostedTool | McpServer | Callable[..., object] | type[BaseModel]
"""The values that a caller may pass as a tool."""

if TYPE_CHECKING:

    class Tools:
        """The type of ``tools``: set to any sequence of ``Usable``, read as a tuple of tools."""

        def __get__(self, instance: object, owner: type[object]) -> tuple[Tool | HostedTool | McpServer, ...]: ...
        def __set__(self, instance: object, value: Sequence[Usable]) -> None: ...

else:
    Tools = Annotated[Sequence[AnyTool], AfterValidator(tuple)]

ToolChoice = Literal["auto", "required", "none"] | NamedTool
