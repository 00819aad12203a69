"""Settings that the command line keeps: the default model and the keys, in files for the user alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import orjson
import typer

from dhenara_async.errors import ConfigurationError, MissingExtraError

_FOLDER_VARIABLE = "DHENARA_ASYNC_HOME"
_MODEL_VARIABLE = "DHENARA_ASYNC_MODEL"
_KEYRING_SERVICE = "dhenara-async"
_OTHERS = 0o077  # permission bits of the group and of everybody else


def folder() -> Path:
    """Return the folder of the settings: ``DHENARA_ASYNC_HOME``, else the system's usual place for an application."""
    return Path(os.environ.get(_FOLDER_VARIABLE) or typer.get_app_dir("dhenara-async"))


def private_file(name: str) -> Path:
    """Return the path of a file in the folder, created with mode 600 if it is not there.

    Raises:
        ConfigurationError: The file cannot be created.
    """
    path = folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}") from None
    return path


def kept_model() -> str | None:
    """Return the default model: ``DHENARA_ASYNC_MODEL``, else the kept one; None if there is neither."""
    return os.environ.get(_MODEL_VARIABLE, "").strip() or _read("settings.json").get("model") or None


def keep_model(name: str) -> None:
    """Keep ``name`` as the default model."""
    _write("settings.json", {**_read("settings.json"), "model": name})


class Keys:
    """The kept API keys by provider, in a file with mode 600 or in the system's keyring.

    The file also says which providers have their key in the keyring, so that a keyring is opened for those only.
    """

    _FILE = "keys.json"

    def places(self) -> Mapping[str, str]:
        """Return where the key of each provider is kept: ``file`` or ``keyring``."""
        return {provider: "keyring" if entry == "" else "file" for provider, entry in self._entries().items()}

    def get(self, provider: str) -> str | None:
        """Return the key of a provider; None if none is kept."""
        entry = self._entries().get(provider)
        return self._keyring_get(provider) if entry == "" else entry

    def keep(self, provider: str, key: str, *, in_keyring: bool) -> None:
        """Keep a key, in place of an earlier one."""
        if in_keyring:
            _keyring_call("set_password", provider, key)
        self._save({**self._entries(), provider: "" if in_keyring else key})

    def forget(self, provider: str) -> bool:
        """Remove a key; False if none was kept."""
        entries = dict(self._entries())
        entry = entries.pop(provider, None)
        if entry is None:
            return False
        if entry == "":
            _keyring_call("delete_password", provider)
        self._save(entries)
        return True

    def _entries(self) -> Mapping[str, str]:
        path = folder() / self._FILE
        if os.name == "posix" and path.exists() and path.stat().st_mode & _OTHERS:
            raise ConfigurationError(f"other users can read the keys in {path}; run: chmod 600 '{path}'")
        return _read(self._FILE)

    def _save(self, entries: Mapping[str, str]) -> None:
        _write(self._FILE, entries)

    def _keyring_get(self, provider: str) -> str | None:
        return _keyring_call("get_password", provider)


def _keyring_call(name: str, provider: str, *values: str) -> str | None:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ModuleNotFoundError:
        raise MissingExtraError("the system's keyring", extra="keyring") from None
    try:
        return getattr(keyring, name)(_KEYRING_SERVICE, provider, *values)
    except KeyringError as exc:
        # the name of the error only: the text of a foreign backend may repeat its arguments
        raise ConfigurationError(
            f"the system's keyring does not answer ({type(exc).__name__}); without --keyring, a key is kept in a file"
        ) from None


def _read(name: str) -> dict[str, str]:
    path = folder() / name
    try:
        held: object = orjson.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError):
        held = None
    if not isinstance(held, dict):
        raise ConfigurationError(f"{path} cannot be read; correct or remove it")
    return cast("dict[str, str]", held)


def _write(name: str, values: Mapping[str, str]) -> None:
    path = private_file(name)
    # a file beside it takes its place whole: a program that ends in the middle must not lose the other keys
    written = private_file(f"{name}.new")
    try:
        written.write_bytes(orjson.dumps(values, option=orjson.OPT_INDENT_2))
        written.replace(path)
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}") from None
