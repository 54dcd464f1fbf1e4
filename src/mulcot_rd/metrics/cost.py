"""What one prediction of a trained model costs: measured at batch size 1 (paper, Figure 3, Tables 11 and 12)."""

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mulcot_rd import __version__
from mulcot_rd.distributed import Group, Job
from mulcot_rd.files import write_json
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation.answers import encode
from mulcot_rd.generation.engine import write_answers
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.images import image_hashes
from mulcot_rd.metrics.efficiency import device_name, measure_efficiency
from mulcot_rd.models import device_at_hand
from mulcot_rd.models.loaded import StoredModel, model_manifest
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post

logger = logging.getLogger(__name__)


class CostJob(Job):
    """Measures one greedy answer without retries, from the image on disk to the text, by the prompt of each task.

    It loads the model in one process of its own: time, threads and memory are those of a single prediction.

    Attributes:
        model: The model.
        posts: The posts to answer, one after another; at least one.
        tasks: Whose prompts are asked.
        parameters: Lengths of the answers.
        max_seconds: About how long to measure a prompt.
        folder: Where measurements are kept: one of the same, on the same device, by the same software, is not made
            again.
    """

    model: StoredModel
    posts: list[Post]
    tasks: list[Task]
    parameters: GenerationParameters
    max_seconds: float
    folder: Path

    def run(self, group: Group) -> dict[str, Any]:
        """Measure in one process, unless that was done before.

        Returns:
            What was measured: model, device, type and numbers of parameters, and under ``prompts`` by task what
            :func:`~mulcot_rd.metrics.efficiency.measure_efficiency` gives.
        """
        device = device_name(device_at_hand())
        asked = [self.posts, image_hashes(post.image for post in self.posts), self.tasks, self.max_seconds]
        how = [self.model.backbone, self.parameters.result_settings(self.tasks), device, torch.__version__, __version__]
        file = self.folder / f"{fingerprint(self.model.identity, asked, how)[:12]}.json"
        if file.is_file():
            logger.info("what a prediction costs was measured before; to measure it anew delete %s", file)
        else:
            write_json(file, self._measured(device))
        return json.loads(file.read_text(encoding="utf-8"))

    def _measured(self, device: str) -> dict[str, Any]:
        trained = self.model.load()
        base, encoder = without_adapter(trained.model), trained.encoder
        counts = model_manifest(self.model.folder).get("parameters", {"total": trained.parameters, "trainable": 0})
        parameters = self.parameters.model_copy(update={"batch_size": 1, "max_retries": 0})

        def answer(task: Task, static: bool | None, posts: Sequence[Post], finished: Callable[[], None]) -> None:
            prompts = encode(encoder, posts, [task])
            answers = write_answers(base, encoder, posts, prompts, parameters, seed=0, static=static)
            name = f"{trained.name}, one post at a time by {task} prompt"
            for _ in progress(answers, total=len(posts), desc=name, unit="answer"):
                finished()

        return {
            "model": self.model.backbone.name,
            "parameters": counts["total"],
            "trainable_parameters": counts["trainable"],
            "trainable_percent": 100 * counts["trainable"] / counts["total"],
            "device": device,
            "dtype": str(base.dtype).removeprefix("torch."),
            "prompts": {
                task: measure_efficiency(
                    partial(answer, task, None),
                    self.posts,
                    base.device,
                    max_seconds=self.max_seconds,
                    plain=partial(answer, task, False),
                )
                for task in self.tasks
            },
        }
