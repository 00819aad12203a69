"""The base class of all public data classes: frozen, strict about unknown fields, and unchanged by a JSON round trip.

Representations, of these classes and of others, are one line of at most 200 characters, whatever a value holds.

The process-wide caches of the package, all bounded::

    frozen._known              field defaults per model class             one entry per class
    frozen._names              sets of field names                        one entry per kind of ``unchecked`` call
    drivers/parts._served      origins with the served model              cleared at 1 000 entries
    framing/sse._beginnings    beginnings of data lines per event name    cleared at 1 000 entries
    models/families            capabilities per model id                  the 1 024 most recently used
    hosts/names                endpoints per short name                   the 256 most recently used

The cached fold of a history belongs to its newest ``ConversationNode``, the cached rules to their ``AIModelEndpoint``
(``Memo``); both die with their owner.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Self, TypeVar, cast
from weakref import ref

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from dhenara_async.errors import ConfigurationError
from dhenara_async.framing.lenient_json import dumps

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Given = ParamSpec("Given")
Made = TypeVar("Made")

_new = object.__new__
_set_values, _set_names, _set_extra, _set_private = (  # around frozen
    vars(BaseModel)[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


LONGEST = 200
_ROOM = 60  # for one value
_BRIEF = (str, int, float, bool, type(None))


class FrozenModel(BaseModel):
    """Base of all public data classes. The schema is built on first use, which keeps the import fast."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        defer_build=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        hide_input_in_errors=True,  # validation errors must not quote keys or prompts
    )

    if not TYPE_CHECKING:  # type checkers see the fields

        def __init__(self, /, **given: object) -> None:
            """Build a value; a mistake is a ``ConfigurationError``, with pydantic's own error as its cause.

            Data that is read (``model_validate``, ``model_validate_json``) raises pydantic's error as it is.
            """
            __tracebackhide__ = True
            try:
                self.__pydantic_validator__.validate_python(given, self_instance=self)
            except ValidationError as exc:
                raise ConfigurationError(_mistakes(type(self), exc)) from exc

        # without this, pydantic also calls __init__ for values inside of other values
        __init__.__pydantic_base_init__ = True

    def __repr__(self) -> str:
        """Return one short line, without the fields that have their defaults; ``model_dump`` has everything."""
        plain = (_known.get(type(self)) or _defaults(type(self)))[0]
        told = (
            (name or "", value)
            for name, value in self.__repr_args__()
            if name is not None and not (value is None or plain.get(name) == value)
        )
        return short_repr(type(self).__name__, told)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some values changed and validated; pydantic's own method does not validate.

        Args:
            update: New values by field.
            deep: Whether the values are copied too.

        Raises:
            ConfigurationError: A value is invalid, or there is no such field.
        """
        made = super().model_copy(deep=deep)
        if update:
            try:
                checked = self.__pydantic_validator__.validate_python({**made.__dict__, **update})
            except ValidationError as exc:
                raise ConfigurationError(_mistakes(type(self), exc)) from exc
            _set_values(made, checked.__dict__)
            _set_names(made, {*made.__pydantic_fields_set__, *update})
        return made

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """Dump like pydantic, but write lone surrogates, at which pydantic fails, as U+FFFD."""
        try:
            return super().model_dump_json(indent=indent, **options)
        except PydanticSerializationError:
            whole = dumps(self.model_dump(mode="json", **options)).decode()
            return whole if indent is None else json.dumps(json.loads(whole), ensure_ascii=False, indent=indent)

    def changed(self, **values: object) -> Self:
        """Return a copy with some values changed, without validation; only for values built by this library."""
        made = _new(type(self))
        _set_values(made, {**self.__dict__, **values})
        _set_names(made, {*self.__pydantic_fields_set__, *values})
        _set_extra(made, None)
        private = self.__pydantic_private__
        _set_private(made, {**private} if private else None)
        return made

    if TYPE_CHECKING:

        @classmethod
        def unchecked(cls: Callable[Given, Made], *args: Given.args, **given: Given.kwargs) -> Made:
            """Build an instance without validation; type checkers see the constructor's arguments here."""
            ...

    else:

        @classmethod
        def unchecked(cls, **given: object) -> Self:
            """Build an instance without validation; only for values built by this library from validated ones.

            A call builds a dozen instances; validating them would cost more than encoding and decoding the call.
            pydantic's own ``model_construct`` is slower, because it inspects every default factory each time.

            Args:
                given: The constructor's arguments; only a type checker looks at their types. If all fields are given,
                    they must be in field order; that case is the fastest.
            """
            made = _new(cls)
            plain, every, factories, private = _known.get(cls) or _defaults(cls)
            if len(given) == len(plain):
                _set_values(made, given)
                _set_names(made, every)
            else:
                values = plain | given
                for name, factory in factories:
                    if name not in given:
                        values[name] = factory()
                _set_values(made, values)
                names = tuple(given)
                _set_names(made, _names.get(names) or _names.setdefault(names, set(names)))
            _set_extra(made, None)
            _set_private(made, private.copy() if private else None)
            return made


