"""The model card, ``README.md`` of a trained model: from its manifest, and what the evaluation of its run found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, try_to_load_from_cache
from jinja2 import Environment, PackageLoader, StrictUndefined

from mulcot_rd.models.backbone import PretrainedEncoder, looks_local
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.numbers import interval_text, percent_text
from mulcot_rd.reasoning import ANSWER_PREFIXES
from mulcot_rd.schema import TemperatureRecord

CARD = "README.md"
# Files of an exported model.
PROMPT = "prompt_"
_SCORES = (
    *("accuracy", "weighted_f1", "macro_f1", "majority_accuracy", "valid_rate", "agreement"),
    *("reasoning_accuracy", "reasoning_macro_f1", "reasoning_valid_rate"),
    *("sim", "meteor", "bleu", "rouge_l", "dist_1", "dist_2"),
)
_PARAMETERS = ("training", "inputs", "method", "soft_labels", "seed")
_TEMPLATES = Environment(
    loader=PackageLoader(__name__, ""), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def model_card(manifest: Mapping[str, Any], encoder: InputEncoder, temperature: TemperatureRecord | None = None) -> str:
    """The card of a trained or exported model, with the hub's YAML front matter; what is not known is left out.

    Args:
        manifest: The model's. Its ``evaluation``, of :mod:`mulcot_rd.models.evaluation`, gives the scores.
        encoder: Makes the model's inputs.
        temperature: What the scores of its labels are divided by.
    """
    backbone, evaluation = manifest["config"]["backbone"], manifest.get("evaluation")
    model, adapter, reads = backbone["model"], manifest["backbone"]["adapter"], encoder.reads
    name, checkpoint = Path(model).name if model and looks_local(model) else model, model
    if backbone.get("encoder"):
        encoder_below = PretrainedEncoder.model_validate(backbone["encoder"])
        name, checkpoint = encoder_below.name, str(encoder_below.folder)
    licence = None if checkpoint is None else _license(checkpoint, backbone["revision"])
    adapted = manifest["trained"] and not manifest.get("merged") and not adapter["full"]
    front_matter = ModelCardData(
        base_model=None if model is None or looks_local(model) else model,
        library_name="peft" if adapted else "transformers",
        license=licence,
        pipeline_tag="image-text-to-text" if "image" in reads else None,
        datasets=[evaluation["run"]["dataset"]] if evaluation else None,
        metrics=["accuracy", "f1"] if evaluation else None,
    )
    # Earlier versions did not write it, nor is it known of a model that was not trained.
    evaluated_on = ["aspect"] if evaluation and evaluation["run"]["aspects"] else ["post"]
    asked_about = manifest.get("asked_about", evaluated_on)
    asked = [*reads, *(["aspect"] if "aspect" in asked_about else [])]
    card = _TEMPLATES.get_template("card.md.j2").render(
        manifest=manifest,
        front_matter=front_matter.to_yaml(),
        name=name,
        revision=backbone["revision"],
        license=licence,
        adapter=adapter,
        adapted=adapted,
        reads=reads,
        asked_about=asked_about,
        call=", ".join(f'{name}="{"photo.jpg" if name == "image" else "..."}"' for name in asked),
        prompts=[name for name in manifest["files"] if name.startswith(PROMPT)],
        family=encoder.family,
        decoder_prefixes=[ANSWER_PREFIXES[task] for task in manifest["config"]["method"]["tasks"]],
        dev_score=percent_text(manifest["best_dev_score"]) if manifest["trained"] else None,
        evaluation=evaluation,
        scores=_scores(evaluation["scores"]) if evaluation else [],
        temperature=temperature,
        parameters=yaml.safe_dump(
            {name: manifest["config"][name] for name in _PARAMETERS if name in manifest["config"]}, sort_keys=False
        ).strip(),
    )
    return f"{card}\n"


def _scores(scores: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and interval of each score, in percent; of Sim too, a cosine."""
    intervals = scores.get("intervals", {})
    return [
        (
            name,
            percent_text(scores[name]),
            interval_text(*intervals[name]) if name in intervals else "",
        )
        for name in _SCORES
        if scores.get(name) is not None
    ]


def _license(model: str, revision: str | None) -> str | None:
    """The licence that the card of a checkpoint names, as far as it is on this machine."""
    path = f"{model}/{CARD}" if looks_local(model) else try_to_load_from_cache(model, CARD, revision=revision)
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    return ModelCard(Path(path).read_text(encoding="utf-8"), ignore_metadata_errors=True).data.get("license")
