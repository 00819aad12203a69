"""A JSON schema generator that adds descriptions from ``Annotated``: a plain text, or ``Doc("…")``.

Pydantic itself reads descriptions from ``Field`` only, which takes precedence.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Union, cast, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema, ModelSchema, TypedDictSchema

_QUALIFIERS = frozenset({"Required", "NotRequired", "ReadOnly"})


class DescribedSchema(GenerateJsonSchema):
    """Pydantic's generator, which also takes descriptions from the texts and ``Doc``s in type hints."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        fields: Mapping[str, FieldInfo] = getattr(schema["cls"], "__pydantic_fields__", {})
        return _described(
            super().model_schema(schema), {name: _words_of_field(fields[name]) for name in fields}, fields
        )

    def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
        fields: Mapping[str, FieldInfo] = getattr(schema["cls"], "__pydantic_fields__", {})
        return _described(super().dataclass_schema(schema), _words_of_class(schema["cls"]), fields)

    def typed_dict_schema(self, schema: TypedDictSchema) -> JsonSchemaValue:
        return _described(super().typed_dict_schema(schema), _words_of_class(schema.get("cls")), {})


def _described(schema: JsonSchemaValue, words: Mapping[str, str], fields: Mapping[str, FieldInfo]) -> JsonSchemaValue:
    properties: object = schema.get("properties")
    members = cast("dict[str, object]", properties) if isinstance(properties, dict) else {}
    for name, text in words.items():
        field = fields.get(name)
        keys = (name,) if field is None else (field.validation_alias, field.serialization_alias, field.alias, name)
        member = next((members[key] for key in keys if isinstance(key, str) and key in members), None)
        if text and isinstance(member, dict):
            cast("dict[str, object]", member).setdefault("description", text)
    return schema


def _words_of_field(field: FieldInfo) -> str:
    return next(_texts(field.metadata), "") or _words_of(field.annotation)


def _words_of_class(cls: object) -> dict[str, str]:
    try:
        hints = get_type_hints(cls, include_extras=True)
    except (AttributeError, NameError, SyntaxError, TypeError):  # a hint that only type checkers can resolve
        return {}
    return {name: _words_of(hint) for name, hint in hints.items()}


def _words_of(hint: object) -> str:
    """Return the description in a type hint, or in a member of a union; empty if there is none."""
    origin, inside = get_origin(hint), cast("tuple[object, ...]", get_args(hint))
    if origin is Annotated:
        return next(_texts(inside[1:]), "") or _words_of(inside[0])
    if origin in (Union, UnionType) or getattr(origin, "__name__", "") in _QUALIFIERS:
        found = (_words_of(branch) for branch in inside)
        return next((text for text in found if text), "")
    return ""


def _texts(metadata: Iterable[object]) -> Iterator[str]:
    for item in metadata:
        text: object = item if isinstance(item, str) else getattr(item, "documentation", None)
        if isinstance(text, str) and text.strip():
            yield " ".join(text.split())
