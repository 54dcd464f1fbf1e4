"""The paper's models at full size with random weights, and rows as long as real ones, for ``bench/gpu.py``.

Weights are drawn on the device itself in bfloat16, from the dimensions kept in the project: no download, and no copy
in main memory. No real tokenizer can be had without a download either, so token ids are random ones in the real
vocabulary; prompts and answers are as long as the real ones (``bench/settings.py``), images are those of the shipped
sample at the paper's 280 x 280 pixels. At tiny scale the same code builds models of the same families that a processor
runs in seconds, with the same vocabulary.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedTokenizerBase

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.models import Backbone, BackboneParameters, Family, TinySize, attach_adapter, parameter_numbers
from mulcot_rd.models.counts import kept_dimensions
from mulcot_rd.models.families.qwen_vl import vision_token_ids
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import LoadedModel
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post
from mulcot_rd.training.batches import Example
from settings import REAL_COLUMNS, ROOT, RoleName, Setting, random_example, real_tokenizer

ScaleName = Literal["full", "tiny"]
# Distinct posts of the shipped sample's training split; more rows show their images again.
POSTS = 48
_TINY = TinySize(
    hidden_size=64,
    intermediate_size=128,
    layers=2,
    heads=4,
    key_value_heads=2,
    vision_hidden_size=64,
    vision_layers=2,
    vision_heads=4,
    initializer_range=0.08,
    head_rows=REAL_COLUMNS,
)


@dataclass(frozen=True)
class Amount:
    """How much is done at a scale.

    Attributes:
        image_size: Side of the images in pixels.
        gradient_accumulation_steps: Micro-batches of an optimiser step; ``None`` takes the configured number.
        measured_steps: Optimiser steps that are timed, behind one that is not.
        longest_answer: Tokens that answers of training rows are cut to; ``None`` cuts nothing.
        latency_tokens: Tokens of the reasoning whose latency is measured.
        latency_answers: Answers of each form that are timed, behind one that is not.
        evaluation_posts: Posts that are evaluated.
        evaluation_limits: Tokens of their answers by task.
    """

    image_size: int
    gradient_accumulation_steps: int | None
    measured_steps: int
    longest_answer: int | None
    latency_tokens: int
    latency_answers: int
    evaluation_posts: int
    evaluation_limits: dict[Task, int]


AMOUNTS: dict[ScaleName, Amount] = {
    "full": Amount(280, None, 3, None, 256, 2, POSTS, {"label": 5, "reasoning": 200}),
    "tiny": Amount(112, 2, 1, 8, 8, 1, 3, {"label": 4, "reasoning": 8}),
}


@dataclass(frozen=True)
class Models:
    """An architecture's models at one scale on one device.

    Attributes:
        architecture: Number of Table 2.
        scale: "full", or "tiny" for a trial without a GPU.
        device: Where the models are built and run.
        scratch: Folder for what a run keeps on disk meanwhile.
    """

    architecture: int
    scale: ScaleName
    device: torch.device
    scratch: Path

    @property
    def amount(self) -> Amount:
        """How much is done."""
        return AMOUNTS[self.scale]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The project's own configuration of the full-size models."""
        given = {"arch": self.architecture, "scale": "full"}
        conf = str(ROOT / "conf")
        return ProjectConfigLoader(conf, base_env="base", default_run_env="base", runtime_params=given)["parameters"]

    @cached_property
    def posts(self) -> list[Post]:
        """Training posts of the shipped sample."""
        return Setting("real_vocab", self.scratch, POSTS).posts[:POSTS]

    def backbone(self, name: RoleName) -> BackboneParameters:
        """What plays a role."""
        return BackboneParameters(**self.parameters[f"{name}_backbone"])

    def role(self, name: RoleName) -> LoadedModel:
        """A role's model with a fresh adapter of the paper's, activations kept."""
        parameters = self.backbone(name)
        family, dimensions = kept_dimensions(parameters.model)
        tokenizer = real_tokenizer(family.chat)
        model = random_model(family, self._config(family, dimensions, tokenizer), parameters, self.device)
        backbone = Backbone(family, model, family.build_tiny_processor(tokenizer))
        trained = attach_adapter(model, parameters.adapter, seed=1)
        encoder = InputEncoder(family, backbone.processor, self.amount.image_size)
        return LoadedModel(name, backbone, trained, encoder, parameter_numbers(trained)[0])

    def rows(self, role: LoadedModel, count: int) -> list[Example]:
        """So many rows of random token ids; lengths differ as those of real rows do."""
        posts, longest = self.posts, self.amount.longest_answer
        rows = [random_example(role, posts[number % len(posts)], number) for number in range(count)]
        return [replace(row, targets={task: ids[:longest] for task, ids in row.targets.items()}) for row in rows]

    @property
    def assistant_width(self) -> int:
        """Hidden size of the assistant, of which the student's training sees soft labels alone."""
        if self.scale == "tiny":
            return 2 * _TINY.hidden_size
        return kept_dimensions(self.backbone("assistant").model)[1]["text_config"]["hidden_size"]

    def _config(
        self, family: Family, dimensions: dict[str, Any], tokenizer: PreTrainedTokenizerBase
    ) -> PretrainedConfig:
        if self.scale == "tiny":
            return family.tiny_config(_TINY, tokenizer)
        return family.config_class(**{**dimensions, **vision_token_ids(tokenizer)})


def random_model(
    family: Family, config: PretrainedConfig, parameters: BackboneParameters, device: torch.device
) -> torch.nn.Module:
    """A model of these dimensions, its weights drawn on the device in the configured type."""
    dtype = torch.float32 if parameters.dtype == "float32" else torch.bfloat16
    with torch.device(device):
        torch.manual_seed(1)
        model = AutoModelForImageTextToText.from_config(
            config, dtype=dtype, attn_implementation=parameters.attn_implementation
        ).eval()
    if not isinstance(model, family.model_class):
        raise TypeError(f"{type(model).__name__} is not the class of the family {family.name}")
    return model
