"""Generation: what each part of the engine saves, by taking it out.

The assistant that the shipped sample's run trains answers label and reasoning of posts, with the engine as it is and
without each part, in turns. What counts is processor time of one thread, which other work changes little.
``python bench/ablation.py FOLDER`` keeps the trained assistant in FOLDER.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from generation import Evaluation, trained
from mulcot_rd.generation import engine
from mulcot_rd.prompts import TASKS

POSTS, REPETITIONS = 120, 5


def forms(evaluation: Evaluation) -> dict[str, Callable[[], object]]:
    """The engine as it is, and without each of its parts."""
    return {
        "as it is": evaluation.ours,
        "each prompt read whole": partial(_each_prompt_whole, evaluation),
        "one post a prefill": partial(_one_post_a_prefill, evaluation),
        "rows filled again when all are free": partial(_batch_by_batch, evaluation),
        "adapter beside the weights": partial(evaluation.ours, merge=False),
        "`generate` once per prompt": partial(evaluation.as_written, evaluation.parameters.batch_size),
    }


def _each_prompt_whole(evaluation: Evaluation) -> None:
    for task in TASKS:
        replace(evaluation, prompts={post: {task: own[task]} for post, own in evaluation.prompts.items()}).ours()


def _one_post_a_prefill(evaluation: Evaluation) -> None:
    together, engine._PREFILL_POSTS = engine._PREFILL_POSTS, 1
    evaluation.ours()
    engine._PREFILL_POSTS = together


def _batch_by_batch(evaluation: Evaluation) -> None:
    size = evaluation.parameters.batch_size // len(TASKS)
    for start in range(0, len(evaluation.posts), size):
        replace(evaluation, posts=evaluation.posts[start : start + size]).ours()


def main(folder: Path) -> None:
    """Print a row a part: seconds, and how many times as long it takes without it."""
    torch.set_num_threads(1)
    evaluation = trained(folder)
    evaluation = replace(evaluation, posts=evaluation.posts[:POSTS])
    runs = forms(evaluation)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPETITIONS):
        for name, run in runs.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    whole = statistics.median(seconds["as it is"])
    print("| without | seconds | ratio |\n| --- | ---: | ---: |")
    for name, own in seconds.items():
        print(f"| {name} | {statistics.median(own):.2f} | {statistics.median(own) / whole:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
