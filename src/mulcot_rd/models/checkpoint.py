"""The checkpoint that training starts from: a full-size one is only named, another is built."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mulcot_rd.files import empty_folder
from mulcot_rd.fingerprint import file_fingerprint, fingerprint, remembered_fingerprint
from mulcot_rd.kept import DamagedError, file_hashes, read_manifest, verify, write_manifest
from mulcot_rd.models.backbone import BackboneParameters, PretrainedEncoder, WeightsError, looks_local
from mulcot_rd.models.family import Family, TinySize
from mulcot_rd.models.inputs import prompt_text
from mulcot_rd.models.registry import family_named
from mulcot_rd.models.tiny import build_tiny_checkpoint, train_tokenizer
from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.schema import Post, TeacherRecord, TrainingRow


def prepare_checkpoint(
    backbone: BackboneParameters,
    posts: Sequence[Post],
    reasonings: Sequence[TeacherRecord | TrainingRow],
    *,
    vocabulary_size: int,
    seed: int,
    models: Path,
) -> dict[str, Any]:
    """Say where the weights before training are, after building them where they are not a checkpoint's own.

    A tiny model's tokenizer is trained on the prompts and targets of the training split alone. Assistant and
    student get the same tokenizer, as the models of a full-size family do.

    Args:
        backbone: Parameters of the backbone.
        posts: Posts of the training split.
        reasonings: The teacher's reasonings of these posts, which come to their labels.
        vocabulary_size: Upper bound of the tiny tokenizer's token ids.
        seed: Of the random weights.
        models: The run's folder of models; what is built goes into its subfolder ``base``.

    Returns:
        ``location`` (hub id or path), ``revision`` and a ``fingerprint`` of what the weights are.

    Raises:
        WeightsError: If there is no checkpoint at a local path.
        DamagedError: If a file of a tiny checkpoint is not the one that was written.
    """
    if backbone.model is not None:
        made = {"location": backbone.model, "revision": backbone.revision}
        return {**made, "fingerprint": base_fingerprint(backbone, models)}
    family = family_named(backbone.family)
    if backbone.encoder is not None:
        weights = _content(backbone.encoder.folder, _memory(models))
        key = fingerprint(family.name, backbone.encoder.layers, weights, seed)
        build = partial(_build_from_encoder, family, backbone.encoder, seed)
    elif backbone.tiny is not None:
        texts = [prompt_text(family, post, task) for post in posts for task in TASKS]
        texts += [write(row.reasoning) for row in reasonings]
        texts += [write_label(row.reasoning.prediction) for row in reasonings]
        key = fingerprint(family.name, backbone.tiny, vocabulary_size, seed, texts)
        build = partial(_build_tiny, family, backbone.tiny, texts, vocabulary_size, seed)
    else:
        raise ValueError("a backbone without `model` needs `encoder` or `tiny`, which say what to build")
    folder = models / "base" / key[:12]
    manifest = read_manifest(folder)
    if manifest is None:
        build(empty_folder(folder))
        write_manifest(folder, {"fingerprint": key, "files": file_hashes(folder)})
    else:
        verify(folder, manifest["files"])
    return {"location": str(folder), "revision": None, "fingerprint": key}


def _build_tiny(
    family: Family, size: TinySize, texts: Sequence[str], vocabulary_size: int, seed: int, folder: Path
) -> None:
    tokenizer = train_tokenizer(texts, vocabulary_size, family.chat)
    build_tiny_checkpoint(folder, family, size, tokenizer, seed)


def _build_from_encoder(family: Family, encoder: PretrainedEncoder, seed: int, folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = family.from_encoder(encoder.folder, encoder.layers)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def base_fingerprint(backbone: BackboneParameters, models: Path) -> str | None:
    """What identifies a checkpoint: hub id and revision, or its content at a local path; ``None`` for a built one.

    Hashes of large files are remembered by size and time in the run's folder ``models``.

    Raises:
        WeightsError: If there is no checkpoint at a local path.
    """
    if backbone.model is None:
        return None
    if not looks_local(backbone.model):
        return fingerprint(backbone.model, backbone.revision)
    return _local_fingerprint(backbone.model, _memory(models))


def _local_fingerprint(model: str, memory: Path | None) -> str:
    content = _content(Path(model), memory)
    if not content:
        raise WeightsError(f"there is no checkpoint in {model}: correct the role's `model` parameter")
    return fingerprint(content)


def _memory(models: Path) -> Path:
    return models / "base" / "hashes.json"


def _content(folder: Path, memory: Path | None) -> list[list[str]]:
    """Names and hashes of a checkpoint's files; empty where there is none."""
    files = sorted(path for kind in ("safetensors", "json", "jinja", "txt") for path in folder.glob(f"*.{kind}"))
    return [
        [path.name, file_fingerprint(path) if memory is None else remembered_fingerprint(path, memory)]
        for path in files
    ]


def location_below(checkpoint: Mapping[str, Any], models: Path) -> dict[str, Any]:
    """A base model for a manifest: one built in the run's folder of models by its path from there."""
    location = Path(checkpoint["location"])
    inside = location.is_relative_to(models)
    return {**checkpoint, "location": location.relative_to(models).as_posix() if inside else checkpoint["location"]}


def located(backbone: BackboneParameters, base: Mapping[str, Any], models: Path) -> dict[str, Any]:
    """The base model of a manifest, where it is now: a built one in the run's folder, another where parameters say.

    A model that was trained above a hub id has no hashes of what lies below it, and nothing is checked.

    Raises:
        DamagedError: If a file of a built checkpoint is missing or not the one that was written, or a local folder
            holds another checkpoint than at the training.
        WeightsError: If there is no checkpoint at a local path.
    """
    if backbone.model is None:
        folder = models / base["location"]
        _verify_built(folder, base["fingerprint"])
        return {**base, "location": str(folder)}
    if looks_local(backbone.model):
        _verify_local(backbone.model, base, models)
    return {**base, "location": backbone.model, "revision": backbone.revision}


def _verify_built(folder: Path, wanted: str) -> None:
    manifest = read_manifest(folder)
    if manifest is None or manifest["fingerprint"] != wanted:
        raise DamagedError(
            f"{folder}, the model before training, is missing: run the training pipeline again, or, where the trained "
            "model was copied out of its run, write the copy there with `kedro export`"
        )
    verify(folder, manifest["files"])


def _verify_local(model: str, base: Mapping[str, Any], models: Path) -> None:
    if base["fingerprint"] == fingerprint(base["location"], base["revision"]):
        return
    if base["location"] == f"base/{base['fingerprint'][:12]}":
        # An adapter that was exported from above a built checkpoint, which is known by what it was built from.
        _verify_built(Path(model), base["fingerprint"])
        return
    # A run with a local checkpoint remembers hashes; beside an exported adapter nothing is written.
    memory = _memory(models)
    if _local_fingerprint(model, memory if memory.is_file() else None) != base["fingerprint"]:
        raise DamagedError(
            f"{model}, the model before training, holds other weights or other .json, .jinja or .txt files than at the "
            "training: put the checkpoint of the training back there, or train again"
        )
