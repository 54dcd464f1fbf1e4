"""What one prediction of a trained model costs: measured at batch size 1 (paper, Figure 3, Tables 11 and 12)."""

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from mulcot_rd import __version__
from mulcot_rd.distributed import Group, Job
from mulcot_rd.files import write_json
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation.engine import write_answers
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.images import image_hashes
from mulcot_rd.metrics.efficiency import device_name, measure_efficiency
from mulcot_rd.models import BackboneParameters, device_at_hand
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import load_model, model_manifest
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post

logger = logging.getLogger(__name__)


class CostJob(Job):
    """Measures one greedy answer without retries, from the image on disk to the text, by the prompt of each task.

    Attributes:
        adapter: The trained model's folder.
        backbone: The model before training, and how it computes.
        posts: The posts to answer, one after another; at least one.
        tasks: Whose prompts are asked.
        parameters: Lengths of the answers.
        seed: Of sampling; greedy answers do not depend on it.
        max_seconds: About how long to measure a prompt.
        weights: What tells the model's weights from others.
        folder: Where measurements are kept: one of the same, on the same device, by the same software, is not made
            again.
    """

    adapter: Path
    backbone: BackboneParameters
    posts: list[Post]
    tasks: list[Task]
    parameters: GenerationParameters
    seed: int
    max_seconds: float
    weights: str
    folder: Path

    def run(self, group: Group) -> dict[str, Any]:
        """Measure in one process, unless that was done before.

        Returns:
            What was measured: model, device, type and numbers of parameters, and under ``prompts`` by task what
            :func:`~mulcot_rd.metrics.efficiency.measure_efficiency` gives.
        """
        device = device_name(device_at_hand())
        asked = [self.posts, image_hashes(post.image for post in self.posts), self.tasks, self.max_seconds]
        how = [self.backbone, self.parameters.result_settings(self.tasks), device, torch.__version__, __version__]
        file = self.folder / f"{fingerprint(self.weights, asked, how)[:12]}.json"
        if file.is_file():
            logger.info("what a prediction costs was measured before; to measure it anew delete %s", file)
        else:
            write_json(file, self._measured(device))
        return json.loads(file.read_text(encoding="utf-8"))

    def _measured(self, device: str) -> dict[str, Any]:
        trained = load_model(self.adapter, self.backbone)
        counts = model_manifest(self.adapter).get("parameters", {"total": trained.parameters, "trainable": 0})
        one_by_one = self.parameters.model_copy(update={"batch_size": 1, "max_retries": 0})
        answering = without_adapter(trained.model)
        measured = {}
        for task in self.tasks:
            answer = partial(_answer_one_by_one, answering, trained.encoder, one_by_one, self.seed, task, trained.name)
            measured[task] = measure_efficiency(
                partial(answer, None),
                self.posts,
                answering.device,
                max_seconds=self.max_seconds,
                plain=partial(answer, False),
            )
        return {
            "model": self.backbone.name,
            "parameters": counts["total"],
            "trainable_parameters": counts["trainable"],
            "trainable_percent": 100 * counts["trainable"] / counts["total"],
            "device": device,
            "dtype": str(answering.dtype).removeprefix("torch."),
            "prompts": measured,
        }


def _answer_one_by_one(
    model: PreTrainedModel,
    encoder: InputEncoder,
    parameters: GenerationParameters,
    seed: int,
    task: Task,
    name: str,
    static: bool | None,
    posts: Sequence[Post],
    finished: Callable[[], None],
) -> None:
    """Answer a task's prompt for one post after another; call ``finished`` after each."""
    prompts = {post.id: {task: encoder.prompt(post, task)} for post in posts}
    answers = write_answers(model, encoder, posts, prompts, parameters, seed=seed, static=static)
    for _ in progress(answers, total=len(posts), desc=f"{name}, one post at a time by {task} prompt", unit="answer"):
        finished()
