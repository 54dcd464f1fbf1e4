"""The sample that ships: it is what its generator writes, and it is what its README says."""

import csv
import filecmp
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from PIL import Image
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mulcot_rd.demo.sample_generator import words, write_sample
from mulcot_rd.demo.sample_generator.drawing import BOUNDS
from mulcot_rd.images import load_image
from mulcot_rd.ingest import IngestParameters, check_rejected_share, read_posts
from mulcot_rd.schema import Sentiment

RAW = Path(__file__).parents[2] / "data" / "01_raw"
SAMPLE = RAW / "sample"
ANALYZER = SentimentIntensityAnalyzer()


@pytest.fixture(scope="module")
def posts():
    result = read_posts("sample", RAW, IngestParameters(), seed=0)
    assert result.rejected == []
    check_rejected_share(result, IngestParameters(max_rejected_share=0), "sample")
    return result.posts


@pytest.fixture(scope="module")
def cues():
    with (SAMPLE / "cues.csv").open(encoding="utf-8", newline="") as handle:
        return {row["id"]: row for row in csv.DictReader(handle)}


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_generator_writes_the_committed_bytes(tmp_path):
    write_sample(tmp_path, seed=0)

    names = names_below(tmp_path)
    assert names == names_below(SAMPLE)
    _, differing, unreadable = filecmp.cmpfiles(tmp_path, SAMPLE, names, shallow=False)
    assert (differing, unreadable) == ([], [])


def test_another_seed_writes_another_sample(tmp_path):
    write_sample(tmp_path, seed=1)

    assert (tmp_path / "posts.csv").read_bytes() != (SAMPLE / "posts.csv").read_bytes()
    assert len(names_below(tmp_path)) == len(names_below(SAMPLE))


def test_size_and_splits(posts):
    assert Counter(post.split for post in posts) == {"train": 400, "dev": 80, "test": 120}
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 2_500_000
    assert all(load_image(post.image).size == (96, 96) for post in posts)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_labels_and_kinds_are_mixed_alike_in_every_split(posts, cues, split):
    ids = [post.id for post in posts if post.split == split]
    labels = Counter(post.label for post in posts if post.split == split)
    kinds = Counter(cues[post_id]["kind"] for post_id in ids)

    for label, share in (("positive", 0.39), ("neutral", 0.25), ("negative", 0.36)):
        assert labels[Sentiment(label)] / len(ids) == pytest.approx(share, abs=0.01)
    for kind, share in (("text", 0.27), ("image", 0.24), ("agree", 0.10), ("conflict", 0.14), ("neutral", 0.25)):
        assert kinds[kind] / len(ids) == pytest.approx(share, abs=0.01)


def test_texts_are_short_name_their_aspect_and_never_repeat(posts):
    assert len({post.text for post in posts}) == len(posts)
    assert len({Path(post.image).read_bytes() for post in posts}) == len(posts)
    assert all(post.aspect in post.text for post in posts)
    assert all(8 <= len(post.text.split()) <= 18 for post in posts)
    assert len({post.aspect for post in posts}) >= 30


@pytest.mark.parametrize(("words_of", "sign"), [(words.POSITIVE_CUES, 1), (words.NEGATIVE_CUES, -1)])
def test_every_cue_is_in_vaders_lexicon_and_in_eight_training_posts(posts, cues, words_of, sign):
    in_train = Counter(
        cue for post in posts if post.split == "train" for cue in set(cues[post.id]["text_cues"].split())
    )
    assert len(words_of) >= 24
    for cue in words_of:
        assert sign * ANALYZER.lexicon[cue] > 0, cue
        assert in_train[cue] >= 8, cue


def test_vader_reads_every_text_as_composed_and_nothing_but_cues(posts, cues):
    for post in posts:
        tokens = post.text.lower().replace(",", "").replace(":", "").split()
        assert sorted(token for token in tokens if token in ANALYZER.lexicon) == sorted(
            cues[post.id]["text_cues"].split()
        )
        compound = ANALYZER.polarity_scores(post.text)["compound"]
        read = "positive" if compound > 0 else "negative" if compound < 0 else "neutral"
        assert read == cues[post.id]["text_polarity"], post.text


def test_brightness_and_saturation_tell_the_image_classes_apart(posts, cues):
    for post in posts:
        with Image.open(post.image) as image:
            assert BOUNDS[Sentiment(cues[post.id]["image_polarity"])].hold(image), post.image
    assert (BOUNDS[Sentiment.POSITIVE].brightness[0], BOUNDS[Sentiment.POSITIVE].saturation[0]) == (0.62, 0.35)
    assert (BOUNDS[Sentiment.NEGATIVE].brightness[1], BOUNDS[Sentiment.NEGATIVE].saturation[1]) == (0.35, 0.30)
    assert (BOUNDS[Sentiment.NEUTRAL].brightness, BOUNDS[Sentiment.NEUTRAL].saturation[1]) == ((0.42, 0.58), 0.25)


def best_guess_accuracy(posts, evidence) -> float:
    """Accuracy on test of the best label, by counts on train, for what is seen of a post."""
    counts = defaultdict(Counter)
    for post in posts:
        if post.split == "train":
            counts[evidence(post)][post.label] += 1
    test = [post for post in posts if post.split == "test"]
    return sum(counts[evidence(post)].most_common(1)[0][0] == post.label for post in test) / len(test)


def test_both_modalities_matter(posts, cues):
    # All that can be told from one modality: literal polarity, and for texts whether they are irony-capable.
    def text(post):
        row = cues[post.id]
        return row["text_polarity"], row["kind"] in ("agree", "conflict")

    def image(post):
        return cues[post.id]["image_polarity"]

    assert 0.55 < best_guess_accuracy(posts, text) < 0.70
    assert 0.65 < best_guess_accuracy(posts, image) < 0.76
    assert best_guess_accuracy(posts, lambda post: (text(post), image(post))) == 1


def test_a_text_of_agree_or_conflict_does_not_say_which(posts, cues):
    composed = {kind: [post for post in posts if cues[post.id]["kind"] == kind] for kind in ("agree", "conflict")}
    openings = {kind: {post.text.split()[0] for post in of_kind} for kind, of_kind in composed.items()}
    spoken = {
        kind: {cue for post in of_kind for cue in cues[post.id]["text_cues"].split()}
        for kind, of_kind in composed.items()
    }

    assert openings["agree"] & openings["conflict"] >= {"Just", "Oh", "Another", "Look", "Hold", "What"}
    assert len(spoken["agree"] & spoken["conflict"]) >= 0.9 * len(spoken["agree"] | spoken["conflict"])
