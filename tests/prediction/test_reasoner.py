"""A trained model in Python: what it says is what the evaluation says, wherever it lies and however a post is given."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from PIL import Image
from tests.conftest import write_trained

from mulcot_rd import SentimentReasoner
from mulcot_rd.errors import StaleInputError, UserError
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation import GenerationParameters, answer_posts, kept_answers
from mulcot_rd.generation.label_scores import label_scores, probabilities
from mulcot_rd.generation.predict import predictions
from mulcot_rd.images import ImageError, load_image
from mulcot_rd.kept import DamagedError, read_manifest, write_manifest
from mulcot_rd.models import family_named, load_backbone
from mulcot_rd.models.checkpoint import base_fingerprint, located
from mulcot_rd.models.export import export_model
from mulcot_rd.models.loaded import load_model, model_identity
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.prediction.predict import PredictionParameters, predict_posts
from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import write_label
from mulcot_rd.schema import Sentiment, TemperatureRecord

PARAMETERS = GenerationParameters(batch_size=4, max_new_tokens=12, max_label_tokens=6, max_retries=1)


def given(post, **other):
    """A post as a user gives it."""
    return {"text": post.text, "aspect": post.aspect, "image": post.image, "caption": post.caption, **other}


@pytest.fixture(scope="module")
def reasoner(student):
    return SentimentReasoner.load(student, generation=PARAMETERS)


def test_scores_of_labels_are_those_of_separate_passes(student, posts, plain_logits):
    loaded = load_model(student)
    model, encoder = without_adapter(loaded.model), loaded.encoder
    for post, scores in zip(posts[:3], label_scores(model, encoder, posts[:3]), strict=True):
        prompt = encoder.prompt(post, "label")
        for label, score in zip(Sentiment, scores, strict=True):
            answer = encoder.target(write_label(label), "label")
            with torch.no_grad():
                logits = plain_logits(model, encoder, prompt.prefix, prompt.suffix + answer, post.image)
            written = logits[-len(answer) - 1 : -1, : len(encoder.tokenizer)].log_softmax(dim=-1)
            assert score == pytest.approx(float(written[range(len(answer)), answer].sum()), abs=1e-3)


def test_probabilities_add_up_and_a_temperature_evens_them_out():
    scores = [-1000.0, -1001.0, -1003.0]
    sharp, even = probabilities(scores), probabilities(scores, 10.0)
    assert sum(sharp.values()) == pytest.approx(1)
    assert list(sharp) == list(Sentiment)
    assert sharp["negative"] > even["negative"] > even["neutral"] > sharp["neutral"]


def test_verdicts_are_those_of_the_evaluation(reasoner, student, posts):
    loaded = load_model(student)
    numbered = [post.model_copy(update={"id": str(number)}) for number, post in enumerate(posts)]
    given_answers = answer_posts(without_adapter(loaded.model), loaded.encoder, numbered, TASKS, PARAMETERS, seed=42)
    answers = kept_answers(given_answers, numbered, TASKS)
    told = reasoner.predict_many([given(post) for post in posts])
    for record, verdict in zip(predictions(numbered, answers), told, strict=True):
        shared = record.model_dump(exclude={"id", "label", "prediction", "reasoning_prediction", "post_fingerprint"})
        assert {name: getattr(verdict, name) for name in shared} == shared
        assert (verdict.label, verdict.reasoning_label) == (record.prediction, record.reasoning_prediction)
        assert sum(verdict.probabilities.values()) == pytest.approx(1)


def test_a_streamed_verdict_grows_to_that_of_predict(reasoner, posts, monkeypatch):
    monkeypatch.setattr(reasoner, "_model", replace(reasoner._model, temperature=2.0))
    steps = list(reasoner.stream(**given(posts[0])))
    assert steps[-1] == reasoner.predict(**given(posts[0]))
    assert (steps[0].raw_text, steps[0].attempts) == ("", 0)
    assert steps[0].probabilities == steps[-1].probabilities
    first = [step.raw_text for step in steps if step.attempts == 1]
    # Half a character of several bytes is a replacement character.
    assert all(later.startswith(text.rstrip("\N{REPLACEMENT CHARACTER}")) for text, later in pairwise(first))
    assert len(set(first)) > 3


def test_an_exported_model_says_the_same_wherever_it_lies(reasoner, student, posts, tmp_path):
    export_model(student, tmp_path / "merged", evaluation=None)
    moved = shutil.move(tmp_path / "merged", tmp_path / "somewhere else")
    asked = [given(post) for post in posts]
    for one, other in zip(
        reasoner.predict_many(asked),
        SentimentReasoner.load(moved, generation=PARAMETERS).predict_many(asked),
        strict=True,
    ):
        assert (one.raw_text, one.raw_label_text) == (other.raw_text, other.raw_label_text)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"model\.safetensors is missing or not the file"):
        SentimentReasoner.load(moved)


def test_an_image_may_come_in_any_form(reasoner, posts, family_name):
    if family_named(family_name).image_token is None:
        assert reasoner.predict(**given(posts[0], image=None)) == reasoner.predict(**given(posts[0], image="none.png"))
        return
    path = posts[0].image
    with open(path, "rb") as stream:  # noqa: PTH123
        content = stream.read()
    said = [
        reasoner.predict(**given(posts[0], image=image))
        for image in (path, f"file://{path}", content, Image.open(path))
    ]
    assert all(verdict == said[0] for verdict in said)


def test_an_image_in_memory_takes_the_disk_of_what_the_model_sees_of_it(reasoner, posts, family_name, tmp_path):
    if family_named(family_name).image_token is None:
        pytest.skip("opens no image")
    ramp = Image.linear_gradient("L").resize((600, 400))
    for number, image in enumerate([Image.merge("RGBA", (ramp, ramp.rotate(180), ramp, ramp.rotate(90))), ramp]):
        kept = reasoner._content(number, given(posts[0], image=image), tmp_path).image
        size = reasoner._model.encoder.image_size
        assert Image.open(kept).size == (size, size)
        assert load_image(kept, size).tobytes() == load_image(image, size).tobytes()


def test_a_file_is_read_anew_for_each_question(reasoner, posts, family_name, tmp_path):
    if family_named(family_name).image_token is None:
        pytest.skip("reads text alone")
    path = tmp_path / "upload.png"
    told = []
    for post in posts[:2]:
        shutil.copy(post.image, path)
        told.append(reasoner.predict(**given(posts[0], image=path)).probabilities)
    assert told[1] == reasoner.predict(**given(posts[0], image=posts[1].image)).probabilities != told[0]


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ({"text": " "}, UserError, "post 0: empty text"),
        ({"text": float("nan")}, UserError, "post 0: empty text"),
        ({"text": 7}, UserError, "post 0: text must be text, and is 7"),
        ({"image": None, "caption": None}, UserError, "post 0: empty (image|caption): .* trained on posts with text"),
        ({"text": "x" * 100_000}, UserError, "text of 100,000 characters: at most 10,000"),
        ({"text": "\ud800"}, UserError, "text is not Unicode"),
        ({"label": "positive"}, UserError, "post 0 has 'label'; a post has text, image, aspect, caption"),
    ],
)
def test_what_is_wrong_with_a_post_is_one_sentence(reasoner, posts, other, error, message):
    with pytest.raises(error, match=message):
        reasoner.predict_many([given(posts[0], **other)])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("none.jpg", "image not found: none.jpg"),
        (b"GIF89a", "image can't be read .*: the bytes given"),
        ("https://example.org/a.jpg", "not a file of this machine: download it"),
    ],
)
def test_an_image_that_cannot_be_read_is_one_sentence(reasoner, posts, image, message, family_name):
    if family_named(family_name).image_token is None:
        pytest.skip("opens no image")
    with pytest.raises((ImageError, UserError), match=message):
        reasoner.predict(**given(posts[0], image=image))


def test_no_posts_give_no_verdicts(reasoner):
    assert reasoner.predict_many([]) == []


@pytest.fixture
def copied(student, tmp_path):
    """Changes the manifest of a copy of the student."""
    shutil.copytree(student.parent, tmp_path / "run")

    def change(**other):
        folder = tmp_path / "run" / "student"
        write_manifest(folder, {**read_manifest(folder), **other})
        return folder

    return change


def test_a_model_of_labels_alone_gives_no_reasons(copied, posts):
    folder = copied(config={"method": {"tasks": ["label"]}})
    verdict = SentimentReasoner.load(folder, generation=PARAMETERS).predict(**given(posts[0]))
    assert (verdict.attempts, verdict.final_conclusion, verdict.reasoning_label) == (0, "", None)
    assert verdict.agrees is None
    assert verdict.label_attempts > 0


def test_a_model_of_other_prompts_is_refused(copied, student):
    folder = copied(inputs={**read_manifest(student)["inputs"], "prompts": "others"})
    with pytest.raises(StaleInputError, match=r"trained with other prompts .* version that trained it \(0\.1\.0"):
        SentimentReasoner.load(folder)


def test_a_post_that_is_too_long_for_the_family_costs_itself_alone(reasoner, student, posts, family_name, tmp_path):
    if family_named(family_name).longest_text is None:
        pytest.skip("holds posts of any length")
    long, file = "so it is " * 1_000, tmp_path / "posts.csv"
    file.write_text(f"id,text,caption\na,fine,A lake.\nb,{long},A lake.\nc,fine,{long}\n")
    rows = predict_posts(file, student, tmp_path / "out.csv", PredictionParameters(generation=PARAMETERS))
    assert [(row["id"], row["error"] is None, row["probability_neutral"] is None) for row in rows] == [
        ("a", True, False),
        ("b", False, True),
        ("c", False, True),
    ]
    assert re.match(r"line 3: post b takes \d+ tokens, .* hold 512: shorten it, leave it out", rows[1]["error"])
    with pytest.raises(UserError, match=r"^post 1 takes \d+ tokens, .* hold 512: shorten it"):
        reasoner.predict_many([given(posts[0]), given(posts[0], text=long)])


@pytest.mark.parametrize(
    ("trained", "aspects", "warning"),
    [
        (["aspect"], [None, "soup", None], "trained on posts with an aspect, and 2 of 3 posts are given without one"),
        (["post"], [None, "soup"], "trained on posts without an aspect, and 1 of 2 posts are given with one"),
        (["aspect"], ["soup"], None),
        (["aspect", "post"], [None, "soup"], None),
        (None, [None, "soup"], None),
    ],
)
def test_questions_that_training_never_asked_are_told_once(copied, posts, trained, aspects, warning, caplog):
    changes = {} if trained is None else {"asked_about": trained}
    reasoner = SentimentReasoner.load(copied(**changes), generation=PARAMETERS)
    reasoner.predict_many([given(posts[0], aspect=aspect) for aspect in aspects])
    told = [record.message for record in caplog.records if "trained on posts" in record.message]
    assert len(told) == (warning is not None)
    assert all(warning in message for message in told)


def spoil(path):
    """Change the last weight of a checkpoint."""
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize("alone", [False, True])
def test_other_weights_in_the_folder_of_the_base_model_are_refused(backbone_parameters, checkpoint, alone, tmp_path):
    base, run = shutil.copytree(checkpoint["location"], tmp_path / "base model"), tmp_path / "run"
    parameters = backbone_parameters.model_copy(update={"model": str(base)})
    below = {"location": str(base), "revision": None, "fingerprint": base_fingerprint(parameters, run)}
    folder = write_trained(load_backbone(parameters, str(base)).model, parameters, below, run / "student")
    if alone:
        folder = shutil.move(folder, tmp_path / "elsewhere" / "student")
    SentimentReasoner.load(folder)
    spoil(base / "model.safetensors")
    with pytest.raises(DamagedError, match=r"base model, .* holds other weights .*: put the checkpoint .* back there"):
        SentimentReasoner.load(folder)
    if alone:
        assert [path.name for path in folder.parent.iterdir()] == ["student"]
    named = {"location": "owner/model", "revision": "main", "fingerprint": fingerprint("owner/model", "main")}
    assert located(parameters, named, run)["location"] == str(base)


def test_an_exported_adapter_checks_the_tiny_model_below_it(copied, family_name, tmp_path):
    if family_named(family_name).trained_whole:
        pytest.skip("has no adapter")
    export_model(copied(), tmp_path / "adapter", evaluation=None, adapter_only=True)
    SentimentReasoner.load(tmp_path / "adapter")
    (weights,) = tmp_path.glob("run/base/*/model.safetensors")
    spoil(weights)
    with pytest.raises(DamagedError, match=r"model\.safetensors is missing or not the file"):
        SentimentReasoner.load(tmp_path / "adapter")


def calibrated(folder, **temperatures):
    """Say that an evaluation fitted these temperatures, each for the model of that identity."""
    rows = [TemperatureRecord(model=model, role="student", temperature=value) for model, value in temperatures.items()]
    file = folder.parent / "temperatures.jsonl"
    file.write_text("".join(f"{row.model_dump_json()}\n" for row in rows))
    return file


def temperature_of(folder):
    return SentimentReasoner.load(folder, generation=PARAMETERS)._model.temperature


def test_every_model_finds_the_temperature_that_was_fitted_for_it_in_its_folder_its_version_and_exported(copied, posts):
    folder = copied()
    manifest = read_manifest(folder)
    assert temperature_of(folder) == 1.0
    file = calibrated(folder, **{"another model": 3.0, model_identity(manifest): 10.0})
    export_model(folder, folder.parent / "merged", evaluation=None)
    for version, weights in (("2026-01-01", "other weights"), ("2026-01-02", manifest["weights"])):
        shutil.copytree(folder, folder.parent / "versions" / version / "versions")
        write_manifest(folder.parent / "versions" / version / "versions", {**manifest, "weights": weights})
    places = [folder, folder.parent / "merged", *sorted(folder.parent.glob("versions/*/versions"))]
    assert [temperature_of(place) for place in places] == [10.0, 10.0, 1.0, 10.0]
    calibrated(folder, **{model_identity({**manifest, "weights": "other weights"}): 3.0})
    assert [temperature_of(place) for place in places] == [1.0, 10.0, 3.0, 1.0]
    file.write_text("{\n")
    with pytest.raises(DamagedError, match=r"temperatures\.jsonl is not what was written .* run the pipeline"):
        SentimentReasoner.load(folder)


def test_a_model_without_a_temperature_is_told_once(copied, caplog):
    def told(folder):
        caplog.clear()
        SentimentReasoner.load(folder)
        return [record.message for record in caplog.records if "not calibrated" in record.message]

    folder = copied()
    (message,) = told(folder)
    assert message.startswith(f"{folder} has no temperature")
    assert "kedro export" in message
    calibrated(folder, **{model_identity(read_manifest(folder)): 10.0})
    assert told(folder) == []
    assert told(copied(config={"method": {"tasks": ["reasoning"]}}, weights="others")) == []


def test_a_folder_may_be_named_by_a_dot(copied, monkeypatch):
    folder = copied()
    calibrated(folder, **{model_identity(read_manifest(folder)): 10.0})
    monkeypatch.chdir(folder)
    assert temperature_of(".") == 10.0
    version = folder / "2026-01-01" / "student"
    shutil.copytree(folder, version)
    for place, path in ((folder, "."), (version, "."), (version.parent, "..")):
        monkeypatch.chdir(place)
        assert temperature_of(path) == 10.0


def test_a_bare_copy_of_a_tiny_model_says_how_to_move_it(student, tmp_path):
    copy = shutil.copytree(student, tmp_path / "elsewhere" / "student")
    with pytest.raises(DamagedError, match=r"the model before training, is missing: .* with `kedro export`"):
        SentimentReasoner.load(copy)


def test_a_temperature_evens_the_probabilities_out(copied, posts, reasoner):
    folder = copied()
    calibrated(folder, **{model_identity(read_manifest(folder)): 10.0})
    told = SentimentReasoner.load(folder, generation=PARAMETERS).predict(**given(posts[0]))
    plain = reasoner.predict(**given(posts[0]))
    assert max(told.probabilities.values()) < max(plain.probabilities.values())


def test_the_temperature_of_an_earlier_release_is_found(copied):
    folder = copied()
    calibration = folder.parent / "calibration.json"
    fitted = {"model": model_identity(read_manifest(folder)), "temperature": 10.0}
    calibration.write_text(json.dumps({"student": fitted, "assistant": None}))
    assert temperature_of(folder) == 10.0
    calibration.write_text(json.dumps({"student": {**fitted, "model": "another"}}))
    assert temperature_of(folder) == 1.0
    calibration.write_text("{")
    with pytest.raises(DamagedError, match=r"calibration\.json is not what was written"):
        SentimentReasoner.load(folder)


def test_the_newest_of_several_versions_is_loaded(student, posts, reasoner, tmp_path):
    shutil.copytree(student.parent, tmp_path / "run")
    place = tmp_path / "run" / "student"
    versions = [tmp_path / "run" / "student" / day / "student" for day in ("2026-01-01", "2026-01-02")]
    place.rename(tmp_path / "trained")
    for version in versions:
        shutil.copytree(tmp_path / "trained", version)
    (versions[0] / "manifest.json").write_text("{}")
    # A version is named by its own folder, too.
    for folder in (place, versions[1].parent, versions[1]):
        loaded = SentimentReasoner.load(folder, generation=PARAMETERS)
        assert loaded.predict(**given(posts[0])) == reasoner.predict(**given(posts[0]))


def test_a_folder_without_a_model_says_what_to_name(tmp_path):
    with pytest.raises(DamagedError, match=r"holds no model: .* name the folder of an assistant or a student"):
        SentimentReasoner.load(tmp_path)
    with pytest.raises(DamagedError, match=r"studnt does not exist: name the folder of an assistant or a student"):
        SentimentReasoner.load(tmp_path / "studnt")


def test_the_class_is_there_before_torch_is():
    code = "import json, sys; from mulcot_rd import SentimentReasoner; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "transformers", "kedro", "pandas"} & set(json.loads(done.stdout))
