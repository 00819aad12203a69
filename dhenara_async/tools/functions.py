"""Derives a tool's name, description and JSON schema from a Python callable.

Pydantic reads the type hints, so everything it supports works here: ``Annotated`` with ``Field``, defaults,
``Optional``, ``Literal``, enums, dataclasses, nested models. Descriptions come from the docstring, parsed by
docstring-parser (extra ``tools``: Google, Numpy, reST and Epydoc style); without it only the docstring's first
paragraph is used.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from inspect import Parameter, getdoc, isclass, isroutine, signature, unwrap
from types import MethodType
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PydanticUserError, create_model
from pydantic.fields import FieldInfo

from dhenara_async.errors import ConfigurationError
from dhenara_async.tools.descriptions import DescribedSchema

Given = TypeVar("Given")


class _FromContext:
    """Marks a parameter that gets the context of the loop instead of an argument of the model."""


ToolContext = Annotated[Given, _FromContext()]
"""The type hint of a parameter that the model never sees: ``user: ToolContext[User]`` gets ``ToolPolicy.context``."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The tool description of a callable.

    Attributes:
        name: The callable's name; may be illegal for a tool (``<lambda>``).
        description: The description from the docstring.
        schema: JSON schema of the arguments, an object.
        model: The pydantic model that validates the arguments; a field's alias is the parameter's name.
        function: The callable itself.
        positional: The positional-only parameters, in order.
        contexts: The hints of the parameters that get the context, by name.
    """

    name: str
    description: str
    schema: dict[str, JsonValue]
    model: type[BaseModel]
    function: Callable[..., object]
    positional: tuple[str, ...] = ()
    contexts: Mapping[str, object] = field(default_factory=dict[str, object])

    def values(self, arguments: BaseModel) -> dict[str, object]:
        """Return Python values by parameter, defaults included, from an instance of ``model``."""
        fields = self.model.model_fields
        return {field.alias or name: getattr(arguments, name) for name, field in fields.items()}

    def bind(self, arguments: BaseModel, context: object = None) -> Callable[[], object]:
        """Return a callable without parameters that calls the function with these arguments and the context."""
        values = {**self.values(arguments), **dict.fromkeys(self.contexts, context)}
        return partial(self.function, *(values.pop(name) for name in self.positional), **values)


def signature_of(function: Callable[..., object]) -> Signature:
    """Read ``function``: a plain or ``async`` function, a bound method, a ``partial``, a callable object or a class.

    Arguments that a ``partial`` already binds are not part of the schema.

    Raises:
        ConfigurationError: A parameter has no type hint, has one without a JSON schema, or is ``*args`` or
            ``**kwargs``.
    """
    inner = _innermost(function)
    name = _name(function)
    parameters = _parameters(function, name)
    written = _hints_as_written(inner)
    fields: dict[str, tuple[object, FieldInfo]] = {}
    contexts: dict[str, object] = {}
    for number, parameter in enumerate(parameters):
        if parameter.name not in written:
            more = "; pass a method of an instance" if number == 0 and parameter.name in {"self", "cls"} else ""
            raise ConfigurationError(f"the parameter {parameter.name!r} of {name} has no type hint{more}")
        hint = _hint(inner, parameter.name, written[parameter.name], name)
        if _is_context(hint):
            contexts[parameter.name] = get_args(hint)[0]
            continue
        # fields get neutral names, because a parameter may have the name of a pydantic method or attribute
        fields[f"parameter_{number}"] = _field(parameter, hint)
    described = _docstring(_words(inner) or _words(function))
    model, schema = _schema(fields, name)
    _describe(schema, {name: words for name, words in described.parameters.items() if name not in contexts})
    positional = tuple(each.name for each in parameters if each.kind is Parameter.POSITIONAL_ONLY)
    return Signature(name, described.summary, schema, model, function, positional, contexts)


def _is_context(hint: object) -> bool:
    return get_origin(hint) is Annotated and any(isinstance(each, _FromContext) for each in get_args(hint)[1:])


def _innermost(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function with the type hints and the docstring: without partials, decorators and bound methods."""
    while isinstance(function, partial):
        function = cast("Callable[..., object]", function.func)
    if isclass(function):
        return function
    if not isroutine(function):
        function = cast("Callable[..., object]", type(function).__call__)
    return unwrap(cast("Callable[..., object]", function.__func__ if isinstance(function, MethodType) else function))


def _name(function: Callable[..., object]) -> str:
    while isinstance(function, partial):
        function = cast("Callable[..., object]", function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def _parameters(function: Callable[..., object], name: str) -> list[Parameter]:
    try:
        found = signature(function, **_UNEVALUATED).parameters.values()
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"the parameters of {name} cannot be read, so it cannot be a tool: {exc}") from exc
    given = set(cast("Mapping[str, object]", function.keywords)) if isinstance(function, partial) else set[str]()
    parameters = [parameter for parameter in found if parameter.name not in given]
    for parameter in parameters:
        if parameter.kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
            raise ConfigurationError(
                f"the parameter {str(parameter).split(':')[0]!r} of {name} takes any number of arguments, which a "
                "JSON schema cannot describe; name them, or take a list"
            )
    return parameters


