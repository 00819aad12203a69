"""Events as lines of JSON, and back: the format of the journal's rows.

Nothing is lost: unlike ``event_to_json``, which leaves out empty fields, a line has every field. Deltas, of which there
is one for every token, take a short way: those of one part that follow each other share a line.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final, cast, get_args

import orjson
from pydantic import BaseModel, TypeAdapter

from dhenara_async.events import ReasoningDelta, StreamEvent, TextDelta
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.stores.event_list import DeltaRun, EventList, pieces_of

_TYPE: Final = re.compile(r'\{"type":"(\w+)"')
_KINDS: Final[dict[str, type[Any]]] = {kind.type: kind for kind in get_args(StreamEvent)}


def event_lines(events: Sequence[StreamEvent]) -> str:
    """Return events as text."""
    listed = events if isinstance(events, EventList | DeltaRun) else EventList(events)
    return "\n".join(map(_line, pieces_of(listed)))


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


def _line(piece: StreamEvent | DeltaRun) -> str:
    if isinstance(piece, DeltaRun):
        return _delta_line(piece.kind, piece.part_id, piece.texts)
    if isinstance(piece, TextDelta | ReasoningDelta):
        return _delta_line(piece.__class__, piece.part_id, [piece.text])
    return f'{{"type":"{piece.type}"{"".join(_fields(piece))}}}'


def _delta_line(kind: type[TextDelta | ReasoningDelta], part_id: int, texts: list[str]) -> str:
    return dumps({"type": kind.type, "part_id": part_id, "texts": texts}).decode()


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
