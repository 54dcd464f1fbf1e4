"""Low-rank adapters through peft (paper, Appendix D.3)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedModel

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class AdapterParameters(BaseModel):
    """What is trained of a model (paper, Appendix D.3 and Table 10)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1, description="LoRA rank r (Appendix D.3)")
    alpha: int = Field(32, ge=1, description="LoRA scaling factor alpha (Appendix D.3)")
    dropout: float = Field(ge=0, lt=1, description="Dropout before the low-rank matrices, share of units")
    target_modules: list[str] = Field(
        list(PROJECTIONS),
        min_length=1,
        description="Linear layers with these names get an adapter wherever they occur (gives Table 10)",
    )
    fully_trained_modules: list[str] = Field(
        [],
        description="Modules with these names are trained whole and kept with the adapter; a randomly initialised "
        "small model learns little through low-rank updates of random weights alone. Empty in the paper",
    )


def lora_config(parameters: AdapterParameters) -> LoraConfig:
    """The peft configuration of these parameters; no bias is trained."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=parameters.rank,
        lora_alpha=parameters.alpha,
        lora_dropout=parameters.dropout,
        target_modules=parameters.target_modules,
        modules_to_save=parameters.fully_trained_modules or None,
        bias="none",
    )


def attach_adapter(model: PreTrainedModel, parameters: AdapterParameters, seed: int) -> PeftModel:
    """Freeze ``model`` and add a fresh adapter, its random half drawn from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, lora_config(parameters))


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Add the trained adapter of ``folder`` for inference: frozen, dropout off."""
    return PeftModel.from_pretrained(model, folder, is_trainable=False).eval()


@contextmanager
def merged_adapter(model: PeftModel | PreTrainedModel, merge: bool = True) -> Iterator[None]:
    """While inside, the low-rank updates are part of the weights, so that a layer is one product instead of three.

    The weights come back to the last bit: they are kept in main memory, since subtracting an update again would not
    give back what it was added to.

    Args:
        model: Model with or without adapter.
        merge: ``False`` leaves everything as it is.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)] if merge else []
    kept = [layer.get_base_layer().weight.detach().to("cpu", copy=True) for layer in layers]
    try:
        for layer in layers:
            layer.merge()
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.get_base_layer().weight.data.copy_(weight)
            layer.merged_adapters.clear()