# From Python 3.14 on, reading one hint evaluates all of them, unless this format is passed.
_UNEVALUATED: dict[str, Any] = (
    {"annotation_format": import_module("annotationlib").Format.FORWARDREF} if sys.version_info >= (3, 14) else {}
)


def _hints_as_written(inner: Callable[..., object]) -> Mapping[str, object]:
    """Return unresolved hints by parameter: names imported only under TYPE_CHECKING cannot be resolved."""
    described = inner.__init__ if isclass(inner) else inner
    if sys.version_info >= (3, 14):
        lib = import_module("annotationlib")
        return lib.get_annotations(described, format=lib.Format.FORWARDREF)
    return getattr(described, "__annotations__", {})


def _hint(inner: Callable[..., object], parameter: str, written: object, name: str) -> object:
    """Resolve the hint of one parameter in the module that defines the function."""
    described = inner.__init__ if isclass(inner) else inner

    def alone() -> None: ...

    alone.__annotations__ = {parameter: written}
    generic = getattr(described, "__type_params__", ())
    if generic:
        alone.__type_params__ = generic  # pyright: ignore[reportFunctionMemberAccess] - from Python 3.12 on
    try:
        return get_type_hints(alone, getattr(described, "__globals__", {}), include_extras=True)[parameter]
    except (AttributeError, NameError, SyntaxError, TypeError) as exc:
        raise ConfigurationError(
            f"the type hint of the parameter {parameter!r} of {name} cannot be read where it was defined: {exc}; "
            "import it outside of TYPE_CHECKING, or give the argument with functools.partial"
        ) from exc


def _field(parameter: Parameter, hint: object) -> tuple[object, FieldInfo]:
    default: object = parameter.default
    if isinstance(default, FieldInfo):  # f(days: int = Field(3, ge=1)), as in pydantic's own decorators
        hint, default = Annotated[hint, default], Parameter.empty  # type: ignore[valid-type] - a hint known at run time
    if default is Parameter.empty:
        return hint, cast("FieldInfo", Field(alias=parameter.name))
    return hint, cast("FieldInfo", Field(default, alias=parameter.name))


class _Generator(DescribedSchema):
    """A schema generator without titles that repeat the name, and without warnings about non-JSON defaults."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - declared so by pydantic

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def _schema(fields: Mapping[str, tuple[object, FieldInfo]], name: str) -> tuple[type[BaseModel], dict[str, JsonValue]]:
    try:
        return _built(fields)
    except PydanticUserError as exc:
        for hint, field in fields.values():  # find the failing parameter
            try:
                _built({"parameter": (hint, field)})
            except PydanticUserError as cause:
                raise ConfigurationError(
                    f"the parameter {field.alias!r} of {name} has a type hint that JSON cannot carry: {hint}"
                ) from cause
        raise ConfigurationError(f"the parameters of {name} have no JSON schema: {exc.message}") from exc


def _built(fields: Mapping[str, tuple[object, FieldInfo]]) -> tuple[type[BaseModel], dict[str, JsonValue]]:
    config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    make = cast("Callable[..., type[BaseModel]]", create_model)  # its overloads know no fields by mapping
    model = make("Arguments", __config__=config, **fields)
    schema: dict[str, JsonValue] = model.model_json_schema(schema_generator=_Generator)
    schema.pop("title", None)
    return model, schema


# ---------------------------------------------------------------------------------------------------- docstrings


@dataclass(frozen=True, slots=True)
class _Docstring:
    summary: str
    parameters: Mapping[str, str]


def _words(described: Callable[..., object]) -> str:
    if isinstance(described, partial):
        return ""  # the docstring of functools.partial itself
    text = getdoc(described) or ""
    # a dataclass without a docstring has its signature as one
    return "" if isclass(described) and text.startswith(f"{described.__name__}(") else text


def _docstring(text: str) -> _Docstring:
    first_paragraph = " ".join(text.partition("\n\n")[0].split())
    try:
        from docstring_parser import ParseError, parse
    except ImportError:
        return _Docstring(first_paragraph, {})
    try:
        parsed = parse(text)
    except ParseError:
        return _Docstring(first_paragraph, {})
    parameters = {each.arg_name: " ".join((each.description or "").split()) for each in parsed.params}
    return _Docstring((parsed.description or "").strip(), parameters)


def _describe(schema: Mapping[str, JsonValue], words: Mapping[str, str]) -> None:
    """Add descriptions from the docstring to parameters whose hint has none."""
    properties = schema.get("properties")
    for name, description in words.items():
        parameter = properties.get(name.lstrip("*")) if isinstance(properties, dict) else None
        if description and isinstance(parameter, dict):
            parameter.setdefault("description", description)
