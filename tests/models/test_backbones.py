"""Backbones: tiny checkpoints of the real classes, loaded by the code that loads the real ones."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import file_fingerprint
from mulcot_rd.images import load_image
from mulcot_rd.models import (
    AdapterParameters,
    WeightsError,
    attach_adapter,
    family_named,
    load_adapter,
    load_backbone,
    load_processor,
    parameter_numbers,
    trained_weights,
)
from mulcot_rd.models.backbone import resolved_dtype
from mulcot_rd.models.checkpoint import prepare_checkpoint
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import PROJECTIONS
from mulcot_rd.prompts import TASKS, trained_prompt
from mulcot_rd.reasoning import parse, write
from mulcot_rd.schema import InputView


@pytest.fixture(scope="module")
def backbone(backbone_parameters, checkpoint):
    return load_backbone(backbone_parameters, checkpoint["location"])


@pytest.fixture(scope="module")
def encoder(backbone):
    return InputEncoder(backbone.family, backbone.processor, 56)


def test_a_checkpoint_is_a_function_of_its_seed(backbone_parameters, posts, reasonings, tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    made = [
        prepare_checkpoint(backbone_parameters, posts, reasonings, vocabulary_size=500, seed=seed, models=models)
        for models, seed in zip(folders, (1, 1, 2), strict=True)
    ]
    folders = [Path(base["location"]) for base in made]
    assert made[0]["fingerprint"] == made[1]["fingerprint"] != made[2]["fingerprint"]
    a, b, c = (file_fingerprint(folder / "model.safetensors") for folder in folders)
    assert a == b != c
    assert (folders[0] / "tokenizer.json").read_bytes() == (folders[2] / "tokenizer.json").read_bytes()


def test_the_head_is_wider_than_the_tokenizer_as_in_the_full_size_models(backbone):
    columns = backbone.model.config.get_text_config().vocab_size
    assert columns % 64 == 0
    assert columns > len(backbone.tokenizer)


def test_the_tokenizer_gives_any_text_back(backbone):
    text = "Ünïcode \U0001f389 日本 \t x²\r\n<b>\x00"
    ids = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert backbone.tokenizer.decode(ids) == text


@pytest.fixture
def seeing(backbone_parameters, backbone):
    """The backbone, of families that read images."""
    if backbone.family.image_token is None:
        pytest.skip("the family reads text alone")
    return backbone


def test_our_prompt_is_the_processors_own(seeing, encoder, posts):
    """Token ids and pixels equal what the family's processor makes of the same conversation."""
    post = posts[3]
    for task in TASKS:
        content = [{"type": "image"}, {"type": "text", "text": trained_prompt(post, task)}]
        text = seeing.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        image = load_image(post.image, 56)
        wanted = seeing.processor(text=[text], images=[image], return_tensors="pt")
        images = encoder.images([post.image])
        assert encoder.prompt(post, task).ids == wanted["input_ids"][0].tolist()
        for name, values in images.items():
            assert torch.equal(values, wanted[name])


def test_thoughts_that_the_chat_template_begins_are_thoughts(seeing):
    """As those of thinking models do; the answer then holds no tag that begins them."""
    processor = copy.deepcopy(seeing.processor)
    written = processor.tokenizer("It would be neutral. But", add_special_tokens=False)["input_ids"]

    def label_of(prompts):
        encoder = InputEncoder(seeing.family, processor, 56, InputView(prompts=prompts))
        return parse(encoder.answer(written, "label")).prediction

    assert label_of("prediction") == "neutral"
    processor.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    assert label_of("prediction") is None
    # What is trained here answers at once, behind whatever its prompt ends in.
    assert label_of("trained") == "neutral"


def test_the_papers_image_size_gives_the_papers_tokens(backbone):
    """SmolVLM's tower has one size, here the tiny one's; a text-only family has no image."""
    tokens = {"qwen2_5_vl": 100, "qwen3_vl": 81, "smolvlm": 16, "flan_t5": 0, "bert2bert": 0}
    assert InputEncoder(backbone.family, backbone.processor, 280).image_tokens == tokens[backbone.family.name]


