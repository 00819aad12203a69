"""Events as lines of JSON, and back: the format of the journal's rows.

Nothing is lost: unlike ``event_to_json``, which leaves out empty fields, a line has every field. Deltas, of which there
is one for every token, take a short way: those of one part that follow each other share a line.
"""

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final, cast, get_args

import orjson
from pydantic import BaseModel, TypeAdapter

from dhenara_async.events import ReasoningDelta, StreamEvent, TextDelta
from dhenara_async.framing.lenient_json import dumps

_TYPE: Final = re.compile(r'\{"type":"(\w+)"')
_KINDS: Final[dict[str, type[Any]]] = {kind.type: kind for kind in get_args(StreamEvent)}


def event_lines(events: Iterable[StreamEvent]) -> str:
    """Return events as text."""
    lines: list[str] = []
    texts: list[str] = []  # of the deltas that share the next line
    kind: type[TextDelta | ReasoningDelta] | None = None
    part_id = -1
    for event in events:
        if event.__class__ is kind and event.part_id == part_id:  # type: ignore[union-attr] - ``kind`` is a delta's
            texts.append(event.text)  # type: ignore[union-attr] - as above
            continue
        _end_run(lines, kind, part_id, texts)
        if isinstance(event, TextDelta | ReasoningDelta):
            kind, part_id, texts = event.__class__, event.part_id, [event.text]
        else:
            kind = None
            lines.append(f'{{"type":"{event.type}"{"".join(_fields(event))}}}')
    _end_run(lines, kind, part_id, texts)
    return "\n".join(lines)


def events_of(lines: str) -> list[StreamEvent]:
    """Return the events that ``event_lines`` wrote; events of kinds that this version does not know are left out.

    Raises:
        ValueError: A line is not an event.
    """
    events: list[StreamEvent] = []
    for line in lines.split("\n") if lines else ():
        found = _TYPE.match(line)
        if found is None:
            raise ValueError("a line of the journal is not an event")
        kind = _KINDS.get(found[1])
        if kind is TextDelta or kind is ReasoningDelta:
            values = orjson.loads(line)
            part_id: int = values["part_id"]
            events += [kind(part_id, text) for text in values["texts"]]
        elif kind is not None:
            events.append(_adapter(kind).validate_json(line))
    return events


def _end_run(lines: list[str], kind: type[TextDelta | ReasoningDelta] | None, part_id: int, texts: list[str]) -> None:
    if kind is not None:
        lines.append(dumps({"type": kind.type, "part_id": part_id, "texts": texts}).decode())


def _fields(value: Any) -> Iterable[str]:
    return (f',"{field.name}":{_json(getattr(value, field.name))}' for field in fields(value))


def _json(value: object) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()  # the models write their own bytes and numbers
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_json, cast('Iterable[object]', value)))}]"
    if is_dataclass(value):
        return f"{{{''.join(_fields(value))[1:]}}}"
    return dumps(value).decode()


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[StreamEvent]:
    return cast("TypeAdapter[StreamEvent]", TypeAdapter(kind))
