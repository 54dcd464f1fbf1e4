"""What is trained of a model: low-rank adapters through peft (paper, Appendix D.3), or all of it (Appendix G)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from pydantic import Field
from transformers import PreTrainedModel

from mulcot_rd.schema import Record

# A model with an adapter, or one that is trained whole.
TrainedModel: TypeAlias = PeftModel | PreTrainedModel

ADAPTER_CONFIG, ADAPTER_WEIGHTS, MODEL_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "model.safetensors"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class AdapterParameters(Record):
    """What is trained of a model (paper, Appendix D.3 and Table 10; Appendix G)."""

    full: bool = Field(
        False,
        description="Train every parameter instead of an adapter, and keep the whole model; nothing below applies "
        "then (Flan-T5, Appendix G)",
    )
    r: int = Field(16, ge=1, description="LoRA rank r (Appendix D.3)")
    lora_alpha: int = Field(32, ge=1, description="LoRA scaling factor alpha (Appendix D.3)")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the low-rank matrices, share of units")
    target_modules: list[str] = Field(
        list(PROJECTIONS),
        min_length=1,
        description="Linear layers with these names get an adapter wherever they occur (gives Table 10)",
    )
    modules_to_save: list[str] = Field(
        [],
        description="Modules with these names are trained whole and kept with the adapter; a randomly initialised "
        "small model learns little through low-rank updates of random weights alone. Empty in the paper",
    )


def lora_config(parameters: AdapterParameters) -> LoraConfig:
    """The peft configuration of these parameters; no bias is trained."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=parameters.r,
        lora_alpha=parameters.lora_alpha,
        lora_dropout=parameters.lora_dropout,
        target_modules=parameters.target_modules,
        modules_to_save=parameters.modules_to_save or None,
        bias="none",
    )


def attach_adapter(model: PreTrainedModel, parameters: AdapterParameters, seed: int) -> TrainedModel:
    """Freeze ``model`` and add a fresh adapter, its random half drawn from ``seed``; or free all its parameters."""
    if parameters.full:
        return model.requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, lora_config(parameters))


def load_adapter(model: PreTrainedModel, folder: Path, *, trainable: bool = False) -> TrainedModel:
    """The trained model of ``folder``, dropout off: its adapter on ``model``, or all its own.

    Args:
        model: The family's model as it was before training.
        folder: Where the trained one was saved.
        trainable: Whether it is trained on; if not, it is frozen.
    """
    if trained_weights(folder).name == ADAPTER_WEIGHTS:
        return PeftModel.from_pretrained(model, folder, is_trainable=trainable).eval()
    whole = type(model).from_pretrained(folder, config=model.config, dtype=model.dtype, use_safetensors=True)
    return whole.to(model.device).requires_grad_(trainable).eval()


def trained_weights(folder: Path) -> Path:
    """The file of a trained model's weights: that of its adapter, or of the model where it was trained whole."""
    whole = folder / MODEL_WEIGHTS
    return whole if whole.exists() else folder / ADAPTER_WEIGHTS


def parameter_numbers(model: TrainedModel) -> tuple[int, int]:
    """Parameters of a model that is ready to train, adapter included, and how many of them are trained."""
    if isinstance(model, PeftModel):
        trainable, total = model.get_nb_trainable_parameters()
        return total, trainable
    return model.num_parameters(), model.num_parameters(only_trainable=True)


def without_adapter(model: TrainedModel) -> PreTrainedModel:
    """Merge LoRA into the weights and drop the adapter."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


@contextmanager
def merged_adapter(model: TrainedModel) -> Iterator[None]:
    """Merge LoRA into the weights while inside, so that a layer is one product instead of three.

    The weights come back to the last bit: they are kept in main memory, since subtracting an update again would not
    give back what it was added to.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    kept = [layer.get_base_layer().weight.detach().to("cpu", copy=True) for layer in layers]
    try:
        for layer in layers:
            layer.merge()
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.get_base_layer().weight.data.copy_(weight)
            layer.merged_adapters.clear()
