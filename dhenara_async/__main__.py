"""``python -m dhenara_async`` and the ``dhenara-async`` command: starts ``cli``, or says which extra it needs."""

import sys

_EXTRA = frozenset({"prompt_toolkit", "rich", "typer"})
_INTERRUPTED = 130  # what shells expect of a program that Ctrl-C has ended


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from dhenara_async.cli import application

        application()
    except KeyboardInterrupt:  # before a command could take it, while modules are loaded
        sys.exit(_INTERRUPTED)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write("the command line needs the extra: pip install 'dhenara-async[cli]'\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
