"""How far raters agree beyond chance."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.metrics import cohen_kappa_score


def cohen_kappa(
    first: Sequence[Any], second: Sequence[Any], categories: Sequence[Any], *, ordinal: bool = False
) -> float | None:
    """Cohen's kappa of two raters (Cohen, 1960), for ordinal scales with quadratic weights (Cohen, 1968).

    Returns:
        1 for full agreement, 0 for chance; ``None`` where both raters always chose the same single category, where
        chance agreement is complete and kappa has no value.
    """
    if len(set(first) | set(second)) == 1:
        return None
    weights: Literal["quadratic"] | None = "quadratic" if ordinal else None
    return float(cohen_kappa_score(first, second, labels=list(categories), weights=weights))


def fleiss_kappa(ratings: Sequence[Sequence[Any]], categories: Sequence[Any]) -> float | None:
    """Fleiss' kappa of any number of raters, categories unordered (Fleiss, 1971).

    Args:
        ratings: For each rater the category of every item, in the same order of items.
        categories: The categories there are.

    Returns:
        1 for full agreement, 0 for chance; ``None`` where every rating is the same category.

    Raises:
        ValueError: If there are fewer than two raters or a rating is no category.
    """
    if len(ratings) < 2:
        raise ValueError(f"agreement needs two raters or more; there are {len(ratings)}")
    columns = {category: column for column, category in enumerate(categories)}
    counts = np.zeros((len(ratings[0]), len(categories)))
    for rater in ratings:
        for item, category in enumerate(rater):
            if category not in columns:
                raise ValueError(f"{category!r} is none of the categories {', '.join(map(str, categories))}")
            counts[item, columns[category]] += 1
    raters = len(ratings)
    observed = ((counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))).mean()
    expected = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
    return None if expected == 1 else float((observed - expected) / (1 - expected))
