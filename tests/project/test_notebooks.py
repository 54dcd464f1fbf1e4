"""Every cell of every notebook, executed on a finished small run."""

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
    "results": ("arch4-tiny-full", "tiny model, random initial weights", "image/png", "McNemar"),
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
    shown = nbformat.writes(done)
    for words in SHOWN[path.stem]:
        assert words in shown
