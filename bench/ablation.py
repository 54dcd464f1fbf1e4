"""Generation: what each part of the engine saves, by taking it out.

The assistant that the shipped sample's run trains answers label and reasoning of posts in one process, as it is and
without each part, in turns. ``python bench/ablation.py FOLDER`` keeps the trained assistant in FOLDER.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from generation import Evaluation, trained
from mulcot_rd.generation import engine
from mulcot_rd.prompts import TASKS
from timing import alternate

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
    together, engine._READ_TOGETHER = engine._READ_TOGETHER, 1
    evaluation.ours()
    engine._READ_TOGETHER = together


def _batch_by_batch(evaluation: Evaluation) -> None:
    size = evaluation.parameters.batch_size // len(TASKS)
    for start in range(0, len(evaluation.posts), size):
        replace(evaluation, posts=evaluation.posts[start : start + size]).ours()


def main(folder: Path) -> None:
    """Print a row a part: seconds, and how many times as long it takes without it."""
    evaluation = trained(folder)
    evaluation = replace(evaluation, posts=evaluation.posts[:POSTS])
    runs = forms(evaluation)
    times = alternate(list(runs.values()), REPETITIONS)
    print("| without | seconds | ratio |\n| --- | ---: | ---: |")
    for name, seconds in zip(runs, times, strict=True):
        print(f"| {name} | {seconds:.2f} | {seconds / times[0]:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