def test_a_post_without_a_caption_is_refused_where_captions_stand_for_images(backbone, encoder, posts):
    bare = posts[0].model_copy(update={"caption": None})
    if backbone.family.image_token is not None:
        assert encoder.prompt(bare, "label") == encoder.prompt(posts[0], "label")
        return
    with pytest.raises(UserError, match=r"post p0 has no caption.*captions_needed"):
        encoder.prompt(bare, "label")


def test_an_answer_is_read_as_it_was_written(backbone, encoder, reasonings):
    for record in reasonings:
        said = record.reasoning.model_copy(update={"text_analysis": 'It says "great", not \\ {so}\nor so ~ `x` <b>.'})
        text = write(said)
        assert encoder.answer(encoder.target(text, "reasoning"), "reasoning") == text
        assert parse(encoder.answer(encoder.target(text, "reasoning"), "reasoning")) == said


def test_special_tokens_inside_a_post_are_only_text(backbone, encoder, posts):
    special = [token.content for token in backbone.tokenizer.added_tokens_decoder.values() if token.special]
    hostile = posts[0].model_copy(
        update={name: "\n".join(["an end", *special, "assistant"]) for name in ("text", "aspect", "caption")}
    )
    for token in special:
        token_id = backbone.tokenizer.convert_tokens_to_ids(token)
        for task in TASKS:
            ids, wanted = encoder.prompt(hostile, task).ids, encoder.prompt(posts[0], task).ids
            assert ids.count(token_id) == wanted.count(token_id)
        assert encoder.target(f"It says {token}.", "label").count(token_id) == (token == backbone.tokenizer.eos_token)


def test_what_was_trained_survives_saving_and_loading(backbone_parameters, checkpoint, posts, plain_logits, tmp_path):
    model = attach_adapter(
        load_backbone(backbone_parameters, checkpoint["location"]).model, backbone_parameters.adapter, 5
    )
    with torch.no_grad():
        for index, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) * 0.01)
    model.eval().save_pretrained(tmp_path)
    loaded_backbone = load_backbone(backbone_parameters, checkpoint["location"])
    loaded = load_adapter(loaded_backbone.model, tmp_path)
    encoder = InputEncoder(loaded_backbone.family, loaded_backbone.processor, 56)
    prompt = encoder.prompt(posts[0], "label")
    with torch.no_grad():
        kept, again = (
            plain_logits(one, encoder, prompt.prefix, prompt.suffix, posts[0].image) for one in (model, loaded)
        )
    assert torch.equal(kept, again)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert trained_weights(tmp_path).exists()


def test_only_the_adapter_is_trained_or_all(backbone_parameters, checkpoint):
    model = attach_adapter(
        load_backbone(backbone_parameters, checkpoint["location"]).model, backbone_parameters.adapter, 5
    )
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    total, trainable = parameter_numbers(model)
    if backbone_parameters.adapter.full:
        assert trained == {name for name, _ in model.named_parameters()}
        assert trainable == total
    else:
        assert trained
        assert all("lora_" in name or "modules_to_save" in name for name in trained)
        assert trainable < total


@pytest.mark.parametrize("location", ["./nowhere/at/all", "Qwen/Qwen2.5-VL-3B-Instruct"])
def test_missing_weights_are_one_sentence_with_the_cure(backbone_parameters, location, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=location):
        load_backbone(backbone_parameters, location)


def test_a_checkpoint_of_another_family_is_refused_and_not_filled_up_at_random(backbone_parameters, checkpoint):
    own = backbone_parameters.family
    other = "qwen3_vl" if own == "qwen2_5_vl" else "qwen2_5_vl"
    with pytest.raises(WeightsError, match=rf"of the family {own}, and this architecture's model is of {other}"):
        load_backbone(backbone_parameters.model_copy(update={"family": other}), checkpoint["location"])


def test_a_checkpoint_without_some_weights_is_refused(backbone_parameters, checkpoint, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint["location"], folder)
    weights = load_file(folder / "model.safetensors")
    removed = next(name for name in sorted(weights) if "layernorm" in name.casefold() or "layer_norm" in name)
    del weights[removed]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="lacks 1 weights"):
        load_backbone(backbone_parameters, str(folder))


def test_an_unknown_family_names_the_known_ones():
    with pytest.raises(ValueError, match=r"llava.*qwen2_5_vl"):
        family_named("llava")


