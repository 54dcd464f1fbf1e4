"""A merged checkpoint says to stock classes, in a process without this project, what the trained model says here."""

import json
import os
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from PIL import ExifTags, Image
from tests.conftest import write_trained
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from mulcot_rd.cli import cli
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.generation.engine import write_answers
from mulcot_rd.images import load_image
from mulcot_rd.models import AdapterParameters, load_backbone
from mulcot_rd.models.checkpoint import base_fingerprint
from mulcot_rd.models.export import export_model
from mulcot_rd.models.loaded import load_model
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.prompts import TASKS

pytestmark = pytest.mark.slow

IMAGE_SIZE = 56
SCRIPT = Path(__file__).parents[2] / "bench" / "stock.py"
STOCK = """
import json, sys
import torch
import transformers
from PIL import Image

asked = json.load(sys.stdin)
folder = asked["folder"]
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
if asked["image"] is None:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    read = tokenizer(asked["text"], add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[*read, tokenizer.eos_token_id]])
    inputs = {"input_ids": ids, "decoder_input_ids": torch.tensor([asked["decoder_ids"]])}
else:
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "text", "text": asked["text"]}]
    turns = [{"role": "user", "content": content}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    text = text.replace(asked["placeholder"], asked["image_text"])
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    images = transformers.AutoImageProcessor.from_pretrained(folder)
    inputs = dict(images(images=[Image.open(asked["image"])], return_tensors="pt"))
    inputs.pop("pixel_attention_mask", None)
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
with torch.no_grad():
    logits = model(**inputs).logits[0]
    # The head is wider than the tokenizer; columns that no training ever chose are nothing to compare.
    beyond = list(range(len(tokenizer), logits.shape[-1]))
    wrote = model.generate(**inputs, max_new_tokens=24, suppress_tokens=beyond)[0]
begun = len(asked["decoder_ids"]) if asked["image"] is None else ids.shape[1]
json.dump(
    {
        "modules": [name for name in sys.modules if name.startswith(("mulcot_rd", "peft"))],
        "class": type(model).__module__,
        "ids": ids[0].tolist(),
        "logits": logits.tolist(),
        "wrote": wrote[begun:].tolist(),
    },
    sys.stdout,
)
"""


