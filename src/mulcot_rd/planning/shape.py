"""The sizes of a model that its cost depends on, taken from the meta device: no weights are loaded."""

from dataclasses import dataclass
from functools import partial

import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import PretrainedConfig

from mulcot_rd.models import BackboneParameters, Family, base_model, family_named
from mulcot_rd.models.backbone import from_checkpoint
from mulcot_rd.models.counts import kept_dimensions
from mulcot_rd.models.lora import TrainedModel, attach_adapter, parameter_numbers
from mulcot_rd.models.tiny import chat_tokenizer
from mulcot_rd.parameters import InputParameters


@dataclass
class Stack:
    """Layers of one kind: the text model (or decoder), an encoder, or the vision tower. Sums are over all layers.

    Attributes:
        weights: Weights of the products that are no adapter's: what reading a position takes.
        trained: Weights that are trained, adapters among them.
        outputs: Units that these products put out.
        adapter_inputs: Units that low-rank adapters read.
        whole_inputs: Units read by weights that are trained whole.
        queries: Units of all queries.
        keys_values: Units of all keys and values.
        widest: Most units that one product puts out.
        layers: Number of layers.
        width: Units of the hidden state.
    """

    layers: int
    width: int
    weights: int = 0
    trained: int = 0
    outputs: int = 0
    adapter_inputs: int = 0
    whole_inputs: int = 0
    queries: int = 0
    keys_values: int = 0
    widest: int = 0

    @property
    def trained_whole(self) -> bool:
        """Whether the weights themselves are trained."""
        return self.whole_inputs > 0


@dataclass(frozen=True)
class Shape:
    """What a role's model costs by.

    Attributes:
        name: Hub id, path, or "tiny".
        total: Parameters, adapter included.
        trained: Parameters that are trained (Table 10).
        item: Bytes of a frozen weight and of an activation; trained weights have 4.
        vocabulary: Columns of the output head.
        text: The text model, or the decoder.
        encoder: The encoder, where there is one.
        vision: The vision tower, where the input view has an image.
        image_tokens: Positions of the text model that an image takes.
        patches: Positions of the vision tower that an image takes.
    """

    name: str
    total: int
    trained: int
    item: int
    vocabulary: int
    text: Stack
    encoder: Stack | None
    vision: Stack | None
    image_tokens: int
    patches: int

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.vocabulary * self.text.width


def meta_model(parameters: BackboneParameters, vocabulary_size: int) -> tuple[Family, TrainedModel]:
    """A role's model with its adapter on the meta device.

    Args:
        parameters: The role's backbone.
        vocabulary_size: Token ids of a tiny model's tokenizer; a full-size model has its own number.
    """
    family = family_named(parameters.family)
    with torch.device("meta"):
        model = family.model_class(_config(family, parameters, vocabulary_size))
        return family, attach_adapter(model, parameters.adapter, seed=0)


def model_shape(parameters: BackboneParameters, inputs: InputParameters) -> Shape:
    """The sizes of a role's model (Table 10).

    Raises:
        WeightsError: If ``parameters.model`` is neither one of the project's models nor a checkpoint at hand.
    """
    family, trained = meta_model(parameters, inputs.tiny_vocabulary_size)
    base = base_model(trained)
    config = base.config
    text_config = config.get_text_config(decoder=True)
    text = Stack(text_config.num_hidden_layers, text_config.hidden_size)
    encoder = Stack(config.num_layers, config.d_model) if family.encoder_decoder else None
    vision, tokens, patches = None, 0, 0
    if family.image_token is not None and inputs.input_view.image:
        tokens, patches = family.image_positions(config, inputs.image_size)
        lists = [m for tower in family.vision_modules(base) for m in tower.modules() if isinstance(m, nn.ModuleList)]
        vision = Stack(max(map(len, lists)), config.vision_config.hidden_size)
    in_vision = {id(each) for module in family.vision_modules(base) for each in module.modules()}
    in_encoder = {id(each) for each in base.encoder.modules()} if family.encoder_decoder else set()
    for name, module in trained.named_modules():
        stack = vision if id(module) in in_vision else encoder if id(module) in in_encoder else text
        if stack is not None and isinstance(module, nn.Linear) and not _is_left_out(name):
            _add(stack, name, module)
    total, number = parameter_numbers(trained)
    whole = parameters.adapter.full and parameters.dtype == "auto"
    item = 4 if whole or parameters.dtype == "float32" else 2
    name = parameters.model or f"tiny {family.name}"
    return Shape(name, total, number, item, text_config.vocab_size, text, encoder, vision, tokens, patches)


def _is_left_out(name: str) -> bool:
    """The head, which is counted apart, and the unused original of a module that is trained whole."""
    return "lm_head" in name or "original_module" in name


def _add(stack: Stack, name: str, module: nn.Linear) -> None:
    size, trained = module.weight.numel(), module.weight.requires_grad
    stack.trained += size if trained else 0
    if "lora_" in name:
        stack.adapter_inputs += module.in_features if "lora_A" in name else 0
        return
    kind = name.removesuffix(".base_layer").rpartition(".")[2]
    stack.weights += size
    stack.outputs += module.out_features
    stack.widest = max(stack.widest, module.out_features)
    stack.whole_inputs += module.in_features if trained else 0
    stack.queries += module.out_features if kind in ("q_proj", "q") else 0
    stack.keys_values += module.out_features if kind in ("k_proj", "v_proj", "k", "v") else 0


def _config(family: Family, parameters: BackboneParameters, vocabulary_size: int) -> PretrainedConfig:
    if parameters.tiny is not None and parameters.model is None:
        ids = {token: number for number, token in enumerate(family.chat.special)}
        ids |= {f"w{number}": number for number in range(len(ids), vocabulary_size)}
        return family.tiny_config(parameters.tiny, chat_tokenizer(Tokenizer(models.WordLevel(ids)), family.chat))
    if parameters.model in family.full_configs:
        return family.config_class(**kept_dimensions(parameters.model)[1])
    location, revision = parameters.model, parameters.revision
    load = partial(family.config_class.from_pretrained, location, revision=revision)
    return from_checkpoint(location, revision, load)
