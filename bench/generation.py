"""Evaluation: posts a second, label and reasoning of each post, greedy, without retries.

At tiny scale the assistant is trained on the shipped sample by the project's own pipelines, so that its answers end by
themselves and differ in length; it answers 480 posts of another sample. At real_vocab scale the weights are random and
answers would never end: the end of a turn is out of reach for both forms, every label answer has 5 tokens and every
reasoning 200. Both forms run in one process, as an evaluation does, and texts are compared post by post.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from as_written import written_answers
from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.demo.sample_generator.write import write_sample
from mulcot_rd.generation.engine import write_answers
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.ingest import IngestParameters, read_posts
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.models.loaded import load_model
from mulcot_rd.models.lora import TrainedModel, merged_adapter
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.schema import Post
from mulcot_rd.versions import newest
from settings import ROOT, Setting, random_example
from timing import alternate, row

LIMITS: dict[str, dict[Task, int]] = {
    "tiny": {"label": 16, "reasoning": 256},
    "real_vocab": {"label": 5, "reasoning": 200},
}
# The authors' code answers 24 prompts at once; 60 is what suits the tiny models on a processor.
BATCHES = {"tiny": (24, 60), "real_vocab": (24,)}
REAL_POSTS = 24
TINY_POSTS, TINY_POSTS_SEED = 480, 7


@dataclass(frozen=True)
class Evaluation:
    """What is to be answered at one scale.

    Attributes:
        model: The model with its adapter.
        encoder: Makes its inputs.
        posts: The posts.
        prompts: Post id to its prompts.
        limits: Longest answer by task, in tokens.
        parameters: Of the engine.
    """

    model: TrainedModel
    encoder: InputEncoder
    posts: list[Post]
    prompts: dict[str, dict[Task, Prompt]]
    limits: dict[Task, int]
    parameters: GenerationParameters

    def ours(self, *, merge: bool = True) -> dict[tuple[Task, str], str]:
        """The texts by the engine in this process, the adapter merged or beside the weights."""
        ordered = sorted(self.posts, key=lambda post: len(next(iter(self.prompts[post.id].values())).prefix))
        with merged_adapter(self.model) if merge else nullcontext():
            base = base_model(self.model)
            answers = write_answers(base, self.encoder, ordered, self.prompts, self.parameters, seed=1)
            return {(answer.task, answer.post_id): answer.text for answer in answers}

    def as_written(self, batch_size: int) -> dict[tuple[Task, str], str]:
        """The texts by ``generate``, once per prompt."""
        images = [post.image for post in self.posts]
        texts = {}
        for task in TASKS:
            prompts = [self.prompts[post.id][task] for post in self.posts]
            answers = written_answers(self.model, self.encoder, prompts, images, batch_size, self.limits[task])
            for post, ids in zip(self.posts, answers, strict=True):
                texts[task, post.id] = self.encoder.answer(ids, task)
        return texts


def rows(scratch: Path, repetitions: int) -> Iterator[dict]:
    """Posts a second at both scales, and the share of posts whose texts are the same."""
    for scale, prepare in (("tiny", trained), ("real_vocab", _random)):
        evaluation = prepare(scratch / f"generation_{scale}")
        for batch_size in BATCHES[scale]:
            name = f"as written: generate once per prompt, batch {batch_size}"

            plain = partial(evaluation.as_written, batch_size)
            same = _same(evaluation.posts, evaluation.ours(), plain())
            fast, slow = alternate([evaluation.ours, plain], repetitions)
            count = len(evaluation.posts)
            yield row("evaluation_posts_per_s", scale, count / fast, count / slow, name, "posts/s", repetitions)
            yield row("evaluation_same_texts", scale, same, 1.0, name, "share of posts", 1)


def _same(posts: Sequence[Post], ours: dict, plain: dict) -> float:
    return sum(all(ours[task, post.id] == plain[task, post.id] for task in TASKS) for post in posts) / len(posts)


def _parameters(scale: str, **more: object) -> GenerationParameters:
    limits = LIMITS[scale]
    return GenerationParameters(
        max_new_tokens=limits["reasoning"], max_label_tokens=limits["label"], max_retries=0, **more
    )


def trained(folder: Path) -> Evaluation:
    """The tiny assistant, trained on the sample, and posts that it has not seen."""
    project = folder / "project"
    adapter = project / "data/06_models/sample/arch4-tiny-full/assistant"
    if not (newest(adapter) / "manifest.json").exists():
        _train(project)
    parameters = ProjectConfigLoader(conf_source=str(ROOT / "conf"), base_env="base", default_run_env="base")[
        "parameters"
    ]
    role = load_model(adapter)
    write_sample(folder / "posts" / "sample", TINY_POSTS_SEED)
    posts = read_posts("sample", folder / "posts", IngestParameters(), 42).posts[:TINY_POSTS]
    return Evaluation(
        model=role.model,
        encoder=role.encoder,
        posts=posts,
        prompts=_prompts(posts, role.encoder.prompt),
        limits=LIMITS["tiny"],
        parameters=_parameters("tiny", batch_size=parameters["generation"]["batch_size"]),
    )


def _train(project: Path) -> None:
    """The assistant of the sample's run, by the command line, in a project of its own."""
    for part in ("conf", "src", "data/01_raw/sample"):
        shutil.copytree(
            ROOT / part, project / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("local", "__pycache__")
        )
    (project / "conf" / "local").mkdir(exist_ok=True)
    for file in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / file, project)
    for pipeline in ("data_preparation", "teacher_annotation", "assistant_training"):
        subprocess.run(
            [sys.executable, "-m", "kedro", "run", "--pipeline", pipeline],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project / "src")},
            check=True,
        )


def _random(folder: Path) -> Evaluation:
    """The student with a real vocabulary's head and random weights, and random prompts as long as real ones."""
    setting = Setting("real_vocab", folder, rows=REAL_POSTS)
    role = setting.role("student")
    role.model.eval()
    # No token ends a turn: with random weights it would come by chance or never.
    role.encoder.tokenizer.eos_token_id = role.encoder.tokenizer.pad_token_id
    posts = setting.posts[:REAL_POSTS]
    examples = {post.id: random_example(role, post, number) for number, post in enumerate(posts)}
    return Evaluation(
        model=role.model,
        encoder=role.encoder,
        posts=posts,
        prompts=_prompts(
            posts,
            lambda post, task: Prompt(list(examples[post.id].prefix), list(examples[post.id].suffixes[task])),
        ),
        limits=LIMITS["real_vocab"],
        parameters=_parameters("real_vocab", batch_size=24),
    )


def _prompts(posts: Sequence[Post], prompt: Callable[[Post, Task], Prompt]) -> dict[str, dict[Task, Prompt]]:
    return {post.id: {task: prompt(post, task) for task in TASKS} for post in posts}
