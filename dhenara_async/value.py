"""What users build and save: frozen, refusing what it does not know, and equal to itself after a round trip by JSON."""

from typing import ClassVar

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
