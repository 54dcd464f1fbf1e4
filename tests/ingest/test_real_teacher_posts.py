"""The splits of posts that a real teacher wrote about (bench/real_teacher_posts.py)."""

import itertools

from mulcot_rd.schema import Post
from real_teacher_posts import split, tweets


def _post(number: int, text: str, image: str) -> Post:
    return Post(id=f"test-{number}", text=text, aspect="a", image=image, label="neutral", split="test")


def test_rows_that_share_an_image_or_a_text_are_one_tweet():
    posts = [
        _post(1, "one", "1.jpg"),
        _post(2, "two", "2.jpg"),
        _post(3, "one", "3.jpg"),
        _post(4, "four", "3.jpg"),
        _post(5, " two ", "5.jpg"),
        _post(6, "six", "6.jpg"),
    ]
    assert sorted(sorted(post.id for post in group) for group in tweets(posts)) == [
        ["test-1", "test-3", "test-4"],
        ["test-2", "test-5"],
        ["test-6"],
    ]


def test_no_tweet_is_in_two_splits_and_sizes_are_those_asked_for():
    posts = [_post(number, f"text {number // 2}", f"{number // 3}.jpg") for number in range(60)]
    posts += [_post(number, f"text {number}", f"{number}.jpg") for number in range(60, 100)]
    parts = split(posts, dev=10, test=15, seed=7)
    assert {name: len(part) for name, part in parts.items()} == {"train": 75, "dev": 10, "test": 15}
    for one, other in itertools.combinations(parts.values(), 2):
        assert not {post.image for post in one} & {post.image for post in other}
        assert not {post.text for post in one} & {post.text for post in other}
    assert parts == split(posts, dev=10, test=15, seed=7) != split(posts, dev=10, test=15, seed=8)
