"""Soft labels: the assistant's distributions at every target position, computed once (paper, Eq. 10).

Stored is what rebuilds the distributions exactly: the assistant's last hidden states at the target positions and
its output head, cut to the tokenizer's ids. Beside the states stand the token ids they belong to; a student whose
targets differ is refused. Files are safetensors, a shard for a run of training rows, the manifest written last.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mulcot_rd.files import empty_folder, replace_file, write_json
from mulcot_rd.fingerprint import fingerprint as fingerprint_of
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Example, collate
from mulcot_rd.training.forward import target_states

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
IN_PROGRESS = "in_progress.json"
_HEAD = "head.safetensors"


class SoftLabelError(ValueError):
    """Soft labels that are missing, incomplete, or belong to other rows, tokens or another tokenizer."""


class SoftLabelParameters(BaseModel):
    """How soft labels are computed and stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(8, ge=1, description="Rows of one forward pass")
    rows_per_shard: int = Field(64, ge=1, description="Training rows of one file; a kill loses at most the one in work")


class SoftLabelManifest(BaseModel):
    """What a finished folder of soft labels holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: str
    tokenizer: str
    vocabulary_size: int
    rows: int
    rows_per_shard: int
    tasks: list[Task]
    bytes: int


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of the mapping of tokens to ids: equal for two models if and only if their token ids agree."""
    return fingerprint_of(sorted(tokenizer.get_vocab().items()))


def expected_bytes(examples: Sequence[Example], hidden_size: int, item_bytes: int) -> int:
    """Bytes that the states of these examples will take on disk."""
    return sum(len(ids) for example in examples for ids in example.targets.values()) * (hidden_size * item_bytes + 8)


