"""What a model may use: functions of the caller's, and tools that the provider runs itself."""

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
    ValidationError,
    field_validator,
)

from dhenara_async.errors import ConfigurationError, ToolArgumentsError
from dhenara_async.framing.lenient_json import sound
from dhenara_async.frozen import Aside, FrozenModel
from dhenara_async.tools.schemas import JsonSchema, model_schema, shortened, validation_words, without_placeholders

if TYPE_CHECKING:  # annotations only: what reads callables is loaded when there is one to read
    from dhenara_async.tools.functions import Signature

HostedToolType = Literal["web_search", "code_execution", "url_context", "file_search"]


class FunctionCall(Protocol):
    """What a tool needs of a ``ToolCallPart``."""

    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Source:
    """What a tool was made from."""

    model: type[BaseModel]
    signature: "Signature | None" = None


class Tool(FrozenModel):
    """A function the model may ask for.

    Made from a callable or a pydantic model, it also reads the calls that come; JSON and pickle keep only what the
    model is told, so a tool that comes back from them cannot.

    Attributes:
        name: What the model calls it.
        description: What it is for, in words for the model.
        parameters: JSON schema of its arguments, an object.
        strict: Whether the provider is to hold the arguments to the schema; None = as it likes.
    """

    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")
    description: str = ""
    parameters: JsonSchema = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None

    _source: Aside[_Source] = PrivateAttr(default=Aside())

    @field_validator("parameters")
    @classmethod
    def _spell_out(cls, parameters: JsonSchema) -> JsonSchema:
        """A tool without parameters is an object without members, and OpenAI wants both said."""
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
        """A tool whose arguments are a pydantic model.

        Args:
            model: The arguments; its docstring describes the tool unless ``description`` does.
            name: The tool's name; None = the model's.
            description: What it is for.
            strict: See the class.

        Raises:
            ConfigurationError: JSON cannot carry the model, or a hint of it cannot be read yet.
        """
        from inspect import cleandoc

        schema = model_schema(model)
        described = schema.pop("description", "")
        schema.pop("title", None)
        words = description if description is not None else cleandoc(described) if isinstance(described, str) else ""
        tool = cls(name=name or model.__name__, description=words, parameters=schema, strict=strict)
        tool._source = Aside(_Source(model))
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
        """A tool from a Python callable: its type hints give the schema, its docstring the descriptions.

        Args:
            function: Sync or async; every parameter needs a type hint.
            name: The tool's name; None = the function's.
            description: What it is for; None = from the docstring.
            strict: See the class.

        Raises:
            ConfigurationError: A parameter has no type hint, or one that JSON cannot carry.
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
        except ValidationError as exc:
            raise ConfigurationError(
                f"{name or signature.name!r} cannot be the name of a tool; pass name= with letters, digits, _ and -"
            ) from exc
        tool._source = Aside(_Source(signature.model, signature))
        return tool

    def arguments(self, call: FunctionCall) -> dict[str, object]:
        """The arguments of a call as Python values, by parameter (or field), defaults included.

        Args:
            call: A ``ToolCallPart`` that asks for this tool.

        Raises:
            ToolArgumentsError: The model wrote arguments that do not fit; the message is fit to be sent back to it.
            ConfigurationError: The tool was made from a schema alone; ``call.parsed()`` has the plain JSON.
        """
        source = self._known()
        values = self._validated(source, call)
        if source.signature is not None:
            return source.signature.values(values)
        return {name: getattr(values, name) for name in type(values).model_fields}

    def bind(self, call: FunctionCall) -> Callable[[], object]:
        """A call, ready to be made: calling what this returns runs the function with the model's arguments.

        An ``async`` function gives its awaitable; a tool made from a pydantic model gives the instance.

        Args:
            call: A ``ToolCallPart`` that asks for this tool.

        Raises:
            ToolArgumentsError: The model wrote arguments that do not fit; the message is fit to be sent back to it.
            ConfigurationError: The tool was made from a schema alone, so there is nothing to run.
        """
        source = self._known()
        values = self._validated(source, call)
        return (lambda: values) if source.signature is None else source.signature.bind(values)

    def _known(self) -> _Source:
        if self._source.held is None:
            raise ConfigurationError(
                f"the tool {self.name!r} was made from a schema, or comes back from JSON: there is no function or "
                "class to run or to check arguments with; use call.parsed()"
            )
        return self._source.held

    def _validated(self, source: _Source, call: FunctionCall) -> BaseModel:
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

    Attributes:
        type: Which; a provider that has no such tool gives a warning.
        options: The provider's own settings for it, passed on as they are.
    """

    type: HostedToolType
    options: dict[str, JsonValue] = Field(default_factory=dict)


class NamedTool(FrozenModel):
    """A tool choice that forces one function."""

    name: str


def _as_tool(value: object) -> object:
    """Models and functions stand for the tools they describe."""
    if isinstance(value, type):
        kind = cast("type[object]", value)
        return Tool.from_model(kind) if issubclass(kind, BaseModel) else value
    return Tool.from_function(value) if callable(value) else value


AnyTool = Annotated[Tool | HostedTool, BeforeValidator(_as_tool)]
Usable = Tool | HostedTool | Callable[..., object] | type[BaseModel]
"""What a caller may write for a tool."""

if TYPE_CHECKING:

    class Tools:
        """For type-checkers: anything usable may be written, tools are read."""

        def __get__(self, instance: object, owner: type[object]) -> tuple[Tool | HostedTool, ...]: ...
        def __set__(self, instance: object, value: Sequence[Usable]) -> None: ...

else:
    Tools = Annotated[Sequence[AnyTool], AfterValidator(tuple)]

ToolChoice = Literal["auto", "required", "none"] | NamedTool
