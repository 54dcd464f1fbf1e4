"""A trained student or assistant in Python: one post in, one verdict out.

What takes long to import is imported where a model is loaded.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, TypedDict

from PIL import Image

from mulcot_rd.errors import UserError
from mulcot_rd.extras import extra
from mulcot_rd.images import load_image
from mulcot_rd.schema import PostContent, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mulcot_rd.generation import GenerationParameters
    from mulcot_rd.models.inputs import InputEncoder
    from mulcot_rd.prediction.model import ModelInUse

ImageGiven = str | Path | bytes | Image.Image | None


class PostGiven(TypedDict, total=False):
    """A post for :meth:`SentimentReasoner.predict_many`: the arguments of :meth:`SentimentReasoner.predict`."""

    text: str
    image: ImageGiven
    aspect: str | None
    caption: str | None


class SentimentReasoner:
    """A trained model that judges posts and says why.

    Example:
        >>> from mulcot_rd import SentimentReasoner
        >>> reasoner = SentimentReasoner.load("data/06_models/sample/arch4-tiny-full/student")
        >>> verdict = reasoner.predict(text="Look at this singer", image="photo.jpg", aspect="singer")
        >>> print(verdict.label, verdict.probabilities, verdict.final_conclusion)
    """

    def __init__(
        self, base: "PreTrainedModel | None", model: "ModelInUse", generation: "GenerationParameters", seed: int
    ) -> None:
        """Take what :meth:`load` has found."""
        self._base, self._model, self._generation, self._seed = base, model, generation, seed

    @classmethod
    def load(cls, folder: str | Path, *, generation: "GenerationParameters | None" = None, seed: int = 42) -> Self:
        """Load a model.

        Args:
            folder: The folder of a trained student or assistant (of several versions the newest), or a folder that
                ``kedro export`` wrote.
            generation: Batch size, lengths, retries; by default the paper's. With ``backend="served"`` a server
                answers, and no weights are loaded.
            seed: Of the retries' sampling.

        Raises:
            DamagedError: If the folder holds no model, or a file is not the one that was written.
            StaleInputError: If the model was trained with other prompts than this version has.
            WeightsError: If the weights below an adapter can't be loaded.
        """
        from mulcot_rd.generation import GenerationParameters
        from mulcot_rd.models.lora import without_adapter
        from mulcot_rd.prediction.model import model_in_use

        model = model_in_use(Path(folder).expanduser())
        generation = generation or GenerationParameters()
        if generation.backend == "served":
            return cls(None, model, generation, seed)
        base = without_adapter(model.stored.load().model).eval()
        return cls(base, model, generation, seed)

    def predict(
        self, *, text: str = "", image: ImageGiven = None, aspect: str | None = None, caption: str | None = None
    ) -> Verdict:
        """Judge one post.

        Args:
            text: Its text.
            image: Its image: a path, a file URL, the bytes of a file, or an image that Pillow has opened. Models that
                see no image don't open it.
            aspect: What the feeling is about; ``None`` for the whole post.
            caption: What the image shows, for text-only models.

        Raises:
            UserError: If the post lacks what the model was trained on, or the image can't be read.
        """
        return self.predict_many([{"text": text, "image": image, "aspect": aspect, "caption": caption}])[0]

    def predict_many(self, posts: Iterable[PostGiven], *, show_progress: bool = False) -> list[Verdict]:
        """Judge posts, many at a time.

        Args:
            posts: Each with the arguments of :meth:`predict`.
            show_progress: Whether a progress bar is shown.

        Returns:
            The verdicts, in order.

        Raises:
            UserError: As :meth:`predict`, for the first post that can't be judged; the message says which.
            TeacherError: If the server answers nothing. Of posts that it refuses beside others the verdicts are empty,
                and the log says why.
        """
        from mulcot_rd.generation import answer_posts, kept_answers
        from mulcot_rd.generation.label_scores import label_scores
        from mulcot_rd.generation.predict import verdicts

        encoder, tasks = self._encoder(), self._model.tasks
        with TemporaryDirectory(prefix="mulcot-rd-") as folder:
            contents = [self._content(number, post, Path(folder)) for number, post in enumerate(posts)]
            if not contents:
                return []
            self._model.warn_of_other_questions(contents)
            if self._base is None:
                with extra("teacher"):
                    from mulcot_rd.generation.served import served_answers
                    from mulcot_rd.teacher.errors import TeacherError

                asked = encoder, contents, tasks, self._generation
                given = served_answers(*asked, folder=Path(folder), complete=False)
                refused = [answer.refusal for answer in given if answer.refusal is not None]
                if len(refused) == len(given):
                    raise TeacherError(f"the server answered nothing: {refused[0]}")
                return verdicts(kept_answers(given, contents, tasks))
            description = f"{len(contents)} posts" if show_progress else None
            given = answer_posts(
                self._base, encoder, contents, tasks, self._generation, seed=self._seed, description=description
            )
            scores = label_scores(self._base, encoder, contents) if "label" in tasks else None
        return verdicts(kept_answers(given, contents, tasks), scores, self._model.temperature)

    def stream(
        self, *, text: str = "", image: ImageGiven = None, aspect: str | None = None, caption: str | None = None
    ) -> Iterator[Verdict]:
        """Judge one post as :meth:`predict` does, and show the verdict as it comes about.

        Yields:
            The verdict as far as it is written: with the probabilities first, then after every token. What is not there
            yet is empty or ``None``. The last one is that of :meth:`predict`.

        Raises:
            UserError: As :meth:`predict`.
        """
        from mulcot_rd.generation import Answer, kept_answers
        from mulcot_rd.generation.answers import encode
        from mulcot_rd.generation.engine import write_answers
        from mulcot_rd.generation.label_scores import label_scores
        from mulcot_rd.generation.predict import verdict

        if self._base is None:
            # A server's answers arrive whole.
            yield self.predict(text=text, image=image, aspect=aspect, caption=caption)
            return
        encoder, tasks = self._encoder(), self._model.tasks
        with TemporaryDirectory(prefix="mulcot-rd-") as folder:
            given = {"text": text, "image": image, "aspect": aspect, "caption": caption}
            post = self._content(0, given, Path(folder))
            self._model.warn_of_other_questions([post])
            scores = label_scores(self._base, encoder, [post])[0] if "label" in tasks else None
            judged = partial(verdict, scores=scores, temperature=self._model.temperature)
            written = {task: Answer(task, post.id, 0, "", None) for task in tasks}
            yield judged(written)
            ended = []
            for answer in write_answers(
                self._base, encoder, [post], encode(encoder, [post], tasks), self._generation,
                seed=self._seed, streamed=True,
            ):  # fmt: skip
                if answer.finished is not None:
                    ended.append(answer)
                # A line is a section; half of the next section's key is not part of this one.
                written[answer.task] = answer._replace(text=re.sub(r"\n[^\n:]*$", "", answer.text))
                yield judged(written)
        yield judged({task: kept for task, (kept,) in kept_answers(ended, [post], tasks).items()})

    def _encoder(self) -> "InputEncoder":
        """A fresh one: the images that it keeps are of one call alone, for a file may be another the next time."""
        known = self._model.encoder
        return type(known)(known.family, known.processor, known.image_size, known.view)

    def _content(self, number: int, post: Mapping[str, Any], folder: Path) -> PostContent:
        """A post as the model reads it; its image is written to the folder unless it is a file."""
        from mulcot_rd.prediction.contents import fault, image_path, is_missing, type_fault

        if unknown := post.keys() - PostGiven.__annotations__.keys():
            raise UserError(f"post {number} has {unknown.pop()!r}; a post has {', '.join(PostGiven.__annotations__)}")
        encoder = self._model.encoder
        known = {name: value for name, value in post.items() if not is_missing(value)}
        image = known.pop("image", None) if "image" in encoder.reads else None
        for name in ("text", "aspect", "caption"):
            if problem := type_fault(name, known.get(name, "")):
                raise UserError(f"post {number}: {problem}")
        given = {
            "text": known.get("text", "").strip(),
            "aspect": known.get("aspect", "").strip() or None,
            "caption": known.get("caption"),
        }
        if problem := fault({**given, "image": "given" if image is not None else None}, encoder):
            raise UserError(f"post {number}: {problem}")
        if isinstance(image, str | Path):
            image = image_path(str(image), Path())
        elif image is not None:
            path = folder / f"{number}.png"
            # As large as the model sees it: a thousand photos would fill the disk.
            load_image(image, encoder.image_size).save(path)
            image = str(path)
        return PostContent(id=str(number), image=image, **given)
