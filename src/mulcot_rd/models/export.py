"""A trained model as one folder for others: a checkpoint in its family's stock layout, or an adapter in peft's."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from mulcot_rd.errors import UserError
from mulcot_rd.files import empty_folder, write_text
from mulcot_rd.kept import file_hashes, run_folder, write_manifest
from mulcot_rd.models.card import CARD, PROMPT, model_card
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import (
    TEMPERATURES,
    LoadedModel,
    load_encoder,
    load_model,
    model_manifest,
    model_temperature,
)
from mulcot_rd.models.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, without_adapter
from mulcot_rd.prompts import Task
from mulcot_rd.schema import PostContent
from mulcot_rd.versions import newest


def export_model(
    folder: Path, out: Path, *, evaluation: dict[str, Any] | None, adapter_only: bool = False
) -> dict[str, Any]:
    """Write a trained model as a folder that loads without this project, and return its manifest.

    Beside the weights lie tokenizer, chat template and image processor, as training used them, the exact prompts, the
    temperature and the model card. The model's manifest lies there too, by which this project asks the model as it was
    trained.

    Args:
        folder: Folder of an assistant or a student.
        out: Folder to write, which is new or empty.
        evaluation: What the card says of the model's scores (:mod:`mulcot_rd.models.evaluation`).
        adapter_only: Whether the adapter is written as peft has it. Else LoRA goes into the weights, those of the
            vision tower too; answers are greedy and end where the model learned to end them.

    Raises:
        UserError: If ``out`` has content, or the model has no adapter to write.
        DamagedError: As :func:`~mulcot_rd.models.loaded.load_model`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: name another one")
    folder, manifest = newest(folder), model_manifest(folder)
    if adapter_only and ADAPTER_WEIGHTS not in manifest["files"]:
        raise UserError(f"{folder} has no adapter, its weights are whole: export it without --adapter-only")
    # A folder of this name is whole.
    partial = empty_folder(out.with_name(f".{out.name}.partial"))
    if adapter_only:
        encoder = load_encoder(folder)
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            shutil.copy2(folder / name, partial / name)
        if manifest["backbone"]["model"] is None:
            # A tiny base model stays in its run's folder.
            base = str(run_folder(folder) / manifest["base"]["location"])
            manifest["backbone"] = {**manifest["backbone"], "model": base}
    else:
        loaded = load_model(folder)
        encoder = loaded.encoder
        _merge(loaded, partial)
        # The weights below the adapter are part of the checkpoint now.
        backbone = {**manifest["backbone"], "model": None, "revision": None}
        manifest = {**manifest, "merged": True, "backbone": backbone}
    encoder.family.export_processor(encoder.processor, encoder.image_size, partial)
    _write_prompts(encoder, manifest["config"]["method"]["tasks"], partial)
    temperature = model_temperature(folder)
    if temperature is not None:
        write_text(partial / TEMPERATURES, temperature.model_dump_json() + "\n")
    manifest |= {"evaluation": evaluation, "files": file_hashes(partial)}
    write_text(partial / CARD, model_card(manifest, encoder, temperature))
    write_manifest(partial, manifest)
    partial.replace(out)
    return manifest


def _merge(loaded: LoadedModel, folder: Path) -> None:
    """Write the weights with the adapter in them, and the settings of greedy answers."""
    model = without_adapter(loaded.model)
    _state_own_head(model)
    # The published settings sample, and penalise words that repeat: the method's answers are greedy.
    model.generation_config = GenerationConfig(
        eos_token_id=loaded.encoder.tokenizer.eos_token_id,
        pad_token_id=loaded.encoder.tokenizer.pad_token_id,
        decoder_start_token_id=model.generation_config.decoder_start_token_id,
    )
    model.save_pretrained(folder)


def _state_own_head(model: PreTrainedModel) -> None:
    """Say in the configuration that the output head is no copy of the embeddings, where training made it another."""
    head = model.get_output_embeddings().weight
    if sum(weight is head for _, weight in model.named_parameters(remove_duplicate=False)) == 1:
        model.config.tie_word_embeddings = False
        model.config.get_text_config().tie_word_embeddings = False


def _write_prompts(encoder: InputEncoder, tasks: Sequence[Task], folder: Path) -> None:
    """Write the prompt of each task, for posts with and without an aspect; ``$text`` stands for the text as JSON."""
    for task in tasks:
        for aspect in (None, "$aspect"):
            post = PostContent(id="", text="$text", aspect=aspect, image=None, caption="$caption")
            prompt = encoder.turn(post, task)
            for name in ("text", "aspect", "caption"):
                prompt = prompt.replace(f'"${name}"', f"${name}")
            write_text(folder / f"{PROMPT}{task}{'_aspect' if aspect else ''}.txt", prompt)
