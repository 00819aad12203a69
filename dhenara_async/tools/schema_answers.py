"""Reads answers that follow a rewritten schema, and describes those that do not."""

from collections.abc import Iterator, Sequence
from typing import cast

from pydantic import JsonValue, ValidationError

from dhenara_async.framing.lenient_json import dumps, read
from dhenara_async.tools.schema_reading import JsonSchema, as_schema, takes_null, target_of_reference, texts

_MOST_FAULTS = 8
_MOST_STEPS = 20
_LONGEST_FAULT = 500


def restored(schema: JsonSchema, value: JsonValue) -> JsonValue:
    """Remove the nulls that stand for absent optional members which ``schema`` does not allow to be null.

    Returns ``value`` itself if there are none.
    """
    try:
        return _restored([schema], value, schema)
    except RecursionError:  # a degenerate answer; no real schema is a thousand levels deep
        return value


def _restored(schemas: Sequence[JsonSchema], value: JsonValue, root: JsonSchema) -> JsonValue:
    if isinstance(value, list):
        items = [as_schema(each.get("items")) for schema in schemas for each in _branches(schema, root)]
        elements = [_restored([item for item in items if item], element, root) for element in value]
        return elements if any(new is not old for new, old in zip(elements, value, strict=True)) else value
    if not isinstance(value, dict):
        return value
    branches = [each for schema in schemas for each in _branches(schema, root)]
    kept: JsonSchema = {}
    for name, member in value.items():
        declared = [
            as_schema(each.get("properties"))[name] for each in branches if name in as_schema(each.get("properties"))
        ]
        needed = any(name in texts(each.get("required")) for each in branches)
        if member is None and declared and not needed and not any(takes_null(each, root) for each in declared):
            continue
        kept[name] = _restored([each for each in declared if isinstance(each, dict)], member, root)
    same = len(kept) == len(value) and all(kept[name] is value[name] for name in kept)
    return value if same else kept


def _branches(schema: JsonSchema, root: JsonSchema, seen: Sequence[str] = ()) -> Iterator[JsonSchema]:
    """Yield ``schema`` and all schemas that it may resolve to by reference or choice."""
    yield schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        yield from _branches(target_of_reference(root, reference), root, (*seen, reference))
    for key in ("anyOf", "oneOf", "allOf"):
        choices = schema.get(key)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                yield from _branches(choice, root, seen)


def without_placeholders(schema: JsonSchema, text: str) -> str | None:
    """Apply ``restored`` to JSON text; None if that changes nothing or the text is not JSON."""
    try:
        value = cast("JsonValue", read(text))
    except ValueError:
        return None
    lean = restored(schema, value)
    try:
        return None if lean is value else dumps(lean).decode()
    except TypeError:  # the value is nested too deeply to be written
        return None


def validation_words(exc: ValidationError) -> str:
    """Describe validation errors and their places in one line, without the input and with its keys shortened."""
    faults = exc.errors(include_input=False, include_url=False, include_context=False)
    words = [f"{_place(fault['loc'])}: {shortened(fault['msg'], _LONGEST_FAULT)}" for fault in faults[:_MOST_FAULTS]]
    more = len(faults) - len(words)
    return "; ".join(words) + (f"; and {more} more" if more else "")


def _place(steps: Sequence[int | str]) -> str:
    return ".".join(shortened(str(step)) for step in steps[:_MOST_STEPS]) or "it"


def shortened(text: str, most: int = 100) -> str:
    """Return ``text``, shortened to ``most`` characters with an ellipsis at its end if it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
