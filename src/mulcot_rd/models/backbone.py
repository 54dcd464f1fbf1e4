"""Loading a backbone: full-size by hub id and pinned revision, or any checkpoint by local path."""

import logging
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from mulcot_rd.errors import UserError
from mulcot_rd.files import UserPath
from mulcot_rd.minilm import minilm_folder
from mulcot_rd.models.family import Family, Processor, TinySize, tokenizer_of
from mulcot_rd.models.lora import AdapterParameters
from mulcot_rd.models.registry import FAMILIES, family_named
from mulcot_rd.schema import Record

logger = logging.getLogger(__name__)

LoadedT = TypeVar("LoadedT")

transformers_logging.disable_progress_bar()
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)


class WeightsError(UserError):
    """Model weights that can't be found or loaded; the message says where they were looked for and the cure."""


class PretrainedEncoder(Record):
    """A pretrained encoder from whose weights an encoder-decoder model starts, in both halves."""

    checkpoint: UserPath | None = Field(
        None, description="Folder of its checkpoint; null takes all-MiniLM-L6-v2, which is installed with this package"
    )
    layers: int = Field(ge=1, description="Layers that each half keeps, evenly spread over those there are")

    @property
    def folder(self) -> Path:
        """Where its checkpoint lies.

        Raises:
            WeightsError: If it is not there.
        """
        folder = minilm_folder() if self.checkpoint is None else Path(self.checkpoint)
        if not (folder / "model.safetensors").is_file():
            raise WeightsError(f"there is no checkpoint in {folder}: correct the role's `encoder.checkpoint` parameter")
        return folder

    @property
    def name(self) -> str:
        """How tables name a model that starts from it."""
        name = "all-MiniLM-L6-v2" if self.checkpoint is None else self.folder.name
        return f"{name}, {self.layers} + {self.layers} layers"


