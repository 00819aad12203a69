"""Reads the options that both APIs of the front have. Pure."""

from collections.abc import Mapping

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError
from dhenara_async.web.inputs.fields import BodyFields, as_fields, bad, text_of

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
        raise bad(f"{name} has a value that it cannot have.")
    try:
        return getattr(AIModelCallConfig.model_validate({option: value}), option)
    except (ValueError, ConfigurationError):
        raise bad(f"{name} has a value that it cannot have.") from None


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


def wanted_schema(fields: BodyFields, name: str) -> Mapping[str, object]:
    """Return the schema of an answer, with its name as its title.

    Args:
        fields: The object with ``name`` and ``schema``.
        name: The name of the object in the request.

    Raises:
        RefusedRequest: The schema is missing or no object.
    """
    schema = dict(as_fields(fields.get("schema"), f"{name}.schema"))
    if isinstance(title := fields.get("name"), str):
        schema.setdefault("title", title[:FUNCTION_NAME])
    return schema
