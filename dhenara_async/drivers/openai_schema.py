"""The subset of JSON schema that OpenAI's strict mode supports, in Responses and in Chat Completions.

Source: https://developers.openai.com/api/docs/guides/structured-outputs (read 2026-11-22)
"""

from collections.abc import Iterable

from dhenara_async.errors import UnsupportedError
from dhenara_async.tools.schema_reading import JsonSchema, expanded_root, is_object_schema
from dhenara_async.tools.schema_rewriting import FORMATS, RANGES, SchemaSubset, rewritten
from dhenara_async.tools.schemas import is_any_object

_STRICT = SchemaSubset(
    "OpenAI's strict mode",
    keeps=RANGES | {"pattern", "format", "minItems", "maxItems"},
    formats=FORMATS,
    closed=True,
    all_required=True,
)


def openai_schema(schema: JsonSchema) -> JsonSchema:
    """Rewrite ``schema`` for OpenAI's strict mode, or for its non-strict mode if strict mode cannot express it.

    Raises:
        UnsupportedError: The root is not an object.
    """
    root = expanded_root(schema)
    if not is_object_schema(root):
        raise UnsupportedError("OpenAI requires a schema whose root is an object, not a choice such as anyOf")
    try:
        return rewritten(schema, _STRICT)
    except UnsupportedError:
        return root if "properties" in root else {**root, "properties": {}}


def asks_for_json(schema: JsonSchema, texts: Iterable[str]) -> bool:
    """Whether OpenAI's format ``json_object`` fits: the schema asks for any object, and the question has the word JSON,
    without which OpenAI refuses that format.

    Args:
        schema: The schema of the answer.
        texts: The texts of the question that OpenAI reads for the word.
    """
    return is_any_object(schema) and any("json" in text.lower() for text in texts)


def fits_openai_strict(schema: JsonSchema) -> bool:
    """Whether ``openai_schema(schema)`` may be sent with ``strict: true``."""
    root = expanded_root(schema)
    try:
        rewritten(schema, _STRICT)
    except UnsupportedError:
        return False
    return is_object_schema(root)
