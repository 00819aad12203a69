"""The subset of JSON schema that Anthropic's structured output and strict tools support.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (read 2026-11-22)
"""

from dhenara_async.tools.schema_reading import JsonSchema
from dhenara_async.tools.schema_rewriting import FORMATS, SchemaSubset, rewritten

_SUBSET = SchemaSubset(
    "Anthropic's structured output",
    keeps=frozenset({"format", "minItems"}),
    formats=FORMATS | {"uri"},
    closed=True,
    only_nonempty=True,
    recursive=False,
)


def anthropic_schema(schema: JsonSchema) -> JsonSchema:
    """Rewrite ``schema`` for Anthropic's ``output_config.format`` and strict tools.

    Raises:
        UnsupportedError: It contains itself, an object with free keys, a value of any type, or logic (``not``, ``if``).
    """
    return rewritten(schema, _SUBSET)