def _mistakes(cls: type[BaseModel], error: ValidationError) -> str:
    """Return all mistakes of a pydantic error in one sentence, without the values."""
    from difflib import get_close_matches

    name, found = cls.__name__, list[str]()
    for mistake in error.errors(include_input=False, include_url=False):
        place = ".".join(map(str, mistake["loc"]))
        if mistake["type"] == "extra_forbidden" and len(mistake["loc"]) == 1:
            close = get_close_matches(place, cls.model_fields, n=2, cutoff=0.5)
            found.append(f"there is no {place}" + (f" (similar: {', '.join(close)})" if close else ""))
        elif mistake["type"] == "missing":
            found.append(f"{place} is missing")
        else:
            words = mistake["msg"].removeprefix("Value error, ")
            found.append(f"{place}: {words[:1].lower()}{words[1:]}" if place else words)
    return f"{name}: {'; '.join(found)}"


_Factories = tuple[tuple[str, Callable[[], object]], ...]


_Defaults = tuple[dict[str, object], set[str], _Factories, dict[str, object]]
_known: dict[type[BaseModel], _Defaults] = {}
# pydantic stores the names of the given fields with every instance. Instances with the same names share one set: frozen
# instances never change it, and copies have their own.
_names: dict[tuple[str, ...], set[str]] = {}


def _defaults(cls: type[BaseModel]) -> _Defaults:
    """Return all fields in order with their defaults (None if required), their names, the default factories, and the
    defaults of the private attributes."""
    plain: dict[str, object] = {}
    made: list[tuple[str, Callable[[], object]]] = []
    for name, field in cls.model_fields.items():
        plain[name] = None if field.is_required() else field.default
        if field.default_factory is not None:  # no factory of ours takes the preceding values
            made.append((name, cast("Callable[[], object]", field.default_factory)))
    private: dict[str, object] = {name: attribute.default for name, attribute in cls.__private_attributes__.items()}
    known = _known[cls] = (plain, set(plain), tuple(made), private)
    return known


Held = TypeVar("Held")


class Aside(Generic[Held]):
    """An object carried by a model in a private attribute, without being part of its value: a class, a function.

    JSON and pickle leave it behind. All instances are equal, so that a model is equal to itself after a round trip.

    Attributes:
        held: The carried object; None = none.
    """

    __slots__ = ("held",)

    def __init__(self, held: Held | None = None) -> None:
        self.held: Held | None = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Aside)

    def __hash__(self) -> int:
        return hash(Aside)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()  # a local function cannot be pickled


class Memo(Aside[Held]):
    """A cached result for one object, carried by that object; it dies with the object, and copies ignore it.

    Args:
        owner: The object that the result belongs to.
        held: The result.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: object = None, held: Held | None = None) -> None:
        super().__init__(held)
        self._owner = None if owner is None else ref(owner)

    def of(self, owner: object) -> Held | None:
        """Return the result if it was computed for this very object; None if it belongs to the original of a copy."""
        return self.held if self._owner is not None and self._owner() is owner else None


def short_repr(name: str, values: Iterable[tuple[str, object]]) -> str:
    """Return ``name(field=value, …)``; the fields that do not fit any more are replaced by ``…``.

    Args:
        name: The name of the class.
        values: The fields by name, in order, without those that are not worth a mention.
    """
    text = f"{name}("
    for index, (field, value) in enumerate(values):
        piece = f"{', ' if index else ''}{field}={_short(value)}"
        if len(text) + len(piece) > LONGEST - len(", …)"):
            return f"{text}{', ' if index else ''}…)"
        text += piece
    return f"{text})"


def shortened(text: str) -> str:
    """Return ``text``, cut where it is longer than a representation may be."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}…)"


class ShortRepr:
    """Gives a dataclass, made with ``repr=False``, the short representation."""

    __slots__ = ()

    def __repr__(self) -> str:
        told = ((each.name, getattr(self, each.name)) for each in fields(cast("DataclassInstance", self)) if each.repr)
        return short_repr(type(self).__name__, told)


def _short(value: object) -> str:
    """Return the representation of one value, which never visits all items of a large one."""
    if isinstance(value, str):
        whole = repr(value[:_ROOM])
        return whole if len(value) <= _ROOM and len(whole) <= _ROOM + 2 else f"{value[: _ROOM - 20]!r}…"
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping | tuple | list | set | frozenset):
        return _short_collection(cast("Collection[object]", value), "key" if isinstance(value, Mapping) else "item")
    text = repr(value)
    return text if len(text) <= _ROOM else f"{type(value).__name__}(…)"


def _short_collection(value: Collection[object], kind: str) -> str:
    if kind == "item" and len(value) <= 3 and all(isinstance(item, _BRIEF) for item in value):
        text = repr(value)
        if len(text) <= _ROOM:
            return text
    return f"<{len(value)} {kind}{'' if len(value) == 1 else 's'}>"
