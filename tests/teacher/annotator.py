"""An annotation in a process of its own, for tests that kill it."""

import multiprocessing
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from mulcot_rd.schema import Post
from mulcot_rd.teacher import Annotation, TeacherParameters, annotate

# Processes are forked from one that has the imports and no threads: a start takes milliseconds, not seconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["annotator", "openai", "mulcot_rd.teacher.openai_client"])


def result_files(annotation: Annotation) -> dict[str, str]:
    """The result files as text."""
    named = {
        "reasoning": annotation.reasoning,
        "references": annotation.references,
        "quarantine": annotation.quarantine,
    }
    return {name: "".join(record.model_dump_json() + "\n" for record in records) for name, records in named.items()}


def start_annotation(posts: list[Post], parameters: TeacherParameters, ledger: Path, results: Path) -> BaseProcess:
    """Start annotating; the result files are written to the folder ``results`` at the end."""
    process = _CONTEXT.Process(target=_annotate, args=(posts, parameters, ledger, results), daemon=True)
    process.start()
    return process


def _annotate(posts: list[Post], parameters: TeacherParameters, ledger: Path, results: Path) -> None:
    # The bar's own lock is a semaphore between processes, which a killed one leaves behind.
    tqdm.set_lock(threading.RLock())
    annotation = annotate(posts, [], parameters, ledger)
    results.mkdir()
    for name, text in result_files(annotation).items():
        (results / f"{name}.jsonl").write_text(text, encoding="utf-8")
