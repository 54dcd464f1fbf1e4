"""Every cell of every notebook, executed on a finished small run."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.commands import ROOT

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What each must show when it has run.
SHOWN = {
    "explore_dataset": ("sample: 600 posts", "data:image/jpeg;base64,", "image/png"),
    "read_reasonings": (
        "12 of the 120 test posts",
        "data:image/jpeg;base64,",
        "Final_conclusion",
        "student, label prompt",
        "conclusion_entails",
    ),
    "error_analysis": (
        "12 test posts, 5 answers a post",
        "teacher (stage one)",
        "posts are wrong in every answer",
        "data:image/jpeg;base64,",
        "student, reasoning",
    ),
    "results": (
        "arch4-tiny-full",
        "tiny model, random initial weights",
        "image/png",
        "McNemar",
        r"\toprule",
        r"\textbf{",
        "macro_f1 interval",
    ),
}


def test_there_is_a_notebook_for_each_that_is_tested():
    assert {path.stem for path in NOTEBOOKS} == set(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_finished_run_and_is_kept_without_outputs(path: Path, finished, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    folder = finished / "notebooks"
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    resources = {"metadata": {"path": str(folder)}}
    done = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = "\n".join(text for output in outputs for text in _texts(output))
    for words in SHOWN[path.stem]:
        assert words in shown
    # What pandas prints where a cell is empty, and what logs and warnings begin with.
    assert not re.findall(r"\b(?:nan|NaN|NaT|INFO|WARNING|\w+Warning)\b", re.sub(r"base64,\S+|image/png\S*", "", shown))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_first_what_it_needs(path: Path):
    assert "**Needs** `make run`" in nbformat.read(path, as_version=4).cells[0].source


def _texts(output: nbformat.NotebookNode) -> list[str]:
    """What an output shows: a stream's text, or the names of its kinds and the text among them."""
    if output.output_type == "stream":
        return [output.text]
    return [*output.data, *(text for kind, text in output.data.items() if kind.startswith("text/"))]
