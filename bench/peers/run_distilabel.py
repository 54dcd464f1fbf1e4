"""Asks prompts of a JSON file with distilabel: ``run_distilabel.py URL POSTS CONCURRENCY FOLDER``.

Run by ``bench/teacher.py`` with the Python of an environment of its own. distilabel sends a batch's requests together
and waits for all of them, so its batch is the concurrency; its cache is off.
"""

import json
import os
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", DISTILABEL_LOG_LEVEL="WARNING")

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main(url: str, posts_path: str, concurrency: str, folder: str) -> None:
    """Ask, and print how many answers came."""
    rows = json.loads(Path(posts_path).read_text(encoding="utf-8"))
    data = [{"id": row["post"]["id"], "instruction": row["prompt"]} for row in rows]
    with Pipeline(name="bench", cache_dir=folder) as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=int(concurrency))
        generate = TextGeneration(
            llm=OpenAILLM(
                model="fake",
                base_url=url,
                api_key="none",
                timeout=60,
                generation_kwargs={"temperature": 0.0, "max_new_tokens": 1024},
            ),
            input_batch_size=int(concurrency),
            add_raw_output=False,
            add_raw_input=False,
        )
        load >> generate
    result = pipeline.run(use_cache=False)
    print(sum(answer is not None for answer in result["default"]["train"]["generation"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
