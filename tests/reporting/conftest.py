"""Posts and records that the reporting tests share."""

import csv
import warnings
from pathlib import Path

import pytest

from mulcot_rd.schema import Post, PredictionRecord, Sentiment, TeacherRecord

SECTIONS = {
    "text_analysis": "The text praises the day.",
    "image_analysis": "The image shows a bright sky.",
    "conflict_resolution": "Text and image agree.",
    "final_conclusion": "Both point the same way.",
}


@pytest.fixture
def no_warnings():
    """Every warning is an error, but for what other tests left to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@pytest.fixture
def make_prediction():
    def make(post: Post, prediction: Sentiment | None, **changes) -> PredictionRecord:
        record = {
            "id": post.id,
            "label": post.label,
            "prediction": prediction,
            "reasoning_prediction": prediction,
            **SECTIONS,
            "raw_text": "",
            "raw_label_text": "",
            "attempts": 1,
            "label_attempts": 1,
        }
        return PredictionRecord(**{**record, **changes})

    return make


@pytest.fixture
def make_teacher():
    def make(post: Post, prediction: Sentiment, stage: int = 1) -> TeacherRecord:
        return TeacherRecord(
            **SECTIONS, prediction=prediction, id=post.id, stage=stage, label=post.label, attempts=1, model="rules"
        )

    return make


@pytest.fixture(scope="session")
def twitter2015(shared_data) -> list[Post]:
    """All of Twitter-2015, read here in four lines so that reporting is tested without ingest."""
    folder: Path = shared_data / "twitter2015"
    posts = []
    for split in ("train", "dev", "test"):
        with (folder / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]):
                _, label, image, text, aspect = row
                posts.append(
                    Post(
                        id=f"{split}-{number}",
                        split=split,
                        text=text.replace("$T$", aspect),
                        aspect=aspect,
                        image=str(folder / "images" / image),
                        label=tuple(Sentiment)[int(label)],
                    )
                )
    return posts


@pytest.fixture
def scores() -> dict:
    return {
        "accuracy": 0.6123,
        "weighted_f1": 0.58,
        "macro_f1": 0.45,
        "majority_accuracy": 0.585,
        "valid_rate": 0.99,
        "agreement": 0.8,
        "sim": 0.9,
        "meteor": 0.5,
        "bleu": 0.3,
        "rouge_l": 0.48,
        "dist_1": 0.44,
        "dist_2": 0.71,
        "accuracy_interval": [0.58, 0.64],
        "intervals": {"accuracy": [0.58, 0.64], "weighted_f1": [0.55, 0.61], "macro_f1": [0.4, 0.5]},
    }
