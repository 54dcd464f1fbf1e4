"""BERT as encoder and decoder, from the weights of all-MiniLM-L6-v2."""

import json

import pytest
import torch
from transformers import AutoModel

from mulcot_rd.errors import UserError
from mulcot_rd.minilm import minilm_folder
from mulcot_rd.models import AdapterParameters, BackboneParameters, load_backbone
from mulcot_rd.models.backbone import PretrainedEncoder
from mulcot_rd.models.card import model_card
from mulcot_rd.models.checkpoint import prepare_checkpoint
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import parse, write


def parameters(layers: int) -> BackboneParameters:
    return BackboneParameters(
        family="bert2bert",
        model=None,
        encoder=PretrainedEncoder(layers=layers),
        dtype="float32",
        adapter=AdapterParameters(full=True),
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def whole(models):
    """With all six layers."""
    made = prepare_checkpoint(parameters(6), [], [], vocabulary_size=1, seed=1, models=models)
    return load_backbone(parameters(6), made["location"])


@pytest.fixture(scope="module")
def encoder(whole):
    return InputEncoder(whole.family, whole.processor, 56)


def test_the_encoder_reads_as_the_pretrained_one(whole, encoder, posts):
    prefix = encoder.prompt(posts[0], "label").prefix
    start, end = encoder.tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    assert (prefix[0], prefix[-1]) == (start, end)
    # Without line breaks, which are new.
    ids = torch.tensor([[token for token in prefix if token < 30522]])
    pretrained = AutoModel.from_pretrained(minilm_folder()).eval()
    with torch.no_grad():
        torch.testing.assert_close(whole.model.encoder(ids).last_hidden_state, pretrained(ids).last_hidden_state)


def test_a_student_keeps_layers_spread_over_all_and_the_same_seed_gives_the_same_files(whole, models, tmp_path):
    made = prepare_checkpoint(parameters(3), [], [], vocabulary_size=1, seed=1, models=models)
    again = prepare_checkpoint(parameters(3), [], [], vocabulary_size=1, seed=1, models=tmp_path)
    other = prepare_checkpoint(parameters(3), [], [], vocabulary_size=1, seed=2, models=tmp_path)
    assert made["fingerprint"] == again["fingerprint"] != other["fingerprint"]
    few, same, drawn = (load_backbone(parameters(3), each["location"]).model for each in (made, again, other))
    for number, layer in enumerate(few.encoder.encoder.layer):
        kept = whole.model.encoder.encoder.layer[2 * number]
        assert torch.equal(layer.output.dense.weight, kept.output.dense.weight)
    crossed = [m.decoder.bert.encoder.layer[0].crossattention.self.query.weight for m in (few, same, drawn)]
    assert torch.equal(crossed[0], crossed[1])
    assert not torch.equal(crossed[0], crossed[2])


def test_only_what_is_new_is_drawn(whole):
    own = dict(whole.model.encoder.named_parameters())
    new = [
        name
        for name, value in whole.model.decoder.bert.named_parameters()
        if name not in own or not torch.equal(value, own[name])
    ]
    assert new
    assert all("crossattention" in name for name in new)
    assert whole.model.lm_head.weight is whole.model.decoder.bert.embeddings.word_embeddings.weight


@pytest.mark.parametrize(
    "text",
    [
        "it's what he calls 'well-known', isn't it?",
        'she said "love" (twice) and left.',
        "a # tag, a #tag and a - b",
        "50% of $9 in 'a/b' [see 1]",
    ],
)
def test_text_comes_back_with_its_spaces_and_without_its_capitals(encoder, reasonings, text):
    reasoning = reasonings[0].reasoning.model_copy(update={"text_analysis": text.capitalize()})
    answer = encoder.answer(encoder.target(write(reasoning), "reasoning"), "reasoning")
    assert parse(answer).text_analysis == text
    assert parse(answer).prediction == reasoning.prediction


def test_real_reasonings_come_back(encoder, shared_data):
    """A few in a hundred have signs that BERT's vocabulary lacks."""
    path = shared_data / "twitter2015" / "teacher_reasoning_qwen2.5-vl-72b.jsonl"
    read = [parse(json.loads(line)["cot"]) for line in path.read_text(encoding="utf-8").splitlines()]
    written = [write(reasoning) for reasoning in read if not reasoning.problems]
    same = [encoder.answer(encoder.target(text, "reasoning"), "reasoning").lower() == text.lower() for text in written]
    assert sum(same) / len(same) > 0.9


def test_the_prompt_is_the_post_alone(encoder, posts):
    for task in TASKS:
        text = encoder.tokenizer.decode(encoder.prompt(posts[3], task).prefix, skip_special_tokens=True)
        assert text.splitlines() == [
            f'post: "{posts[3].text.lower()}"',
            f'image: "{posts[3].caption.lower()}"',
            f'aspect: "{posts[3].aspect.lower()}"',
        ]


def test_a_post_that_is_too_long_is_named(encoder, posts):
    with pytest.raises(UserError, match=r"post p0 takes \d+ tokens, and models of the family bert2bert hold 512"):
        encoder.prompt(posts[0].model_copy(update={"text": "word " * 600}), "label")


def test_other_families_do_not_start_from_an_encoder(models):
    wrong = parameters(3).model_copy(update={"family": "qwen3_vl"})
    with pytest.raises(UserError, match="family qwen3_vl don't start from an encoder"):
        prepare_checkpoint(wrong, [], [], vocabulary_size=1, seed=1, models=models)


def test_the_card_names_the_encoder_and_its_licence(encoder):
    backbone = parameters(3).model_dump()
    manifest = {
        "role": "student",
        "trained": False,
        "backbone": backbone,
        "inputs": encoder.settings,
        "config": {"backbone": backbone, "method": {"tasks": ["label"]}},
        "files": {},
    }
    card = model_card(manifest, encoder)
    assert "| base model | all-MiniLM-L6-v2, 3 + 3 layers |" in card
    assert "The base model, all-MiniLM-L6-v2, 3 + 3 layers, has the licence apache-2.0." in card
    assert "tiny model" not in card