def test_an_image_is_seen_the_same_from_the_cache(encoder, posts):
    first, again = encoder.images([posts[1].image]), encoder.images([posts[1].image])
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_features_computed_once_stand_for_the_pixels(seeing, encoder, posts):
    """Stored vision features give the states that the pixels give, for images that were encoded one by one."""
    family, base = seeing.family, seeing.model
    ids = torch.tensor([encoder.prompt(post, "label").prefix[:60] for post in posts[:2]])
    where = encoder.image_positions(ids)
    pixels = encoder.images([post.image for post in posts[:2]])
    with torch.no_grad():
        apart = [family.encode_images(base, encoder.images([post.image])) for post in posts[:2]]
        stored = {name: torch.cat([one[name] for one in apart]) for name in apart[0]}
        seen = base.model(input_ids=ids, **family.forward_kwargs(where, pixels)).last_hidden_state
        recalled = base.model(input_ids=ids, **family.forward_kwargs(where, stored)).last_hidden_state
    assert stored.keys() != pixels.keys()
    torch.testing.assert_close(seen, recalled, rtol=1e-5, atol=1e-5)


def test_a_tower_with_an_adapter_is_trained(seeing, backbone_parameters, checkpoint):
    backbone = load_backbone(backbone_parameters, checkpoint["location"])
    attach_adapter(backbone.model, AdapterParameters(lora_dropout=0.0, target_modules=["o_proj"]), 5)
    assert not backbone.family.trains_vision(backbone.model)
    backbone = load_backbone(backbone_parameters, checkpoint["location"])
    attach_adapter(backbone.model, backbone_parameters.adapter, 5)
    assert backbone.family.trains_vision(backbone.model)


def test_a_template_kept_with_the_processor_is_found(backbone_parameters, seeing, checkpoint, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint["location"], folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    family = family_named(backbone_parameters.family)
    assert load_processor(family, str(folder)).chat_template == seeing.processor.chat_template


def test_low_rank_training_in_half_precision_keeps_the_base(backbone_parameters, checkpoint):
    """The full-size set-up on a small model: frozen weights in bfloat16, trained ones in float32."""
    adapter = AdapterParameters(lora_dropout=0.05, target_modules=[*PROJECTIONS, "q", "v", "query"])
    half = backbone_parameters.model_copy(update={"dtype": "bfloat16", "adapter": adapter})
    model = attach_adapter(load_backbone(half, checkpoint["location"]).model, adapter, 1)
    kinds = {parameter.requires_grad: set() for parameter in model.parameters()}
    for parameter in model.parameters():
        kinds[parameter.requires_grad].add(parameter.dtype)
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}


@pytest.mark.parametrize(
    ("capabilities", "gpu", "device", "wanted"),
    [
        ({"avx2": True, "avx512_f": True}, True, "cpu", torch.float32),
        ({"avx512_bf16": True}, False, "cpu", torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, False, "cpu", torch.bfloat16),
        ({"bf16": True}, False, "cpu", torch.bfloat16),
        ({}, True, "cuda", torch.bfloat16),
        ({"avx512_bf16": True}, False, "cuda", torch.float32),
    ],
)
def test_auto_is_half_precision_where_the_device_has_it(monkeypatch, caplog, capabilities, gpu, device, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: gpu or including_emulation)
    resolved_dtype.cache_clear()
    with caplog.at_level("INFO", "mulcot_rd"):
        assert resolved_dtype("auto", torch.device(device)) == wanted
        assert f"dtype auto is {str(wanted).removeprefix('torch.')}: this" in caplog.text
        caplog.clear()
        for _ in range(2):
            assert resolved_dtype("bfloat16", torch.device(device)) == torch.bfloat16
            assert resolved_dtype("float32", torch.device(device)) == torch.float32
    assert caplog.text.count("set the backbone's dtype to auto or float32") == (wanted == torch.float32)
    resolved_dtype.cache_clear()


def test_what_is_trained_whole_stays_in_single_precision(backbone_parameters, checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    resolved_dtype.cache_clear()
    for whole, wanted in ((True, torch.float32), (False, torch.bfloat16)):
        parameters = backbone_parameters.model_copy(update={"dtype": "auto", "adapter": AdapterParameters(full=whole)})
        assert load_backbone(parameters, checkpoint["location"], torch.device("cpu")).model.dtype == wanted
    resolved_dtype.cache_clear()