@pytest.fixture(scope="module")
def merged(student, tmp_path_factory):
    """The checkpoint made of it by the command."""
    out = tmp_path_factory.mktemp("merged") / "checkpoint"
    result = CliRunner().invoke(cli, ["export", "--student", str(student), str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(out)
    return out


def _stock(merged, encoder, post, tmp_path):
    """What stock classes make of the label prompt of a post."""
    image = tmp_path / "sent.png"
    load_image(post.image, IMAGE_SIZE).save(image)
    asked = {
        "folder": str(merged),
        "text": (encoder.family.encoder_start or "") + encoder.turn(post, "label"),
        "image": str(image) if encoder.sees_images else None,
        "placeholder": encoder.family.image_token,
        "image_text": encoder.family.image_text(encoder.image_tokens),
        "decoder_ids": encoder.prompt(post, "label").suffix,
    }
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", STOCK],
        input=json.dumps(asked), env={**outside, "HF_HUB_OFFLINE": "1"}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_stock_classes_give_the_same_logits_and_answers(student, merged, posts, plain_logits, tmp_path):
    trained = load_model(student)
    model, encoder, post = without_adapter(trained.model), trained.encoder, posts[3]
    said = _stock(merged, encoder, post, tmp_path)
    assert said["modules"] == []
    assert said["class"].startswith("transformers.models.")
    prompt = encoder.prompt(post, "label")
    assert said["ids"] == (prompt.prefix if encoder.family.encoder_decoder else prompt.ids)
    with torch.no_grad():
        wanted = plain_logits(model, encoder, prompt.prefix, prompt.suffix, post.image)
    logits = torch.tensor(said["logits"])[-len(wanted) :]
    torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)
    parameters = GenerationParameters(max_label_tokens=24, max_retries=0)
    (answer,) = write_answers(model, encoder, [post], {post.id: {"label": prompt}}, parameters, seed=1)
    assert encoder.answer(said["wrote"], "label") == answer.text


def test_elsewhere_the_prompts_in_the_folder_give_the_projects_answers(student, merged, posts, tmp_path):
    trained = load_model(student)
    if not trained.encoder.family.name.startswith("qwen"):
        pytest.skip("the script knows the image tokens of Qwen alone")
    model, encoder = without_adapter(trained.model), trained.encoder
    parameters = GenerationParameters(max_label_tokens=24, max_new_tokens=24, max_retries=0)
    ramp, image, exif = Image.linear_gradient("L").resize((60, 40)), tmp_path / "odd.png", Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.merge("RGBA", (ramp, ramp, ramp, ramp.rotate(180))).save(image, exif=exif)
    special = max(trained.encoder.tokenizer.all_special_tokens, key=len)
    odd = {"text": f"odd {special} text <|x|>", "aspect": f"a {special}", "image": str(image)}
    asked = [posts[0].model_copy(update=odd), posts[3].model_copy(update={"aspect": None})]
    prompts = {post.id: {task: encoder.prompt(post, task) for task in TASKS} for post in asked}
    written = {post.id: {"id": post.id, "attempts": 1, "label_attempts": 1} for post in asked}
    for answer in write_answers(model, encoder, asked, prompts, parameters, seed=1):
        written[answer.post_id]["raw_label_text" if answer.task == "label" else "raw_text"] = answer.text
    moved = shutil.copytree(merged, tmp_path / "moved")
    (tmp_path / "predictions.jsonl").write_text("\n".join(map(json.dumps, written.values())))
    rows = [{"id": post.id, "text": post.text, "aspect": post.aspect, "image": post.image} for post in asked]
    pd.DataFrame(rows).to_csv(tmp_path / "posts.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, moved, tmp_path, tmp_path / "predictions.jsonl", "--max-new-tokens", "24"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["label: 2 of 2 equal", "reasoning: 2 of 2 equal"]


def test_an_adapter_alone_loads_with_stock_peft(student, checkpoint, posts, plain_logits, tmp_path):
    out = tmp_path / "adapter"
    result = CliRunner().invoke(cli, ["export", "--student", str(student), str(out), "--adapter-only"])
    if load_model(student).backbone.family.trained_whole:
        assert result.exit_code == 1
        assert "has no adapter, its weights are whole: export it without --adapter-only" in result.output
        assert not out.exists()
        return
    assert result.exit_code == 0, result.output
    assert not (out / "model.safetensors").exists()
    base = AutoModelForImageTextToText.from_pretrained(checkpoint["location"], dtype="float32")
    stock, trained = PeftModel.from_pretrained(base, out).eval(), load_model(student)
    prompt = trained.encoder.prompt(posts[0], "label")
    with torch.no_grad():
        said, wanted, again = (
            plain_logits(model, trained.encoder, prompt.prefix, prompt.suffix, posts[0].image)
            for model in (stock, trained.model, load_model(out).model)
        )
    assert torch.equal(said, wanted)
    assert torch.equal(again, wanted)


def test_the_layout_is_the_stock_one(merged, student):
    written = {path.name for path in merged.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= written
    assert not {path.name for path in merged.iterdir() if "adapter" in path.name}
    greedy = json.loads((merged / "generation_config.json").read_text())
    assert greedy["eos_token_id"] == load_model(student).encoder.tokenizer.eos_token_id
    assert "temperature" not in greedy
    assert "repetition_penalty" not in greedy


def test_a_server_leaves_images_of_the_methods_size_and_resizes_other_squares_to_it(merged, student):
    encoder = load_model(student).encoder
    if not encoder.family.name.startswith("qwen"):
        pytest.skip("the family has one size, or reads text alone")
    images = json.loads((merged / "preprocessor_config.json").read_text())
    piece = images["patch_size"] * images["merge_size"]
    limits = {"min_pixels": images["size"]["shortest_edge"], "max_pixels": images["size"]["longest_edge"]}
    tokens = {
        height * width // piece**2
        for side in range(20, 1500)
        for height, width in [smart_resize(side, side, piece, **limits)]
    }
    assert tokens == {encoder.image_tokens}
    video = json.loads((merged / "video_preprocessor_config.json").read_text())
    assert video["video_processor_type"] in ("Qwen2VLVideoProcessor", "Qwen3VLVideoProcessor")
    assert video["patch_size"] == images["patch_size"]


@pytest.mark.parametrize("whole", [["lm_head"], []])
def test_a_head_stays_a_copy_of_the_embeddings_unless_training_parted_them(
    backbone_parameters, checkpoint, posts, plain_logits, whole, tmp_path
):
    if backbone_parameters.adapter.full:
        pytest.skip("the model is trained whole")
    backbone = load_backbone(backbone_parameters, checkpoint["location"])
    model = backbone.model
    config = deepcopy(model.config)
    config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = True
    tied = type(model)(config)
    tied.load_state_dict({name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}, False)
    tied.save_pretrained(tmp_path / "tied")
    backbone.processor.save_pretrained(tmp_path / "tied")
    parameters = backbone_parameters.model_copy(
        update={
            "model": str(tmp_path / "tied"),
            "adapter": AdapterParameters(target_modules=["q_proj"], modules_to_save=whole),
        }
    )
    base = load_backbone(parameters, parameters.model).model
    assert base.get_output_embeddings().weight is base.get_input_embeddings().weight
    below = base_fingerprint(parameters, tmp_path)
    checkpoint = {"location": parameters.model, "revision": None, "fingerprint": below}
    student = write_trained(base, parameters, checkpoint, tmp_path / "student")
    export_model(student, tmp_path / "merged", evaluation=None)
    written = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert written["tie_word_embeddings"] == written["text_config"]["tie_word_embeddings"] == (not whole)
    trained, stock = load_model(student), AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    prompt = trained.encoder.prompt(posts[0], "label")
    with torch.no_grad():
        said, wanted = (
            plain_logits(model, trained.encoder, prompt.prefix, prompt.suffix, posts[0].image)
            for model in (stock, trained.model)
        )
    torch.testing.assert_close(said, wanted, rtol=1e-5, atol=1e-5)


def test_a_folder_with_content_is_refused(student, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(cli, ["export", "--student", str(student), str(tmp_path)])
    assert result.exit_code == 1
    assert "not an empty folder" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_without_a_model_is_refused(tmp_path):
    result = CliRunner().invoke(cli, ["export", "--student", str(tmp_path), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "holds no model" in result.output
