"""The files of the page: what comes from others is as its list says, and what is ours loads nothing from elsewhere."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

import dhenara_async

_PAGE = Path(dhenara_async.__file__).parent / "web" / "playground" / "page"
_VENDOR = _PAGE / "vendor"
_VENDORED = cast("list[dict[str, Any]]", orjson.loads((_VENDOR / "VENDORED.json").read_bytes()))
_OURS = sorted(path for path in _PAGE.iterdir() if path.suffix in {".js", ".css", ".html"})
_MODULES = [path for path in _OURS if path.suffix == ".js"]


@pytest.mark.parametrize("row", _VENDORED, ids=[row["file"] for row in _VENDORED])
def test_a_vendored_file_is_the_one_of_its_list(row: dict[str, Any]) -> None:
    assert sha256((_VENDOR / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    assert row["version"] in row["source"]
    assert row["name"] in row["source"]
    assert row["licence"]
    text = (_VENDOR / row["licenceText"]).read_text()
    assert "MIT" in text or "Apache License" in text or "Permission is hereby granted" in text


def test_every_vendored_file_is_in_the_list() -> None:
    known = {row["file"] for row in _VENDORED} | {row["licenceText"] for row in _VENDORED} | {"VENDORED.json"}
    assert {path.name for path in _VENDOR.iterdir()} == known


@pytest.mark.parametrize("path", _MODULES, ids=[path.name for path in _MODULES])
def test_a_module_imports_files_of_the_page_alone(path: Path) -> None:
    for name in re.findall(r'\bfrom "([^"]+)"|\bimport "([^"]+)"|\bimport\("([^"]+)"\)', path.read_text()):
        target = "".join(name)
        assert target.startswith("./"), f"{path.name} imports {target}"
        assert (_PAGE / target).is_file(), f"{path.name} imports {target}, which is not there"


@pytest.mark.parametrize("path", _OURS, ids=[path.name for path in _OURS])
def test_no_file_assigns_html_or_names_another_host(path: Path) -> None:
    source = path.read_text()
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "dangerouslySetInnerHTML",
        "document.write",
        "eval(",
        "new Function",
        "style=",
        "onclick=",
        "http://",
    ):
        assert forbidden not in source, f"{path.name} has {forbidden}"
    assert not re.findall(r"https://\w", source)
