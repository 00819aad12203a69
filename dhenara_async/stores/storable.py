"""Which texts a database can keep."""

from dhenara_async.errors import ConfigurationError


def storable(text: str) -> bool:
    """Whether a database can keep ``text``: without NUL, and without lone surrogates, which have no UTF-8."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def demand_storable(text: str, name: str) -> None:
    """Refuse a text that no database can keep.

    Raises:
        ConfigurationError: It has such a character; the message names it by ``name``.
    """
    if not storable(text):
        raise ConfigurationError(f"{name} has a NUL or half a surrogate pair, which no database can keep")
