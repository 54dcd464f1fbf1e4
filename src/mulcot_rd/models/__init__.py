"""Backbones: families, loading, tiny models, low-rank adapters."""

from mulcot_rd.models.backbone import (
    Backbone,
    BackboneParameters,
    WeightsError,
    check_family,
    custom_checkpoints,
    device_at_hand,
    load_backbone,
    load_processor,
    looks_local,
)
from mulcot_rd.models.counts import parameter_counts
from mulcot_rd.models.family import Family, TinySize
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.lora import (
    AdapterParameters,
    TrainedModel,
    attach_adapter,
    load_adapter,
    parameter_numbers,
    trained_weights,
)
from mulcot_rd.models.registry import FAMILIES, family_named
from mulcot_rd.models.tiny import build_tiny_checkpoint, train_tokenizer

__all__ = [
    "FAMILIES",
    "AdapterParameters",
    "Backbone",
    "BackboneParameters",
    "Family",
    "TinySize",
    "TrainedModel",
    "WeightsError",
    "attach_adapter",
    "base_model",
    "build_tiny_checkpoint",
    "check_family",
    "custom_checkpoints",
    "device_at_hand",
    "family_named",
    "load_adapter",
    "load_backbone",
    "load_processor",
    "looks_local",
    "parameter_counts",
    "parameter_numbers",
    "train_tokenizer",
    "trained_weights",
]
