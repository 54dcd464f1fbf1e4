"""A role of the run, loaded for inference: the same for expansion, soft labels, evaluation and costs."""

from typing import Any

from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters
from mulcot_rd.schema import Post
from mulcot_rd.training.roles import Role, load_role


def role_for(
    posts: list[Post],
    adapter: dict[str, Any],
    base: dict[str, Any],
    backbone: BackboneParameters,
    inputs: InputParameters,
) -> Role:
    """The role whose manifest ``adapter`` is, ready to read these posts as it was trained to.

    Raises:
        StaleInputError: If it was trained with other posts or on another backbone.
    """
    return load_role(
        adapter["role"], backbone, base, adapter, posts, image_size=inputs.image_size, shown=inputs.presentation
    )
