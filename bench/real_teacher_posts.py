"""Make a data set of the posts of Twitter-2015 that a real teacher wrote about.

The authors' 800 reasonings of Qwen2.5-VL-72B are of test posts. To train on some, they need splits of their own::

    python bench/real_teacher_posts.py data/01_raw/twitter2015 \
        data/01_raw/twitter2015/teacher_reasoning_qwen2.5-vl-72b.jsonl data/01_raw/twitter2015_72b

Rows of one tweet, which share an image or a text, go to the same split, so that no model is tested on a tweet that it
has seen. The split is not the paper's.
"""

import argparse
import random
import shutil
from collections import defaultdict
from pathlib import Path

import pandas as pd

from mulcot_rd.ingest import IngestParameters, read_unchecked
from mulcot_rd.schema import Post
from mulcot_rd.teacher.importer import post_key, read_import


def tweets(posts: list[Post]) -> list[list[Post]]:
    """The posts in groups that share an image or, with the aspect filled in, a text."""
    groups: dict[tuple[str, str], list[Post]] = {}
    for post in posts:
        keys = [("image", post.image), ("text", " ".join(post.text.split()))]
        joined = [post]
        for group in {id(groups[key]): groups[key] for key in keys if key in groups}.values():
            joined.extend(group)
        for member in joined:
            groups["image", member.image] = groups["text", " ".join(member.text.split())] = joined
    return list({id(group): group for group in groups.values()}.values())


def split(posts: list[Post], dev: int, test: int, seed: int) -> dict[str, list[Post]]:
    """The posts by split: whole tweets in an order drawn from the seed fill test, then dev, then train."""
    order = tweets(posts)
    random.Random(seed).shuffle(order)
    parts: dict[str, list[Post]] = defaultdict(list)
    for group in order:
        room = {"test": test - len(parts["test"]), "dev": dev - len(parts["dev"])}
        name = next((name for name, left in room.items() if left >= len(group)), "train")
        parts[name].extend(group)
    return parts


def main() -> None:
    """Write ``posts.csv`` and ``images``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, help="folder of Twitter-2015")
    parser.add_argument("reasonings", type=Path, help="the file of reasonings")
    parser.add_argument("out", type=Path, help="folder of the new data set")
    parser.add_argument("--dev", type=int, default=100)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()

    answers = read_import(arguments.reasonings)
    posts = read_unchecked(arguments.raw.name, arguments.raw.parent, IngestParameters())
    covered = [post for post in posts if post_key(post.text, post.aspect, post.image) in answers]
    parts = split(covered, arguments.dev, arguments.test, arguments.seed)
    images = arguments.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in ("train", "dev", "test"):
        for post in parts[name]:
            image = Path(post.image)
            shutil.copy2(image, images / image.name)
            row = post.model_dump(include={"id", "text", "aspect", "label"})
            rows.append({**row, "split": name, "image": image.name})
    pd.DataFrame(rows).to_csv(arguments.out / "posts.csv", index=False)
    print({name: len(part) for name, part in parts.items()}, "posts of", len(tweets(covered)), "tweets")


if __name__ == "__main__":
    main()
