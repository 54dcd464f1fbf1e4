"""The documents say what is so: the figure of the data flow, the table of pipelines, the layers."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from mulcot_rd.pipeline_registry import STAGES, stage

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGE = ROOT / "src" / "mulcot_rd"


def test_the_figure_of_the_data_flow_is_that_of_the_pipelines():
    script = "import data_flow; assert data_flow.FIGURE.read_text() == data_flow.figure()"
    drawn = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "docs" / "tools", check=False)
    assert drawn.returncode == 0, "draw docs/images/data_flow.svg again: python docs/tools/data_flow.py"


@pytest.mark.parametrize("name", STAGES)
def test_the_table_of_pipelines_names_their_nodes_and_datasets(name):
    row = next(line for line in ARCHITECTURE.splitlines() if line.startswith(f"| `{name}` |"))
    _, _, nodes, reads, writes, _ = row.split("|")
    pipeline = stage(name)
    assert set(re.findall(r"`(\w+)`", nodes)) == {node.name for node in pipeline.nodes}
    assert set(re.findall(r"`(\w+)`", reads)) <= pipeline.all_inputs()
    assert set(re.findall(r"`(\w+)`", writes)) <= pipeline.all_outputs()


def test_a_link_to_what_a_module_lacks_ends_the_build(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "tools")
    hooks, page = importlib.import_module("hooks"), SimpleNamespace(file=SimpleNamespace(src_uri="method.md"))

    def shown(text: str) -> str:
        return hooks.on_page_markdown(text, page, None, None)

    path = "../src/mulcot_rd/reasoning.py"
    assert shown(f"[`parse`]({path})") == "[`parse`](code/src/mulcot_rd/reasoning.md#parse)"
    assert shown("[x](data.md#images)") == "[x](data.md#images)"
    assert shown("[x](../README.md#use-the-student)") == "[x](index.md#use-the-student)"
    for wrong, fault in ((f"[`parsed`]({path})", "no such name"), ("[x](../src/no.py)", "no such file")):
        with pytest.raises(PluginError, match=fault):
            shown(wrong)


def _layers() -> dict[str, int]:
    """Module or package to the height of its layer, from the block in architecture.md."""
    block = re.search(r"## Layers\n.*?```\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert block is not None
    lines = [line.split("  ", 1)[1] for line in block[1].splitlines() if line]
    known = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    return {name: -row for row, line in enumerate(lines) for name in re.findall(r"\w+", line) if name in known}


def _imports(path: Path) -> Iterator[str]:
    """The project's own modules that a file imports, wherever it does, by the first part of their names."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mulcot_rd"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


def test_modules_import_from_their_own_layer_or_below():
    layers = _layers()
    modules = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_") and path.suffix in ("", ".py")}
    assert modules == layers.keys(), "name every module and package once in the layers of docs/architecture.md"
    above = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if (own := path.relative_to(PACKAGE).parts[0].removesuffix(".py")) in layers
        for name in _imports(path)
        if name in layers and layers[name] > layers[own]
    }
    assert not above
