"""Reads the options that both APIs of the front have. Pure."""

from collections.abc import Mapping, Sequence

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError
from dhenara_async.web.inputs.fields import BodyFields, as_fields, bad, text_of
from dhenara_async.web.openai.errors import refused

FUNCTION_NAME = 64
"""How long the name of a function may be, in characters."""

_DESCRIPTION = 1_000_000


def checked_option(name: str, option: str, value: object) -> object:
    """Return the value of an option, as the config keeps it.

    Args:
        name: The option in the words of the API.
        option: The same in those of ``AIModelCallConfig``.
        value: The value that was sent.

    Raises:
        RefusedRequest: It is no value of the option.
    """
    if isinstance(value, bool) is not (option == "parallel_tool_calls"):
        raise refused(f"{name} has a value that it cannot have.", name)
    try:
        return getattr(AIModelCallConfig.model_validate({option: value}), option)
    except (ValueError, ConfigurationError):
        raise refused(f"{name} has a value that it cannot have.", name) from None


def checked_options(fields: BodyFields, names: Sequence[tuple[str, str]], place: str = "") -> dict[str, object]:
    """Return the options that have a value in a request, by their names in ``AIModelCallConfig``.

    Args:
        fields: The request, or a part of it.
        names: Names of the fields, and of the option that each sets; the last one that has a value counts.
        place: The name of that part, with a dot behind it; empty for the request itself.

    Raises:
        RefusedRequest: One has a value that it cannot have.
    """
    given = [(name, option, fields.get(name)) for name, option in names]
    return {
        option: checked_option(f"{place}{name}", option, value) for name, option, value in given if value is not None
    }


def checked_choice(choice: object) -> object:
    """Return a choice among tools that names none of them.

    Raises:
        RefusedRequest: It is no such choice.
    """
    if choice not in (None, "auto", "none", "required"):
        raise refused("tool_choice is none of auto, none and required, and names no function.", "tool_choice")
    return choice


def with_options(base: AIModelCallConfig, chosen: Mapping[str, object], refusal: str) -> AIModelCallConfig:
    """Return ``base`` with the options that a request chose.

    Args:
        base: The options of the app.
        chosen: Those of the request, by their names in the config.
        refusal: The message if they do not fit.

    Raises:
        RefusedRequest: One cannot be read.
    """
    try:
        read = AIModelCallConfig.model_validate(chosen)
    except (ValueError, ConfigurationError, RecursionError):  # their words may repeat what was sent
        raise bad(refusal) from None
    return base.changed(**{name: getattr(read, name) for name in chosen})


def declared_function(fields: BodyFields) -> Mapping[str, object]:
    """Return a function that may be called, with the fields that a tool of ours has.

    Raises:
        RefusedRequest: A field is of a wrong kind.
    """
    description = text_of(fields, "description", limit=_DESCRIPTION)
    declared: dict[str, object] = {
        "name": text_of(fields, "name", limit=FUNCTION_NAME),
        "description": description or "",
    }
    if fields.get("parameters") is not None:
        declared["parameters"] = as_fields(fields["parameters"], "the parameters of a tool")
    if isinstance(fields.get("strict"), bool):
        declared["strict"] = fields["strict"]
    return declared


def wanted_format(given: object, name: str, inner: str = "") -> Mapping[str, object] | None:
    """Return the schema that an answer must have; None if it is free text. Any JSON object is a schema too.

    Args:
        given: The format of the request.
        name: The name of the format in the request.
        inner: The field of the format that has the schema and its name; empty if it has these itself.

    Raises:
        RefusedRequest: It has an unknown type, or no schema.
    """
    if given is None:
        return None
    fields = as_fields(given, name)
    match fields.get("type"):
        case "text" | None:
            return None
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            place = f"{name}.{inner}" if inner else name
            return _wanted_schema(as_fields(fields.get(inner), place) if inner else fields, place)
        case _:
            raise refused(f"{name}.type is none of text, json_object and json_schema.", f"{name}.type")


def _wanted_schema(fields: BodyFields, name: str) -> Mapping[str, object]:
    schema = dict(as_fields(fields.get("schema"), f"{name}.schema"))
    if isinstance(title := fields.get("name"), str):
        schema.setdefault("title", title[:FUNCTION_NAME])
    return schema
