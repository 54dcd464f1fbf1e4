"""A role with an adapter, and training rows, for every family."""

import pytest

from mulcot_rd.models.loaded import fresh_model
from mulcot_rd.prompts import TASKS
from mulcot_rd.training.batches import make_example
from mulcot_rd.training.expansion import teacher_rows


@pytest.fixture
def role(backbone_parameters, checkpoint):
    """A fresh role; tests may train it."""
    made = fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=3)
    made.model.eval()
    return made


@pytest.fixture
def examples(role, posts, reasonings):
    """Every post as a training row with both tasks."""
    by_id = {post.id: post for post in posts}
    return [make_example(row, by_id[row.post_id], role.encoder, TASKS) for row in teacher_rows(reasonings)]
