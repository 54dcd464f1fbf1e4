"""Annotates prompts of a JSON file with this project's teacher: ``run_mulcot_rd.py URL POSTS CONCURRENCY FOLDER``.

The posts are references, so that each takes one request, like a prompt of the peers.
"""

import json
import sys
from pathlib import Path

from mulcot_rd.schema import Post
from mulcot_rd.teacher import TeacherParameters, annotate


def main(url: str, posts_path: str, concurrency: str, folder: str) -> None:
    """Annotate, and print how many answers came."""
    rows = json.loads(Path(posts_path).read_text(encoding="utf-8"))
    posts = [Post.model_validate(row["post"]) for row in rows]
    parameters = TeacherParameters(
        provider="openai",
        base_url=url,
        model="fake",
        send=rows[0]["send"],
        max_concurrency=int(concurrency),
        timeout_s=60.0,
    )
    print(len(annotate([], posts, parameters, Path(folder) / "ledger.jsonl", "none").references))


if __name__ == "__main__":
    main(*sys.argv[1:])
