"""Baselines that every result table carries: the majority class, and logistic regression on words or on embeddings."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence, Sized

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from mulcot_rd.metrics.embeddings import sentence_embeddings
from mulcot_rd.metrics.labels import label_scores
from mulcot_rd.schema import Post, Sentiment

logger = logging.getLogger(__name__)

FOLDS = 3
_WORD = re.compile(r"\w")
# Inverse regularisation strengths that cross-validation chooses from, and what stands where it can't be run.
C_GRID = (1.0, 3.0, 10.0)
C_DEFAULT = 1.0


class NotMeasuredError(ValueError):
    """Why a baseline can't be had."""


def majority_baseline(train_labels: Sequence[Sentiment], test: Sized) -> list[Sentiment]:
    """Predict the most frequent training label for every test post (the first in class order on a tie).

    Raises:
        ValueError: If there are no training labels.
    """
    if len(train_labels) == 0:
        raise ValueError("the majority baseline needs training labels: prepare a training split first")
    counts = Counter(train_labels)
    return [max(Sentiment, key=lambda label: counts[label])] * len(test)


def tfidf_logistic_regression(train_posts: Sequence[Post], test_posts: Sequence[Post], seed: int) -> list[Sentiment]:
    """Predict test labels from words alone: TF-IDF of words and word pairs, logistic regression.

    The aspect of a fine-grained post enters as marked words beside the text.

    Args:
        train_posts: Posts to learn from.
        test_posts: Posts to predict.
        seed: Seed of the folds.

    Returns:
        A label for each test post.

    Raises:
        NotMeasuredError: If no training post holds a word.
    """
    # A post without a word says nothing, and a fold of such posts would have no vocabulary.
    train_posts = [post for post in train_posts if _WORD.search(_document(post))]
    if not train_posts:
        raise NotMeasuredError("no training post holds a word")
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    train, test = ([_document(post) for post in posts] for posts in (train_posts, test_posts))
    return _logistic_regression(words, train, [post.label for post in train_posts], test, seed)


def embeddings_logistic_regression(
    train_posts: Sequence[Post], test_posts: Sequence[Post], seed: int
) -> list[Sentiment]:
    """Predict test labels from sentence embeddings (all-MiniLM-L6-v2) by logistic regression.

    The aspect of a fine-grained post stands before its text. Arguments as for :func:`tfidf_logistic_regression`.
    """
    every = [*train_posts, *test_posts]
    texts = [post.text if post.aspect is None else f"{post.aspect}: {post.text}" for post in every]
    embeddings = sentence_embeddings(texts, show_progress=True)
    train, test = embeddings[: len(train_posts)], embeddings[len(train_posts) :]
    return _logistic_regression("passthrough", train, [post.label for post in train_posts], test, seed)


def _logistic_regression(
    features: TfidfVectorizer | str,
    train: Sequence[str] | np.ndarray,
    labels: Sequence[Sentiment],
    test: Sequence[str] | np.ndarray,
    seed: int,
) -> list[Sentiment]:
    """Its regularisation is chosen by 3-fold cross-validation on the training posts; test labels are not looked at."""
    counts = Counter(labels)
    if len(counts) < 2:
        # With one class among the training posts there is nothing to tell apart.
        return majority_baseline(labels, test)
    model = Pipeline([("features", features), ("classifier", LogisticRegression(C=C_DEFAULT, max_iter=2000))])
    if min(counts.values()) >= FOLDS:
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"classifier__C": C_GRID}, cv=folds, scoring="accuracy")
    model.fit(train, [label.value for label in labels])
    return [Sentiment(label) for label in model.predict(test)]


def measure_baselines(posts: Sequence[Post], seed: int) -> dict[str, dict[str, object]]:
    """Train the baselines on the training split and score them on the test split.

    Args:
        posts: The posts of a data set; those of the dev split are left out.
        seed: Seed of the folds and of the bootstrap.

    Returns:
        The classification scores by baseline (``majority``, ``tfidf_logistic_regression``,
        ``embeddings_logistic_regression``), as fractions, under ``intervals`` the ends of each one's 95 percent
        bootstrap interval, and the number of test ``posts``.

    A baseline that can't be had holds its reason under ``not_measured`` alone.
    """
    train = [post for post in posts if post.split == "train"]
    test = [post for post in posts if post.split == "test"]
    labels = [post.label for post in test]
    baselines: dict[str, Callable[[], list[Sentiment]]] = {
        "majority": lambda: majority_baseline([post.label for post in train], labels),
        "tfidf_logistic_regression": lambda: tfidf_logistic_regression(train, test, seed),
        "embeddings_logistic_regression": lambda: embeddings_logistic_regression(train, test, seed),
    }
    scores: dict[str, dict[str, object]] = {}
    for name, predict in baselines.items():
        try:
            if not train or not test:
                raise NotMeasuredError(f"there are {len(train)} training and {len(test)} test posts")
            scores[name] = label_scores(predict(), labels, seed=seed)
        except NotMeasuredError as error:
            logger.warning("the baseline %s is left empty: %s", name, error)
            scores[name] = {"not_measured": str(error)}
    return scores


def _document(post: Post) -> str:
    """The post's words, and those of its aspect marked so that they are features of their own."""
    aspect = "" if post.aspect is None else " ".join(f"aspect_{word}" for word in re.findall(r"\w+", post.aspect))
    return f"{post.text}\n{aspect}"
