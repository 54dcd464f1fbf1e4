"""Classification metrics of the paper (Section 4.1.4): accuracy, weighted F1, macro F1."""

from collections import Counter
from collections.abc import Sequence

from sklearn.metrics import accuracy_score, f1_score

from mulcot_rd.schema import Sentiment

CLASSES: tuple[str, ...] = tuple(label.value for label in Sentiment)
# What stands for "no readable label" among the predictions: a fourth answer that is always wrong.
UNREADABLE = "unreadable"


def classification_scores(
    predictions: Sequence[Sentiment | str | None], labels: Sequence[Sentiment | str]
) -> dict[str, float]:
    """Score predicted against gold labels (paper, Section 4.1.4; Tables 3, 4 and 8).

    A prediction of ``None`` (no label could be read from the answer) counts as wrong. The F1 scores are taken
    over the three fixed classes, a class that neither side uses counting 0.

    Args:
        predictions: A label or ``None`` for each post.
        labels: The gold label of each post, in the same order.

    Returns:
        Fractions from 0 to 1: ``accuracy``, ``weighted_f1``, ``macro_f1``, ``majority_accuracy`` (share of the most
        frequent gold label), ``valid_rate`` (share of predictions that are not ``None``).

    Raises:
        ValueError: If there are no posts, the lengths differ, or a label is not one of the three.
    """
    predicted, gold = as_names(predictions, labels)
    options = {"labels": list(CLASSES), "zero_division": 0}
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "weighted_f1": float(f1_score(gold, predicted, average="weighted", **options)),
        "macro_f1": float(f1_score(gold, predicted, average="macro", **options)),
        "majority_accuracy": max(Counter(gold).values()) / len(gold),
        "valid_rate": sum(name != UNREADABLE for name in predicted) / len(predicted),
    }


def confusion_matrix(
    predictions: Sequence[Sentiment | str | None], labels: Sequence[Sentiment | str]
) -> dict[str, dict[str, int]]:
    """Posts by gold label and, within that, by predicted label; predictions of ``None`` are :data:`UNREADABLE`.

    Raises:
        ValueError: If there are no posts, the lengths differ, or a label is not one of the three.
    """
    predicted, gold = as_names(predictions, labels)
    counts = Counter(zip(gold, predicted, strict=True))
    return {row: {column: counts[row, column] for column in (*CLASSES, UNREADABLE)} for row in CLASSES}


def agreement(
    label_predictions: Sequence[Sentiment | str | None], reasoning_predictions: Sequence[Sentiment | str | None]
) -> float:
    """Share of posts whose label prompt and reasoning prompt give the same readable label, from 0 to 1.

    Raises:
        ValueError: If there are no posts, the lengths differ, or a label is not one of the three.
    """
    _check_lengths(label_predictions, reasoning_predictions, "label predictions", "reasoning predictions")
    pairs = zip(
        _names(label_predictions, "label prediction"),
        _names(reasoning_predictions, "reasoning prediction"),
        strict=True,
    )
    return sum(one == other != UNREADABLE for one, other in pairs) / len(label_predictions)


def as_names(
    predictions: Sequence[Sentiment | str | None], labels: Sequence[Sentiment | str]
) -> tuple[list[str], list[str]]:
    """Predictions and gold labels as class names, ``None`` among the predictions as :data:`UNREADABLE`.

    Raises:
        ValueError: If there are no posts, the lengths differ, or a label is not one of the three.
    """
    _check_lengths(predictions, labels, "predictions", "gold labels")
    gold = _names(labels, "gold label")
    if UNREADABLE in gold:
        raise ValueError(f"gold label {gold.index(UNREADABLE)} is None: every scored post needs a gold label")
    return _names(predictions, "prediction"), gold


def _check_lengths(one: Sequence[object], other: Sequence[object], one_name: str, other_name: str) -> None:
    if len(one) != len(other):
        raise ValueError(
            f"{len(one)} {one_name} can't be compared with {len(other)} {other_name}: there must be one of each a post"
        )
    if len(one) == 0:
        raise ValueError(f"there are no {one_name} to score: give at least one post")


def _names(values: Sequence[Sentiment | str | None], what: str) -> list[str]:
    names: list[str] = []
    for index, value in enumerate(values):
        if value is None:
            names.append(UNREADABLE)
        elif value in CLASSES:
            names.append(str(value))
        else:
            raise ValueError(f"{what} {index} is {value!r}, not one of {', '.join(CLASSES)}")
    return names
