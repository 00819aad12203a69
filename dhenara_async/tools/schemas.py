"""The schema of a structured output, from the caller's config."""

from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel

from dhenara_async.errors import ConfigurationError
from dhenara_async.tools.schema_reading import JsonSchema, expanded_root, is_object_schema


class AsksForStructure(Protocol):
    """The field of an ``AIModelCallConfig`` that is read here."""

    @property
    def structured_output(self) -> type[BaseModel] | JsonSchema | None: ...


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The schema of a structured output.

    Attributes:
        name: The schema's name, for wire formats that require one: letters, digits, ``_`` and ``-``, at most 64.
        schema: JSON schema with an object as its root.
        model: The pydantic class of the schema; None if the caller passed a schema.
    """

    name: str
    schema: JsonSchema
    model: type[BaseModel] | None


def output_schema(config: AsksForStructure) -> OutputSchema | None:
    """Return the schema of ``config.structured_output``; None if that is unset.

    Raises:
        ConfigurationError: Its root is not an object, or pydantic cannot generate the schema.
    """
    wanted = config.structured_output
    if wanted is None:
        return None
    if isinstance(wanted, dict):
        title = wanted.get("title")
        return OutputSchema(_name(title if isinstance(title, str) else ""), _rooted(wanted, "the schema"), None)
    return OutputSchema(_name(wanted.__name__), _rooted(model_schema(wanted), wanted.__name__), wanted)


def is_any_object(schema: JsonSchema) -> bool:
    """Whether a schema asks for a JSON object and says nothing about its members."""
    told = {name: value for name, value in schema.items() if name not in ("title", "description", "$schema")}
    return told.pop("additionalProperties", True) is True and told == {"type": "object"}


def model_schema(model: type[BaseModel]) -> JsonSchema:
    """Return the JSON schema of a pydantic model, with the descriptions from its type hints (see ``descriptions``).

    Raises:
        ConfigurationError: Pydantic cannot generate the schema.
    """
    from pydantic import PydanticUserError

    from dhenara_async.tools.descriptions import DescribedSchema

    try:
        return model.model_json_schema(schema_generator=DescribedSchema)
    except PydanticUserError as exc:
        raise ConfigurationError(f"{model.__name__} has no JSON schema: {exc.message}") from exc


def _name(title: str) -> str:
    legal = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in title)
    return legal[:64] or "answer"


def _rooted(schema: JsonSchema, called: str) -> JsonSchema:
    """Return ``schema`` with the reference at its root resolved; every target requires an object there."""
    top = expanded_root(schema)
    if not is_object_schema(top):
        raise ConfigurationError(
            f"structured output needs an object as its root, which {called} is not; wrap it in a member of an object"
        )
    return top
