"""Hashes of a run's parameters: by them reports tell which runs differ in their seed alone, or in one part alone."""

from collections.abc import Mapping
from typing import Any

from mulcot_rd.fingerprint import fingerprint, flat
from mulcot_rd.preference import MODELS
from mulcot_rd.preference.parameters import PairParameters
from mulcot_rd.training.identity import BACKBONE_WITHOUT_EFFECT, OPTIMISATION_WITHOUT_EFFECT
from mulcot_rd.training.parameters import OptimisationParameters

_WITHOUT_EFFECT = BACKBONE_WITHOUT_EFFECT - {"model", "revision"} | OPTIMISATION_WITHOUT_EFFECT
# A value that a later version adds counts where it is another than the default.
_USUAL = OptimisationParameters().model_dump(mode="json")
# What reasonings depend on; a server's name for a model may hold the seed.
_WRITES = ("max_new_tokens", "max_retries", "retry_temperature", "retry_top_p", "backend")


def training_parameters(config: Mapping[str, Any]) -> str:
    """A hash of the parameters that the models were trained with, but for the seed.

    Args:
        config: What :func:`mulcot_rd.reporting.run_config.run_config` gives.
    """
    parts = {
        role: {part: config[role].get(part) or {} for part in ("backbone", "training", "inputs")}
        for role in MODELS
        if role in config
    }
    values = flat(parts)
    return fingerprint({name: values[name] for name in values if name.rpartition(".")[2] not in _WITHOUT_EFFECT})


def shared_parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the parameters that variants share, by part of the method; a part that the run is without has none.

    Neither seeds nor what a variant changes enter: the input view, and the weights of the tasks.

    Args:
        config: What :func:`mulcot_rd.reporting.run_config.run_config` gives.
    """
    student = config["student"]
    parts: dict[str, Any] = {
        role: {
            "backbone": _counting(config[role]["backbone"]),
            "optimisation": _counting(config[role]["training"]["optimisation"], _USUAL),
            "image_size": config[role]["inputs"]["image_size"],
        }
        for role in ("assistant", "student")
        # Others were not trained.
        if "training_rows" in config[role]
    }
    if soft_labels := student.get("soft_labels"):
        weights = student["training"]["weights"]
        parts["soft_labels"] = [soft_labels, weights["kd_ratio"], weights["temperature"]]
    if generation := config["expansion"].get("generation"):
        parts["expansion"] = {name: generation[name] for name in generation if name in _WRITES}
    if pairs := config.get("preference_pairs"):
        parts["preference_pairs"] = {name: pairs[name] for name in pairs if name in PairParameters.model_fields}
    return {name: fingerprint(part) for name, part in parts.items()}


def _counting(parameters: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Those that a training depends on, less what has its usual value."""
    counting = {name: value for name, value in parameters.items() if name not in _WITHOUT_EFFECT}
    return {name: value for name, value in counting.items() if usual is None or value != usual.get(name)}
