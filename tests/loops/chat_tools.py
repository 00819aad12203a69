"""A tool for the command line's tests."""


def shorten(text: str) -> str:
    """Shout a text, in two lines if it is short."""
    return text.upper() if len(text) > 4 else f"{text.upper()}\n(short)"
