"""Ask an exported student as somebody without this project does: with stock classes of transformers, and its prompts.

Texts are compared with those that the project wrote, first answers alone. The project can't be imported meanwhile. For
Qwen2.5-VL and Qwen3-VL::

    kedro export --student data/06_models/sample/arch4-tiny-full/student /elsewhere/student
    python -I bench/stock.py /elsewhere/student data/01_raw/sample \
        data/07_model_output/sample/arch4-tiny-full/student_test.jsonl/*/student_test.jsonl
"""

import argparse
import csv
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template

sys.path = [path for path in sys.path if not Path(path, "mulcot_rd").is_dir()]
if find_spec("mulcot_rd"):
    sys.exit("mulcot_rd can be imported, so this would say nothing of a machine without it")

import torch  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer  # noqa: E402

# What the project's predictions call the answer to each prompt, and the attempts that it took.
ANSWERS = {"label": ("raw_label_text", "label_attempts"), "reasoning": ("raw_text", "attempts")}


class Student:
    """An exported model.

    Args:
        folder: Its folder.
        max_new_tokens: Tokens of an answer at most.
    """

    def __init__(self, folder: Path, max_new_tokens: int) -> None:
        self.folder = folder
        self.size = json.loads((folder / "manifest.json").read_text())["inputs"]["image_size"]
        self.model = AutoModelForImageTextToText.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.images = AutoImageProcessor.from_pretrained(folder, backend="pil")
        special = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        self.special = re.compile("|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)))
        # The head is wider than the tokenizer.
        beyond = list(range(len(self.tokenizer), self.model.get_output_embeddings().weight.shape[0]))
        self.settings = {"max_new_tokens": max_new_tokens, "suppress_tokens": beyond or None}

    def answer(self, task: str, text: str, image: Path, aspect: str | None) -> str:
        """The answer to one prompt of a post."""
        name = f"prompt_{task}{'_aspect' if aspect else ''}.txt"
        given = {"text": text, **({"aspect": aspect} if aspect else {})}
        quoted = {key: json.dumps(self.plain(value), ensure_ascii=False) for key, value in given.items()}
        prompt = Template((self.folder / name).read_text(encoding="utf-8")).substitute(quoted)
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        chat = self.tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
        inputs = self.images(images=[self.square(image)], return_tensors="pt")
        pad = self.tokenizer.convert_ids_to_tokens(self.model.config.image_token_id)
        tokens = int(inputs["image_grid_thw"].prod()) // self.images.merge_size**2
        ids = self.tokenizer(chat.replace(pad, pad * tokens), add_special_tokens=False, return_tensors="pt")
        image_positions = (ids["input_ids"] == self.model.config.image_token_id).int()
        written = self.model.generate(**inputs, **ids, mm_token_type_ids=image_positions, **self.settings)
        return self.tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)

    def plain(self, text: str) -> str:
        """The text with special tokens taken apart, as the model card says."""
        return self.special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text.replace("<|", "< |"))

    def square(self, path: Path) -> Image.Image:
        """The image as the model card says: upright, over white, resized."""
        image = ImageOps.exif_transpose(Image.open(path))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)


def main() -> None:
    """Print how many answers are equal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help="folder that kedro export wrote")
    arguments.add_argument("posts", type=Path, help="folder with posts.csv and images/")
    arguments.add_argument("predictions", type=Path, help="the project's answers, student_test.jsonl")
    arguments.add_argument("--max-new-tokens", type=int, default=256, help="tokens of an answer at most")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    student = Student(options.folder, options.max_new_tokens)
    with (options.posts / "posts.csv").open(encoding="utf-8", newline="") as file:
        posts = {row["id"]: row for row in csv.DictReader(file)}
    predictions = [json.loads(line) for line in options.predictions.read_text(encoding="utf-8").splitlines()]
    for task, (text, attempts) in ANSWERS.items():
        asked = [row for row in predictions if row[attempts] == 1]
        equal = 0
        for row in asked:
            post = posts[row["id"]]
            image = options.posts / "images" / post["image"]
            equal += student.answer(task, post["text"], image, post["aspect"] or None) == row[text]
        print(f"{task}: {equal} of {len(asked)} equal")


if __name__ == "__main__":
    main()
