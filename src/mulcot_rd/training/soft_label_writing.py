"""Computing soft labels: each shard a unit of work, in a file that appears whole (paper, Eq. 10)."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from pydantic import Field
from safetensors.torch import save, save_file
from torch import Tensor

from mulcot_rd.distributed import ALONE, ClusterParameters, Group, Job, launch
from mulcot_rd.files import replace_file, write_json, write_text
from mulcot_rd.fingerprint import bytes_fingerprint, file_fingerprint, fingerprint
from mulcot_rd.kept import Kept, damaged_files, file_hashes, write_manifest
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import StoredModel
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post, Record, TrainingRow
from mulcot_rd.training.batches import Example, collate, examples_fingerprint, training_examples
from mulcot_rd.training.distributions import ExactDistributions
from mulcot_rd.training.forward import OutputHead, output_head, target_states
from mulcot_rd.training.soft_label_layouts import CompactLayout, ExactLayout, Layout
from mulcot_rd.training.soft_labels import (
    HASHES,
    HEAD,
    ID,
    SoftLabelError,
    SoftLabelManifest,
    SoftLabelParameters,
    SoftLabels,
    expected_bytes,
    shard_file,
    tokenizer_fingerprint,
)

logger = logging.getLogger(__name__)


class Shards(Record):
    """The files that soft labels are written to.

    Attributes:
        folder: Where they lie.
        parameters: Kind, temperature, batch and shard size.
        hashes: Of finished files, which are written anew where they are missing or were changed.
    """

    folder: Path
    parameters: SoftLabelParameters
    hashes: dict[str, str] = Field(default_factory=dict)

    def missing(self, rows: int) -> list[int]:
        """Numbers of the shards of so many rows that are not there as they were written."""
        return [number for number in range(-(-rows // self.parameters.rows_per_shard)) if not self._is_whole(number)]

    def _is_whole(self, number: int) -> bool:
        path, note = shard_file(self.folder, number), self._note(number)
        wanted = note.read_text(encoding="ascii") if note.is_file() else self.hashes.get(path.name)
        return path.is_file() and file_fingerprint(path) == wanted

    def write(self, number: int, tensors: dict[str, Tensor]) -> None:
        """Write a shard, and behind it its hash."""
        data = save(tensors)
        self._note(number).unlink(missing_ok=True)
        replace_file(shard_file(self.folder, number), lambda temporary: temporary.write_bytes(data))
        write_text(self._note(number), bytes_fingerprint(data))

    def _note(self, number: int) -> Path:
        return self.folder / f".{shard_file(self.folder, number).stem}.hash"


class SoftLabelJob(Job):
    """Soft labels of a trained assistant, each shard in a file of its own.

    Attributes:
        assistant: The assistant.
        posts: The posts of the rows.
        rows: The student's training rows, in the order in which the student will name them.
        tasks: Whose targets have soft labels.
        shards: Where they go.
    """

    assistant: StoredModel
    posts: list[Post]
    rows: list[TrainingRow]
    tasks: list[Task]
    shards: Shards

    def run(self, group: Group) -> None:
        """Write this process's share."""
        trained = self.assistant.load()
        examples = training_examples(self.rows, self.posts, trained.encoder, _ROWS, self.tasks)
        write_shards(trained.model, trained.encoder, examples, self.shards, group)


_ROWS = "the student's training set"


def assistant_soft_labels(
    assistant: StoredModel,
    posts: Sequence[Post],
    rows: Sequence[TrainingRow],
    tasks: list[Task],
    parameters: SoftLabelParameters,
    *,
    kept: Kept,
    cluster: ClusterParameters,
) -> SoftLabels:
    """The assistant's soft labels at every target token of these rows, computed where they are not on disk.

    Args:
        assistant: The assistant; soft labels of other weights are not taken.
        posts: All posts of the data set; rows are of the training split.
        rows: The student's training rows.
        tasks: Whose targets have soft labels.
        parameters: Kind, temperature, batch and shard size.
        kept: Where soft labels lie.
        cluster: Where the assistant computes.

    Raises:
        SoftLabelError: If the assistant's hidden states are not finite.
    """
    encoder = assistant.load_encoder()
    examples = training_examples(rows, posts, encoder, _ROWS, tasks)
    made_from = {
        "model": assistant.identity,
        "training_rows": examples_fingerprint(examples),
        "soft_labels": parameters.result_settings(),
    }

    def write(shards: Shards) -> None:
        training = [post for post in posts if post.split == "train"]
        job = SoftLabelJob(assistant=assistant, posts=training, rows=list(rows), tasks=tasks, shards=shards)
        most = cluster.parts(len(shards.missing(len(rows))), len(rows))
        launch(job, cluster, shards.folder / "job", most)

    return write_soft_labels(write, encoder, examples, kept, made_from, parameters)


