"""A merged checkpoint: a trained model as one folder in its family's stock layout, for transformers and for servers."""

from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel

from mulcot_rd.errors import UserError
from mulcot_rd.files import empty_folder, write_text
from mulcot_rd.kept import file_hashes, write_manifest
from mulcot_rd.models.loaded import TEMPERATURES, load_model, model_manifest, model_temperature
from mulcot_rd.models.lora import without_adapter


def merge_model(folder: Path, out: Path) -> None:
    """Write a trained model as a checkpoint that loads without this project.

    LoRA goes into the weights, those of the vision tower too. Beside the weights lie tokenizer, chat template and image
    processor, as training used them. Answers are greedy and end where the model learned to end them. The model's
    manifest lies there too, by which this project asks the checkpoint as it was trained.

    Args:
        folder: Folder of an assistant or a student.
        out: Folder to write, which is new or empty.

    Raises:
        UserError: If ``out`` has content.
        DamagedError: As :func:`~mulcot_rd.models.loaded.load_model`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: name another one")
    loaded = load_model(folder)
    model = without_adapter(loaded.model)
    _state_own_head(model)
    # The published settings sample, and penalise words that repeat: the method's answers are greedy.
    model.generation_config = GenerationConfig(
        eos_token_id=loaded.encoder.tokenizer.eos_token_id,
        pad_token_id=loaded.encoder.tokenizer.pad_token_id,
        decoder_start_token_id=model.generation_config.decoder_start_token_id,
    )
    # A folder of this name is a whole checkpoint.
    partial = empty_folder(out.with_name(f".{out.name}.partial"))
    model.save_pretrained(partial)
    loaded.backbone.family.export_processor(loaded.backbone.processor, loaded.encoder.image_size, partial)
    manifest, temperature = model_manifest(folder), model_temperature(folder)
    if temperature is not None:
        write_text(partial / TEMPERATURES, temperature.model_dump_json() + "\n")
    # The weights below the adapter are part of the checkpoint now.
    backbone = {**manifest["backbone"], "model": None, "revision": None}
    write_manifest(partial, {**manifest, "merged": True, "backbone": backbone, "files": file_hashes(partial)})
    partial.replace(out)


def _state_own_head(model: PreTrainedModel) -> None:
    """Say in the configuration that the output head is no copy of the embeddings, where training made it another."""
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = False
        model.config.get_text_config().tie_word_embeddings = False
