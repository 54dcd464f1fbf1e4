"""Asks prompts of a JSON file with bespokelabs-curator: ``run_curator.py URL POSTS CONCURRENCY FOLDER``.

Run by ``bench/teacher.py`` with the Python of an environment of its own. The OpenAI backend is its fastest for a chat
completions server; its rate limits are set out of the way, its cache is a new folder, display and telemetry are off.
"""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path


def main(url: str, posts_path: str, concurrency: str, folder: str) -> None:
    """Ask, and print how many answers came."""
    os.environ.update(
        CURATOR_DISABLE_RICH_DISPLAY="1", TELEMETRY_ENABLED="False", HF_HOME=folder, OPENAI_API_KEY="none"
    )
    # Its token counter wants a file from the network; litellm, which it depends on, carries the same one.
    litellm = Path(find_spec("litellm").origin).parent
    os.environ["TIKTOKEN_CACHE_DIR"] = str(litellm / "litellm_core_utils" / "tokenizers")
    from bespokelabs import curator  # noqa: PLC0415 - reads the environment as it is imported

    class Annotator(curator.LLM):
        """A prompt in, the answer's text out."""

        def prompt(self, row: dict) -> str:
            return row["prompt"]

        def parse(self, row: dict, response: str) -> dict:
            return {"id": row["id"], "answer": response}

    rows = json.loads(Path(posts_path).read_text(encoding="utf-8"))
    annotator = Annotator(
        model_name="fake",
        backend="openai",
        generation_params={"temperature": 0.0, "max_tokens": 1024},
        backend_params={
            "base_url": url,
            "max_concurrent_requests": int(concurrency),
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "request_timeout": 60,
        },
    )
    answers = annotator([{"id": row["post"]["id"], "prompt": row["prompt"]} for row in rows], working_dir=folder)
    print(len(answers.dataset))


if __name__ == "__main__":
    main(*sys.argv[1:])