def write_soft_labels(
    write: Callable[[Shards], None],
    encoder: InputEncoder,
    examples: Sequence[Example],
    kept: Kept,
    made_from: Mapping[str, Any],
    parameters: SoftLabelParameters,
) -> SoftLabels:
    """Store distributions for all examples, going on behind the shards that an interrupted run had finished.

    Finished ones of the same fingerprint are found again; a file of theirs that is missing or was changed is written
    anew.

    Args:
        write: Writes the shards that are missing (:func:`write_shards`).
        encoder: Makes the inputs, as in training.
        examples: The student's training rows, in the order in which the student will name them.
        kept: Where soft labels lie.
        made_from: Assistant, rows, and what of the parameters the distributions depend on, by name.
        parameters: Kind, temperature, batch and shard size.
    """
    key = fingerprint(made_from)
    finished = kept.find(key)
    if finished is None:
        kept.begin(key, made_from)
        shards = _begun(kept.result(key), parameters)
    else:
        folder = Path(finished["folder"])
        damaged = damaged_files(folder, finished["files"], folder / HASHES)
        if not damaged:
            return SoftLabels(folder)
        logger.warning("%s: %s is missing or was changed, and is written anew", folder, ", ".join(damaged))
        rows = {"rows_per_shard": finished["rows_per_shard"]}
        shards = Shards(folder=folder, parameters=parameters.model_copy(update=rows), hashes=finished["files"])
    write(shards)
    folder = shards.folder
    manifest = SoftLabelManifest(
        fingerprint=key,
        made_from=dict(made_from),
        kind=parameters.kind,
        top_k=parameters.top_k if parameters.kind == "compact" else None,
        temperature=parameters.temperature if parameters.kind == "compact" else None,
        tokenizer=tokenizer_fingerprint(encoder.tokenizer),
        vocabulary_size=len(encoder.tokenizer),
        rows=len(examples),
        rows_per_shard=shards.parameters.rows_per_shard,
        tasks=list(examples[0].targets),
        inputs=encoder.settings,
        bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        files=file_hashes(folder, folder / HASHES),
    )
    write_manifest(folder, manifest.model_dump())
    return SoftLabels(folder)


@torch.no_grad()
def write_shards(
    model: PeftModel,
    encoder: InputEncoder,
    examples: Sequence[Example],
    shards: Shards,
    group: Group = ALONE,
) -> None:
    """Write this process's share of the shards that are missing.

    Args:
        model: The trained assistant, in evaluation mode.
        encoder: Makes the inputs, as in training.
        examples: The student's training rows.
        shards: Where they go.
        group: The processes.

    Raises:
        SoftLabelError: If the assistant's hidden states are not finite.
    """
    parameters, folder = shards.parameters, shards.folder
    vocabulary = len(encoder.tokenizer)
    head = output_head(model).cut(vocabulary)
    layout = _layout(folder, parameters, head, group)
    if group.is_first:
        size = expected_bytes(examples, layout, head.weight.shape[1], head.weight.element_size(), vocabulary)
        size += sum(path.stat().st_size for path in folder.glob(HEAD))
        logger.info(
            "%s soft labels of %d rows will take %.1f MiB in %s", parameters.kind, len(examples), size / 2**20, folder
        )
    share = group.share(group.broadcast(shards.missing(len(examples)) if group.is_first else []))
    size = parameters.rows_per_shard
    with progress(total=len(share), desc="soft labels", unit="shard", disable=not group.is_first) as bar:
        for number in share:
            rows = examples[number * size : (number + 1) * size]
            shards.write(number, _shard_tensors(model, encoder, rows, head, layout, parameters.batch_size))
            bar.update()


def _begun(folder: Path, parameters: SoftLabelParameters) -> Shards:
    """The shards of unfinished soft labels: begun with another number of rows a shard, they go on with that."""
    note = folder / "shards.json"
    try:
        rows = json.loads(note.read_text(encoding="utf-8"))["rows"]
    except (FileNotFoundError, ValueError):
        rows = parameters.rows_per_shard
        write_json(note, {"rows": rows})
    return Shards(folder=folder, parameters=parameters.model_copy(update={"rows_per_shard": rows}))


def _layout(folder: Path, parameters: SoftLabelParameters, head: OutputHead, group: Group) -> Layout:
    """The layout that ``parameters`` ask for; an exact one's head is written by rank 0."""
    if parameters.kind == "compact":
        return CompactLayout(parameters.top_k, parameters.temperature, len(head.weight))
    tensors = {"weight": head.weight} if head.bias is None else {"weight": head.weight, "bias": head.bias}
    # Copied: a cut head shares memory with the columns that are left out.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    if group.is_first:
        replace_file(folder / HEAD, lambda path: save_file(tensors, path))
    return ExactLayout(tensors["weight"], tensors.get("bias"))


def _shard_tensors(
    model: PeftModel,
    encoder: InputEncoder,
    rows: Sequence[Example],
    head: OutputHead,
    layout: Layout,
    batch_size: int,
) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(rows), batch_size):
        batch = collate(rows[start : start + batch_size], encoder)
        for task, states in target_states(model, batch).items():
            if not bool(states.isfinite().all()):
                raise SoftLabelError(
                    f"the assistant's {task} states are not finite, of posts "
                    f"{', '.join(dict.fromkeys(row.post_id for row in rows))}: train it again at a lower learning rate"
                )
            exact = ExactDistributions(states * head.scale, head.weight, head.bias)
            for name, tensor in layout.pack(exact).items():
                parts.setdefault(f"{task}/{name}", []).append(tensor)
            parts.setdefault(f"{task}/ids", []).append(batch.targets[task].to(ID))
    tensors = {name: torch.cat(pieces).contiguous() for name, pieces in parts.items()}
    for task in rows[0].targets:
        tensors[f"{task}/lengths"] = torch.tensor([len(row.targets[task]) for row in rows])
    return tensors
