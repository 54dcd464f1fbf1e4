"""The sizes of a model that its cost depends on, taken from the meta device: no weights are loaded."""

from dataclasses import dataclass
from functools import partial

import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import PretrainedConfig

from mulcot_rd.errors import UserError
from mulcot_rd.models import BackboneParameters, Family, base_model, family_named
from mulcot_rd.models.backbone import check_family, from_checkpoint
from mulcot_rd.models.counts import kept_dimensions
from mulcot_rd.models.lora import TrainedModel, attach_adapter, parameter_numbers
from mulcot_rd.models.tiny import chat_tokenizer
from mulcot_rd.parameters import InputParameters


@dataclass
class Stack:
    """Layers of one kind: the text model (or decoder), an encoder, or the vision tower. Sums are over all layers."""

    layers: int
    width: int  # units of the hidden state
    weights: int = 0  # of the products that are no adapter's: what reading a position takes
    trained: int = 0  # weights that are trained, adapters among them
    outputs: int = 0  # units that these products put out
    adapter_inputs: int = 0  # units that low-rank adapters read
    whole_inputs: int = 0  # units read by weights that are trained whole
    queries: int = 0  # units of all queries
    keys_values: int = 0  # units of all keys and values
    widest: int = 0  # most units that one product puts out

    @property
    def trained_whole(self) -> bool:
        """Whether the weights themselves are trained."""
        return self.whole_inputs > 0

    @property
    def adapter(self) -> int:
        """Weights of an adapter."""
        return 0 if self.trained_whole else self.trained

    @property
    def both_ways(self) -> int:
        """FLOPs of a position, forward and backward, without attention."""
        return (6 if self.trained_whole else 4) * self.weights + 6 * self.adapter


@dataclass(frozen=True)
class Shape:
    """What a role's model costs by."""

    name: str  # hub id, path, or "tiny"
    total: int  # parameters, adapter included
    trained: int  # parameters that are trained (Table 10)
    item: int  # bytes of a frozen weight and of an activation; trained weights have 4
    vocabulary: int  # columns of the output head
    text: Stack  # the text model, or the decoder
    encoder: Stack | None
    vision: Stack | None  # where the input view has an image
    image_tokens: int  # positions of the text model that an image takes
    patches: int  # positions of the vision tower that an image takes
    feature_layers: int  # layers of the text model that read an image's features: the first, and those of DeepStack

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.vocabulary * self.text.width


def meta_model(parameters: BackboneParameters, vocabulary_size: int) -> tuple[Family, TrainedModel]:
    """A role's model with its adapter on the meta device; ``vocabulary_size`` is that of a tiny model alone."""
    family = family_named(parameters.family)
    with torch.device("meta"):
        model = family.model_class(_config(family, parameters, vocabulary_size))
        return family, attach_adapter(model, parameters.adapter, seed=0)


def model_shape(parameters: BackboneParameters, inputs: InputParameters) -> Shape:
    """The sizes of a role's model (Table 10).

    Raises:
        WeightsError: If ``parameters.model`` is neither one of the project's models nor a checkpoint at hand.
    """
    # Architectures share models. Their parameters hold lists, which can't be hashed.
    key = parameters.model_dump_json(), inputs.model_dump_json()
    if key not in _SHAPES:
        _SHAPES[key] = _built_shape(parameters, inputs)
    return _SHAPES[key]


_SHAPES: dict[tuple[str, str], Shape] = {}


def _built_shape(parameters: BackboneParameters, inputs: InputParameters) -> Shape:
    family, trained = meta_model(parameters, inputs.tiny_vocabulary_size)
    base = base_model(trained)
    config = base.config
    text_config = base.get_decoder().config
    text = Stack(text_config.num_hidden_layers, text_config.hidden_size)
    reader = base.encoder.config if family.encoder_decoder else None
    encoder = None if reader is None else Stack(reader.num_hidden_layers, reader.hidden_size)
    vision, tokens, patches, layers = None, 0, 0, 0
    if family.image_token is not None and inputs.input_view.image:
        tokens, patches = family.image_positions(config, inputs.image_size)
        lists = [m for tower in family.vision_modules(base) for m in tower.modules() if isinstance(m, nn.ModuleList)]
        vision = Stack(max(map(len, lists)), config.vision_config.hidden_size)
        layers = 1 + len(getattr(config.vision_config, "deepstack_visual_indexes", ()))
    in_vision = {id(each) for module in family.vision_modules(base) for each in module.modules()}
    in_encoder = {id(each) for each in base.encoder.modules()} if family.encoder_decoder else set()
    for name, module in trained.named_modules():
        stack = vision if id(module) in in_vision else encoder if id(module) in in_encoder else text
        # Left out: the head, which is counted apart, and the unused original of a module that is trained whole.
        left_out = "lm_head" in name or "original_module" in name or module is base.get_output_embeddings()
        if stack is not None and isinstance(module, nn.Linear) and not left_out:
            _add(stack, name, module)
    total, number = parameter_numbers(trained)
    whole = parameters.adapter.full and parameters.dtype == "auto"
    item = 4 if whole or parameters.dtype == "float32" else 2
    vocabulary = text_config.vocab_size
    return Shape(parameters.name, total, number, item, vocabulary, text, encoder, vision, tokens, patches, layers)


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
    stack.queries += module.out_features if kind in ("q_proj", "q", "query") else 0
    stack.keys_values += module.out_features if kind in ("k_proj", "v_proj", "k", "v", "key", "value") else 0


def _config(family: Family, parameters: BackboneParameters, vocabulary_size: int) -> PretrainedConfig:
    location, revision = parameters.model, parameters.revision
    if location is None and parameters.encoder is not None:
        return family.config_from_encoder(parameters.encoder.folder, parameters.encoder.layers)
    if location is None and parameters.tiny is not None:
        ids = {token: number for number, token in enumerate(family.chat.special)}
        ids |= {f"w{number}": number for number in range(len(ids), vocabulary_size)}
        return family.tiny_config(parameters.tiny, chat_tokenizer(Tokenizer(models.WordLevel(ids)), family.chat))
    if location is None:
        raise UserError("a backbone has none of model, encoder and tiny: give it one of them")
    if location in family.full_configs:
        return family.config_class(**kept_dimensions(location)[1])
    check_family(family, location, revision)
    load = partial(family.config_class.from_pretrained, location, revision=revision)
    return from_checkpoint(location, revision, load)
