"""Fixtures that every test area shares."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

# Models and tables of the tests are so small that a second thread costs more than it gives. NumPy reads this, too.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from PIL import Image

from mulcot_rd.kept import file_hashes, write_manifest
from mulcot_rd.models import (
    FAMILIES,
    AdapterParameters,
    BackboneParameters,
    TinySize,
    attach_adapter,
    backbone,
    load_backbone,
    parameter_numbers,
)
from mulcot_rd.models.checkpoint import location_below, prepare_checkpoint
from mulcot_rd.models.inputs import input_settings
from mulcot_rd.schema import InputView, Post, Sentiment, TeacherRecord

# Some tests send interruptions, which a shell has ignored by what it runs in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests compare bytes, and tiny models gain nothing from a GPU: those that need one move there themselves.
backbone.device_at_hand = lambda: torch.device("cpu")
torch.set_num_threads(1)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real research data beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data sets (../shared/data beside the checkout) are not on this machine")
    return SHARED_DATA


TEXTS = (
    "A sunny morning at Maple Lake, I love it",
    "Terrible queue at the Harbour Grill, what a waste of time",
    "The Glass Orchard opens on Tuesday at ten",
    "Just what I needed, another wonderful evening at Fern Valley",
    "Kingsport City has announced its new team",
    "Great food, grim weather, but Juniper Road was worth it",
)
ASPECTS = ("Maple Lake", "Harbour Grill", "Glass Orchard", "Fern Valley", "Kingsport City", "Juniper Road")
LABELS = (
    Sentiment.POSITIVE,
    Sentiment.NEGATIVE,
    Sentiment.NEUTRAL,
    Sentiment.NEGATIVE,
    Sentiment.NEUTRAL,
    Sentiment.POSITIVE,
)
COLOURS = ("gold", "dimgray", "tan", "black", "silver", "skyblue")
TINY = TinySize(
    hidden_size=32,
    intermediate_size=64,
    layers=2,
    heads=4,
    key_value_heads=2,
    vision_hidden_size=32,
    vision_layers=2,
    vision_heads=4,
    initializer_range=0.15,
    head_rows=64,
)
QWEN_ADAPTER = AdapterParameters(
    lora_dropout=0.1,
    target_modules=["qkv"],
    modules_to_save=["language_model", "lm_head", "patch_embed", "pos_embed", "merger"],
)
TINY_ADAPTERS = {
    "bert2bert": AdapterParameters(full=True),
    "flan_t5": AdapterParameters(full=True),
    "qwen2_5_vl": QWEN_ADAPTER,
    "qwen3_vl": QWEN_ADAPTER,
    "smolvlm": AdapterParameters(
        lora_dropout=0.1,
        target_modules=["fc1"],
        modules_to_save=["text_model", "lm_head", "patch_embedding", "position_embedding", "connector"],
    ),
}


@pytest.fixture(scope="session")
def posts(tmp_path_factory) -> list[Post]:
    """Six posts with images of one colour each, and captions that say so."""
    folder = tmp_path_factory.mktemp("images")
    made = []
    for number, (text, aspect, label, colour) in enumerate(zip(TEXTS, ASPECTS, LABELS, COLOURS, strict=True)):
        path = folder / f"{number}.png"
        Image.new("RGB", (40 + 9 * number, 50), colour).save(path)
        made.append(
            Post(
                id=f"p{number}",
                split="train",
                text=text,
                aspect=aspect,
                image=str(path),
                label=label,
                caption=f"A picture that is {colour} all over.",
            )
        )
    return made


@pytest.fixture(scope="session")
def reasonings(posts) -> list[TeacherRecord]:
    """A teacher's reasoning of each post, of different lengths."""
    return [
        TeacherRecord(
            id=post.id,
            stage=1,
            label=post.label,
            attempts=1,
            model="made up",
            text_analysis=f"The text speaks of {post.aspect}." + " It says more." * number,
            image_analysis="The image has one colour.",
            conflict_resolution="There is no conflict.",
            final_conclusion=f"The feeling toward {post.aspect} is {post.label.value}.",
            prediction=post.label,
        )
        for number, post in enumerate(posts)
    ]


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def family_name(request) -> str:
    """Every family in turn."""
    return request.param


@pytest.fixture(scope="session")
def backbone_parameters(family_name) -> BackboneParameters:
    """A very small backbone of the family."""
    return BackboneParameters(
        family=family_name, model=None, tiny=TINY, dtype="float32", adapter=TINY_ADAPTERS[family_name]
    )


@pytest.fixture(scope="session")
def plain_logits() -> Callable[..., torch.Tensor]:
    """The family's own forward pass over one prompt and what follows it: no branches, no masks, no positions."""

    def logits(model, encoder, prefix, branch, image):
        """Logits at every position of ``branch``, [tokens, columns]."""
        if encoder.family.encoder_decoder:
            ids, own = torch.tensor([prefix]), torch.tensor([branch])
            return model(input_ids=ids, decoder_input_ids=own).logits[0]
        ids = torch.tensor([[*prefix, *branch]])
        kwargs = encoder.family.forward_kwargs(encoder.image_positions(ids), encoder.images([image]))
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **kwargs).logits[0, len(prefix) :]

    return logits


@pytest.fixture(scope="session")
def checkpoint(backbone_parameters, posts, reasonings, tmp_path_factory) -> dict:
    """Its checkpoint on disk."""
    models = tmp_path_factory.mktemp("models")
    return prepare_checkpoint(backbone_parameters, posts, reasonings, vocabulary_size=500, seed=1, models=models)


def write_trained(model, parameters: BackboneParameters, checkpoint: dict, folder: Path, *, image_size=56) -> Path:
    """A folder as training leaves it, with weights that are other than the base model's."""
    trained = attach_adapter(model, parameters.adapter, 5)
    with torch.no_grad():
        for index, parameter in enumerate(p for p in trained.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) * 0.05)
    trained.save_pretrained(folder)
    manifest = {
        "fingerprint": "a test's",
        "role": "student",
        "trained": True,
        "weights": "a test's",
        "files": file_hashes(folder),
        "base": location_below(checkpoint, folder.parent),
        "backbone": parameters.model_dump(),
        "inputs": input_settings(image_size, InputView()),
        "config": {"method": {"tasks": ["label", "reasoning"]}, "backbone": parameters.model_dump(), "seed": 1},
        "training_rows": len(LABELS),
        "parameters": dict(zip(("total", "trainable"), parameter_numbers(trained), strict=True)),
        "best_epoch": 1,
        "best_dev_score": 0.5,
        "validation": {"metric": "accuracy"},
        "versions": {"mulcot_rd": "0.1.0"},
    }
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="session")
def student(backbone_parameters, checkpoint) -> Path:
    """The folder of a trained model."""
    folder = Path(checkpoint["location"]).parents[1] / "student"
    model = load_backbone(backbone_parameters, checkpoint["location"]).model
    return write_trained(model, backbone_parameters, checkpoint, folder)
