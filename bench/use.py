"""A student in use against the evaluation of the same student on the same posts, in one process of one thread.

The posts are those of the sample, repeated under other ids up to ``--posts``. Evaluation is what its pipeline does with
test posts: answers to both prompts with retries, and the scores of labels; loading the model is part of it, as it is of
``kedro predict``. A post alone is compared with an evaluation at batch size 1. Times are seconds of the processor:
other work on the machine counts little.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pandas as pd
import torch

from mulcot_rd import SentimentReasoner
from mulcot_rd.distributed import ClusterParameters
from mulcot_rd.generation import AnsweringJob, GenerationParameters, kept_answers
from mulcot_rd.generation.predict import predictions
from mulcot_rd.ingest import IngestParameters, read_posts
from mulcot_rd.prediction.model import ModelInUse, model_in_use
from mulcot_rd.prediction.predict import PredictionParameters, judge_posts
from mulcot_rd.prediction.verdicts_file import write_verdicts
from mulcot_rd.schema import Post
from settings import ROOT

ONE = ClusterParameters(workers=1, cpus_per_worker=1)


def evaluate(model: ModelInUse, posts: Sequence[Post], generation: GenerationParameters, folder: Path) -> list[str]:
    """What the evaluation does with test posts; returns the labels."""
    job = AnsweringJob(
        model=model.stored, posts=posts, tasks=model.tasks, parameters=generation, seed=42, folder=folder, scored=posts
    )
    given, _ = job.ask(ONE)
    return [str(record.prediction) for record in predictions(posts, kept_answers(given, posts, model.tasks))]


def in_turns(forms: dict[str, Callable[[], list[str]]], repetitions: int) -> dict[str, float]:
    """Median processor seconds of each form, run in turns after one untimed round in which all must say the same."""
    said = {name: form() for name, form in forms.items()}
    first = next(iter(said.values()))
    if any(labels != first for labels in said.values()):
        raise SystemExit(f"the forms give different labels: {said}")
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repetitions):
        for name, form in forms.items():
            started = time.process_time()
            form()
            times[name].append(time.process_time() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    """Print the rates, and their ratios to the evaluation's."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--student", type=Path, default=ROOT / "data/06_models/sample/arch4-tiny-full/student")
    arguments.add_argument("--posts", type=int, default=1000)
    arguments.add_argument("--alone", type=int, default=60, help="posts that are judged one by one")
    arguments.add_argument("--repetitions", type=int, default=3)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    sample = read_posts("sample", ROOT / "data/01_raw", IngestParameters(), 42).posts
    posts = [sample[n % len(sample)].model_copy(update={"id": str(n)}) for n in range(options.posts)]
    model, generation = model_in_use(options.student), GenerationParameters()
    reasoner = SentimentReasoner.load(options.student)
    given = [{"text": post.text, "image": post.image, "aspect": post.aspect} for post in posts]
    with tempfile.TemporaryDirectory() as scratch:
        fresh = (Path(scratch, str(number)) for number in count())
        table = Path(scratch, "posts.csv")
        pd.DataFrame([{"id": post.id, **one} for post, one in zip(posts, given, strict=True)]).to_csv(
            table, index=False
        )

        def command() -> list[str]:
            output = next(fresh).with_suffix(".jsonl")
            rows = judge_posts(table, options.student, output, PredictionParameters(cluster=ONE))
            write_verdicts(rows, output)
            return [str(row["label"]) for row in rows]

        many = {
            "evaluation": lambda: evaluate(model, posts, generation, next(fresh)),
            "SentimentReasoner.predict_many": lambda: [str(verdict.label) for verdict in reasoner.predict_many(given)],
            "kedro predict": command,
        }
        single = generation.model_copy(update={"batch_size": 1})
        alone = {
            "evaluation, batch size 1": lambda: evaluate(model, posts[: options.alone], single, next(fresh)),
            "SentimentReasoner.predict": lambda: [str(reasoner.predict(**one).label) for one in given[: options.alone]],
        }
        print("| form | posts | posts a second | ratio |\n| --- | ---: | ---: | ---: |")
        for forms, number in ((many, len(posts)), (alone, options.alone)):
            taken = in_turns(forms, options.repetitions)
            reference = next(iter(taken.values()))
            for name, seconds in taken.items():
                print(f"| {name} | {number} | {number / seconds:.1f} | {reference / seconds:.3f} |", flush=True)


if __name__ == "__main__":
    main()