@torch.no_grad()
def write_soft_labels(
    model: PeftModel,
    encoder: InputEncoder,
    examples: Sequence[Example],
    folder: Path,
    fingerprint: str,
    parameters: SoftLabelParameters,
) -> SoftLabelManifest:
    """Compute and store the assistant's states for all examples, going on behind the last finished shard.

    A finished folder of the same fingerprint is left as it is.

    Args:
        model: The trained assistant, in evaluation mode.
        encoder: Makes the inputs, as in training.
        examples: The student's training rows, in the order in which the student will name them.
        folder: Where to write.
        fingerprint: Of assistant and rows; shards of another fingerprint are thrown away.
        parameters: Batch and shard size.
    """
    if (folder / MANIFEST).exists() and not (folder / IN_PROGRESS).exists():
        manifest = SoftLabels(folder).manifest
        if manifest.fingerprint == fingerprint:
            return manifest
    _begin(folder, fingerprint)
    base = model.get_base_model()
    vocabulary = len(encoder.tokenizer)
    weight = _head_weight(base.lm_head)[:vocabulary].detach().cpu().contiguous().clone()
    replace_file(folder / _HEAD, lambda path: save_file({"weight": weight}, path))
    states = expected_bytes(examples, weight.shape[1], weight.element_size())
    size = (states + weight.numel() * weight.element_size()) / 2**20
    logger.info("soft labels of %d rows will take %.0f MiB in %s", len(examples), size, folder)
    with progress(total=len(examples), desc="soft labels", unit="row") as bar:
        for start in range(0, len(examples), parameters.rows_per_shard):
            rows = examples[start : start + parameters.rows_per_shard]
            shard = _shard(folder, start // parameters.rows_per_shard)
            if not shard.exists():
                tensors = _shard_tensors(model, encoder, rows, parameters.batch_size)
                replace_file(shard, lambda path, tensors=tensors: save_file(tensors, path))
            bar.update(len(rows))
    manifest = SoftLabelManifest(
        fingerprint=fingerprint,
        tokenizer=tokenizer_fingerprint(encoder.tokenizer),
        vocabulary_size=vocabulary,
        rows=len(examples),
        rows_per_shard=parameters.rows_per_shard,
        tasks=list(examples[0].targets),
        bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
    )
    write_json(folder / MANIFEST, manifest.model_dump())
    (folder / IN_PROGRESS).unlink()
    return manifest


class SoftLabels:
    """The stored soft labels of one training set, read from disk as they are asked for.

    Raises:
        SoftLabelError: If the folder holds no finished soft labels.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / MANIFEST).exists():
            raise SoftLabelError(f"{folder} holds no finished soft labels: run the pipeline data_expansion first")
        self.folder = folder
        self.manifest = SoftLabelManifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        self._head = load_file(folder / _HEAD)["weight"]
        self._load = lru_cache(maxsize=256)(self._load_shard)

    def check(self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> None:
        """Refuse a student whose token ids, rows or tasks are not those the labels were made for.

        Raises:
            SoftLabelError: If anything differs; nothing is padded or cut to make it fit.
        """
        if tokenizer_fingerprint(tokenizer) != self.manifest.tokenizer:
            raise SoftLabelError(
                f"the student's tokenizer gives other token ids than the assistant's in {self.folder}: distillation "
                "needs models that share a tokenizer"
            )
        if len(examples) != self.manifest.rows:
            raise SoftLabelError(
                f"{self.folder} holds soft labels of {self.manifest.rows} rows, the training set has {len(examples)}: "
                "run the pipeline data_expansion again"
            )

    def logits(self, indices: Sequence[int], examples: Sequence[Example], device: torch.device) -> dict[Task, Tensor]:
        """The assistant's logits [N, ids of the tokenizer] at the targets of the rows ``indices``, by task.

        Args:
            indices: Rows of the training set.
            examples: The whole training set; the token ids of each row are compared with the stored ones.
            device: Where the logits are wanted.

        Raises:
            SoftLabelError: If a row's target ids are not the stored ones.
        """
        # A full-size head is a gigabyte: it moves to the device once, not at every step.
        self._head = self._head.to(device)
        logits: dict[Task, Tensor] = {}
        for task in examples[indices[0]].targets:
            states = torch.cat([self._states(index, task, examples[index].targets[task]) for index in indices])
            logits[task] = states.to(device) @ self._head.T
        return logits

    def _states(self, index: int, task: Task, target: Sequence[int]) -> Tensor:
        shard, row = divmod(index, self.manifest.rows_per_shard)
        tensors, starts = self._load(shard, task)
        begin, end = int(starts[row]), int(starts[row + 1])
        if tensors["ids"][begin:end].tolist() != list(target):
            raise SoftLabelError(
                f"row {index} of the training set has other {task} targets than its soft labels in {self.folder}: "
                "run the pipeline data_expansion again"
            )
        return tensors["states"][begin:end]

    def _load_shard(self, shard: int, task: Task) -> tuple[Mapping[str, Tensor], Tensor]:
        # safetensors maps the file: a shard's pages are read when they are touched and can be dropped again.
        with safe_open(_shard(self.folder, shard), framework="pt") as stored:
            tensors = {name: stored.get_tensor(f"{task}/{name}") for name in ("states", "ids", "lengths")}
        return tensors, torch.cat([torch.zeros(1, dtype=torch.long), tensors["lengths"].cumsum(0)])


def _begin(folder: Path, fingerprint: str) -> None:
    """Keep the shards of an earlier start with the same fingerprint, throw any others away."""
    work = folder / IN_PROGRESS
    if work.exists() and json.loads(work.read_text(encoding="utf-8"))["fingerprint"] == fingerprint:
        return
    empty_folder(folder)
    write_json(work, {"fingerprint": fingerprint})


def _shard_tensors(
    model: PeftModel, encoder: InputEncoder, rows: Sequence[Example], batch_size: int
) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(rows), batch_size):
        batch = collate(rows[start : start + batch_size], encoder)
        for task, states in target_states(model, batch).items():
            parts.setdefault(f"{task}/states", []).append(states.cpu())
            parts.setdefault(f"{task}/ids", []).append(batch.targets[task])
    tensors = {name: torch.cat(pieces).contiguous() for name, pieces in parts.items()}
    for task in rows[0].targets:
        tensors[f"{task}/lengths"] = torch.tensor([len(row.targets[task]) for row in rows])
    return tensors


def _head_weight(head: torch.nn.Module) -> Tensor:
    """The head's weight [V, hidden size]; where the head is trained whole, peft keeps it beside the original."""
    if isinstance(head, ModulesToSaveWrapper):
        return head.modules_to_save[head.active_adapter].weight
    return head.weight


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"