class BackboneParameters(Record):
    """Which model plays a role, how it is loaded and what of it is trained (paper, Table 2 and Appendix D.3)."""

    family: str = Field(description="Model family, one of the modules of mulcot_rd.models.families")
    model: UserPath | None = Field(
        description="Hub id, or path of a local checkpoint folder; null builds a model, as `encoder` or `tiny` says"
    )
    revision: str | None = Field(None, description="Commit of the hub repository; null takes the newest")
    tiny: TinySize | None = Field(None, description="Dimensions of a tiny random model to build")
    encoder: PretrainedEncoder | None = Field(None, description="Pretrained encoder to build a model from")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        description="Type of the frozen weights and of the computation; auto is bfloat16 where the device computes in "
        "it, else float32, and float32 for a model that is trained whole"
    )
    attn_implementation: Literal["sdpa", "eager"] = Field(
        "sdpa", description="Attention implementation in transformers; it must take a mask of its own for each row"
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: slower, less memory"
    )
    adapter: AdapterParameters = Field(description="What is trained (Appendix D.3)")

    @model_serializer(mode="wrap")
    def _without_encoder(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``encoder`` where there is none: models trained before it was a parameter are found again."""
        return {name: value for name, value in dump(self).items() if name != "encoder" or value is not None}

    @property
    def name(self) -> str:
        """How tables name the model."""
        built = f"tiny {self.family}" if self.encoder is None else self.encoder.name
        return self.model or built


@dataclass(frozen=True)
class Backbone:
    """A loaded model and what is needed to talk to it.

    Attributes:
        family: The model's family.
        model: The model, without adapter, in evaluation mode.
        processor: Image processor, tokenizer and chat template; a tokenizer alone in text-only families.
    """

    family: Family
    model: PreTrainedModel
    processor: Processor

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The processor's tokenizer."""
        return tokenizer_of(self.processor)


def device_at_hand() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def resolved_dtype(dtype: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """The type that a configured ``dtype`` stands for on a device; the log says why, once.

    A processor without instructions for bfloat16 emulates it, about a hundred times slower than float32.
    """
    if dtype == "float32":
        return torch.float32
    if device.type == "cpu":
        # The names of x86's two kinds of instructions, and of ARM's.
        found = [name for name in ("avx512_bf16", "amx_bf16", "bf16") if torch.cpu.get_capabilities().get(name)]
        fast, why = bool(found), f"this processor has {found[0] if found else 'no instructions for bfloat16'}"
    else:
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        why = f"this GPU {'computes' if fast else 'does not compute'} in bfloat16"
    if dtype == "bfloat16":
        if not fast:
            logger.warning("%s: dtype bfloat16 is very slow here, set the backbone's dtype to auto or float32", why)
        return torch.bfloat16
    logger.info("dtype auto is %s: %s", "bfloat16" if fast else "float32", why)
    return torch.bfloat16 if fast else torch.float32


def load_processor(family: Family, location: str, revision: str | None = None) -> Processor:
    """The processor of a checkpoint.

    Raises:
        WeightsError: If it is not at ``location``, not cached, or not loadable.
    """
    processor = from_checkpoint(location, revision, lambda: family.load_processor(location, revision))
    tokenizer_of(processor).padding_side = "left"
    return processor


def load_backbone(parameters: BackboneParameters, location: str, device: torch.device | None = None) -> Backbone:
    """Load model and processor for a role.

    Args:
        parameters: The role's backbone.
        location: Hub id or local folder: ``parameters.model``, or the folder of the tiny checkpoint.
        device: Where to put the model; by default the GPU where there is one.

    Raises:
        WeightsError: If the weights are not at ``location``, not cached, not loadable, of another family, or not
            complete.
    """
    family = family_named(parameters.family)
    check_family(family, location, parameters.revision)
    device = device or device_at_hand()
    # Steps of a training are lost on weights in bfloat16.
    whole = parameters.adapter.full and parameters.dtype == "auto"
    dtype = resolved_dtype("float32" if whole else parameters.dtype, device)
    model, report = from_checkpoint(
        location,
        parameters.revision,
        lambda: family.model_class.from_pretrained(
            location,
            revision=parameters.revision,
            dtype=dtype,
            attn_implementation=parameters.attn_implementation,
            use_safetensors=True,
            output_loading_info=True,
        ),
    )
    # transformers would draw them at random, each time others.
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(
            f"{location} lacks {len(missing)} weights of a {family.name} model, first {missing[0]}: set the role's "
            "`model` to a whole checkpoint of this family"
        )
    return Backbone(family, model.to(device).eval(), load_processor(family, location, parameters.revision))


def check_family(family: Family, location: str, revision: str | None = None) -> None:
    """Check that a checkpoint is not one of another family, whose weights have other names.

    Raises:
        WeightsError: If it is, or if its configuration can't be loaded.
    """
    load = partial(family.config_class.get_config_dict, location, revision=revision)
    found = from_checkpoint(location, revision, load)[0].get("model_type")
    own = family.config_class.model_type
    others = [other.name for other in FAMILIES.values() if found == other.config_class.model_type != own]
    if others:
        raise WeightsError(
            f"{location} is a checkpoint of the family {others[0]}, and this architecture's model is of {family.name}: "
            "correct the role's `model`, or choose another architecture (`arch`)"
        )


def from_checkpoint(location: str, revision: str | None, load: Callable[[], LoadedT]) -> LoadedT:
    """What ``load`` reads of a checkpoint.

    Raises:
        WeightsError: If it is not at ``location``, not cached, or not loadable.
    """
    if looks_local(location) and not Path(location).is_dir():
        raise WeightsError(f"there is no checkpoint folder {location}: correct the role's `model` parameter")
    try:
        return load()
    except (OSError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        if looks_local(location):
            raise WeightsError(
                f"the checkpoint in {location} can't be loaded ({error}): put a whole checkpoint "
                "there, or correct the role's `model`"
            ) from error
        at = f"{location} (revision {revision})" if revision else location
        download = f"hf download {location} --revision {revision}" if revision else f"hf download {location}"
        raise WeightsError(
            f"the weights of {at} can't be loaded ({type(error).__name__}): download them once with `{download}` on a "
            "machine that reaches the hub, or set the role's `model` to the path of a local checkpoint, or use the "
            "tiny models (`--params scale=tiny`)"
        ) from error


def custom_checkpoints(models: Iterable[str | None]) -> list[str]:
    """The models among these that are none of the architectures' own: folders by their names, others by their ids.

    Whoever reads a score of theirs must know. A tiny model has no name (``None``); its scale tells.
    """
    own = {hub_id for family in FAMILIES.values() for hub_id in family.full_configs}
    others = [model for model in models if model is not None and model not in own]
    return [Path(model).name if looks_local(model) else model for model in others]


def looks_local(location: str) -> bool:
    """Whether a location is meant as a path: absolute, dotted, or with more than one slash."""
    return location.startswith(("/", "./", "../", "~")) or location.count("/") > 1
