"""Parameter counts of the full-size models from their dimensions alone (paper, Table 10)."""

import json
from importlib.resources import files
from typing import Any

import torch

from mulcot_rd.models.family import Family
from mulcot_rd.models.lora import AdapterParameters
from mulcot_rd.models.registry import FAMILIES


def parameter_counts(backbone_id: str) -> tuple[int, int]:
    """Total and trainable parameters under the paper's LoRA, or trained whole, without weights (Table 10, Appendix G).

    The model is built on the meta device from the dimensions kept under ``configs/``.

    Args:
        backbone_id: Hub id such as ``Qwen/Qwen2.5-VL-3B-Instruct``, or its short form ``Qwen2.5-VL-3B``.

    Returns:
        Number of parameters, adapter included, and how many of them are trained.

    Raises:
        ValueError: If no dimensions are kept for that id; the message lists those there are.
    """
    family, dimensions = kept_dimensions(backbone_id)
    with torch.device("meta"):
        model = family.model_class(family.config_class(**dimensions))
    own = model.num_parameters()
    if family.trained_whole:
        return own, own
    # Counted, not attached: peft takes a second a model for that.
    adapter = AdapterParameters()
    layers = [module for name, module in model.named_modules() if name.rpartition(".")[2] in adapter.target_modules]
    trained = sum(adapter.r * (layer.in_features + layer.out_features) for layer in layers)
    return own + trained, trained


def kept_dimensions(backbone_id: str) -> tuple[Family, dict[str, Any]]:
    """The family of a full-size model and its dimensions, as kept under ``configs/``.

    Args:
        backbone_id: Hub id such as ``Qwen/Qwen2.5-VL-3B-Instruct``, or its short form ``Qwen2.5-VL-3B``.

    Returns:
        The family, and what its configuration class takes.

    Raises:
        ValueError: If no dimensions are kept for that id; the message lists those there are.
    """
    known = {hub_id: family for family in FAMILIES.values() for hub_id in family.full_configs}
    names = {alias: hub_id for hub_id in known for alias in _aliases(hub_id)}
    if backbone_id not in names:
        raise ValueError(f'no dimensions are kept for "{backbone_id}"; there are: {", ".join(sorted(known))}')
    family = known[names[backbone_id]]
    text = (files(__package__) / "configs" / family.full_configs[names[backbone_id]]).read_text(encoding="utf-8")
    return family, json.loads(text)


def _aliases(hub_id: str) -> tuple[str, ...]:
    name = hub_id.rpartition("/")[2]
    return hub_id, name, name.removesuffix("-Instruct")
