"""What users build and save: frozen, refusing what it does not know, and equal to itself after a round trip by JSON."""

from typing import ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Base of every such class. Its schema is built at the first use, so that importing the package stays quick."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        defer_build=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        hide_input_in_errors=True,  # a key or a question in the wrong place is not quoted by the error that says so
    )


Held = TypeVar("Held")


class Aside(Generic[Held]):
    """Something that goes along with a value inside this process and is no part of it: a class, a function.

    It is equal to any other: a value is still equal to itself after a round trip by JSON, where this stays behind.

    Attributes:
        held: What goes along; None = nothing.
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
        return type(self), ()  # a function from inside another cannot be pickled
