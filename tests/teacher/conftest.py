"""Posts, and a server on loopback that answers and fails as a test says."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer
from PIL import Image

from mulcot_rd.reasoning import write
from mulcot_rd.schema import Post, Reasoning, Sentiment


def reasoning_text(label: str, **changed: str) -> str:
    sections = {
        "text_analysis": "The words sound like this.",
        "image_analysis": "The picture is bright.",
        "conflict_resolution": "There is no conflict.",
        "final_conclusion": f"The post is {label}.",
    }
    return write(Reasoning(**{**sections, **changed}, prediction=Sentiment(label)))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """Finds every post positive until a test gives it another ``reply`` or a ``script``."""
    with FaultServer(reply=lambda body: reasoning_text("positive")).running() as server:
        yield server


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    Image.new("RGB", (40, 30), (250, 200, 120)).save(path)
    return str(path)


@pytest.fixture
def make_post(image: str) -> Callable[..., Post]:
    def make(number: int = 1, label: str = "positive", **changed: Any) -> Post:
        fields = {
            "id": f"train-{number}",
            "split": "train",
            "text": f"Post number {number} about Lydia",
            "aspect": "Lydia",
            "image": image,
            "label": label,
        }
        return Post(**{**fields, **changed})

    return make
