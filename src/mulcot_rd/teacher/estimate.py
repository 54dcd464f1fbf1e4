"""What an annotation would take, before anything is asked."""

from dataclasses import dataclass
from pathlib import Path

from mulcot_rd.schema import Post
from mulcot_rd.teacher.importer import ImportingTeacher
from mulcot_rd.teacher.ledger import Ledger, question_key
from mulcot_rd.teacher.offline import OfflineTeacher
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import Request

# English prompts come to about four characters a token with every current tokenizer.
CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True)
class Estimate:
    """The least and the most that an annotation asks for; tokens are those of prompts, without images.

    Attributes:
        posts: Training and test posts together.
        imported: Posts whose first answer an import file has.
        remembered: Posts whose first answer the ledger has.
        least_requests: If every first answer that is still missing is usable and right.
        most_requests: If every answer of both stages is unusable.
        prompt_tokens: Of the first requests that are still missing, about.
        answer_tokens: The most that their answers can have.
    """

    posts: int
    imported: int
    remembered: int
    least_requests: int
    most_requests: int
    prompt_tokens: int
    answer_tokens: int

    def __str__(self) -> str:
        return (
            f"dry run: {self.posts} posts, {self.imported} imported, {self.remembered} in the ledger; "
            f"{self.least_requests} to {self.most_requests} requests; first requests about {self.prompt_tokens} "
            f"prompt tokens without images and at most {self.answer_tokens} answer tokens"
        )


def estimate(
    posts: list[Post], references_for: list[Post], parameters: TeacherParameters, ledger_path: Path
) -> Estimate:
    """Count what an annotation would ask a server for; the offline annotator asks nothing.

    Raises:
        TeacherError: If the import file is missing or empty.
        ImageError: If the image of a post is missing.
    """
    answers = 1 + parameters.max_retries
    imported = remembered = least = most = characters = 0
    source = None
    if parameters.import_path is not None:
        source = ImportingTeacher(Path(parameters.import_path), OfflineTeacher())
    ledger = Ledger(ledger_path)
    for index, post in enumerate([*posts, *references_for]):
        training = index < len(posts)
        request = Request(post, None, "reasoning" if training else "reference", send=parameters.send)
        second = answers if training else 0
        if source is not None and source.covers(post):
            imported += 1
            most += second
            continue
        if parameters.writer == "openai" and ledger.get(question_key(request, parameters)) is not None:
            remembered += 1
            most += answers - 1 + second
            continue
        least += 1
        most += answers + second
        characters += len(request.messages[0].text)
    asks = parameters.writer == "openai"
    return Estimate(
        posts=len(posts) + len(references_for),
        imported=imported,
        remembered=remembered,
        least_requests=least if asks else 0,
        most_requests=most if asks else 0,
        prompt_tokens=characters // CHARACTERS_A_TOKEN if asks else 0,
        answer_tokens=least * parameters.max_tokens if asks else 0,
    )
