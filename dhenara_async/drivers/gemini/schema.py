"""The subset of JSON schema that Gemini's structured output and function declarations support.

Source: https://ai.google.dev/gemini-api/docs/structured-output (read 2026-11-22)
"""

from dhenara_async.tools.schema_reading import JsonSchema
from dhenara_async.tools.schema_rewriting import SchemaSubset, rewritten

_SUBSET = SchemaSubset(
    "Gemini",
    keeps=frozenset({"minimum", "maximum", "format", "minItems", "maxItems"}),
    formats=None,
    closed=False,
    constants=False,
    titled=False,
    lenient=True,
)


def gemini_schema(schema: JsonSchema) -> JsonSchema:
    """Rewrite ``schema`` for Gemini's ``responseJsonSchema`` and ``parametersJsonSchema``.

    Raises:
        UnsupportedError: It has a reference to a missing definition.
    """
    return rewritten(schema, _SUBSET)
