"""Twitter-2015 as it is, and with faults put into copies of its real rows."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from mulcot_rd.images import load_image
from mulcot_rd.ingest import IngestError, IngestParameters, IngestResult, check_rejected_share, read_posts
from mulcot_rd.schema import Post

PARAMETERS = IngestParameters()


def read(raw_dir: Path, **settings) -> IngestResult:
    return read_posts("twitter2015", raw_dir, IngestParameters(**settings), seed=42)


@pytest.fixture
def raw_dir(shared_data: Path, tmp_path: Path) -> Path:
    """Header and first 30 rows of every real split, with their images."""
    source, copy = shared_data / "twitter2015", tmp_path / "raw" / "twitter2015"
    (copy / "images").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = (source / f"{split}.tsv").read_text(encoding="utf-8").split("\n")[:31]
        (copy / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for line in lines[1:]:
            shutil.copyfile(source / "images" / line.split("\t")[2], copy / "images" / line.split("\t")[2])
    return tmp_path / "raw"


def set_line(path: Path, number: int, line: bytes) -> None:
    """Replace a line by its number in an editor."""
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines))


def test_all_of_twitter_2015_is_read_and_nothing_rejected(shared_data):
    result = read(shared_data)

    assert Counter(post.split for post in result.posts) == {"train": 3179, "dev": 1122, "test": 1037}
    assert result.rejected == []
    assert result.rejected_share == 0
    assert len({post.id for post in result.posts}) == len(result.posts)
    assert all(post.aspect and post.aspect in post.text and "$T$" not in post.text for post in result.posts)
    check_rejected_share(result, PARAMETERS, "twitter2015")


def test_a_row_becomes_a_post(shared_data):
    first = read(shared_data).posts[0]

    assert first == Post(
        id="train-1",
        split="train",
        text="RT @ ltsChuckBass : Chuck Bass is everything # MCM",
        aspect="Chuck Bass",
        image=str(shared_data / "twitter2015" / "images" / "1860693.jpg"),
        label="positive",
    )


def test_the_odd_originals_all_open(shared_data, raw_dir):
    originals = sorted((shared_data / "twitter2015" / "originals_odd").iterdir())
    rows = [f"{n}\t1\t{path.name}\t$T$ is here\tsomebody" for n, path in enumerate(originals, start=1)]
    for path in originals:
        shutil.copyfile(path, raw_dir / "twitter2015" / "images" / path.name)
    (raw_dir / "twitter2015" / "train.tsv").write_text("\n".join(["index\tx", *rows]))

    result = read(raw_dir)

    assert sum(post.split == "train" for post in result.posts) == len(originals) == 9
    assert result.rejected == []


FAULTS = {
    "wrong column count": b"2\t1\t1860693.jpg\tno aspect column $T$",
    "unknown label": b"2\t3\t1860693.jpg\t$T$ is everything\tMCM",
    "image not found": b"2\t1\tnowhere.jpg\t$T$ is everything\tMCM",
    "image can't be read": b"2\t1\tbroken.jpg\t$T$ is everything\tMCM",
    "image can't be read (OSError)": b"2\t1\t" + b"x" * 300 + b"\t$T$ is everything\tMCM",
    "duplicate id": b"1\t1\t1860693.jpg\t$T$ is everything\tMCM",
    "empty text": b"2\t1\t1860693.jpg\t  \tMCM",
    "empty aspect": b"2\t1\t1860693.jpg\t$T$ is everything\t",
    "empty index": b"\t1\t1860693.jpg\t$T$ is everything\tMCM",
    "not UTF-8": b"2\t1\t1860693.jpg\t$T$ is caf\xe9\tMCM",
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_faulty_row_is_rejected_with_its_reason_and_line_and_costs_itself_alone(raw_dir, reason):
    folder = raw_dir / "twitter2015"
    whole = read(raw_dir)
    (folder / "images" / "broken.jpg").write_bytes((folder / "images" / "1860693.jpg").read_bytes()[:900])
    set_line(folder / "train.tsv", 3, FAULTS[reason])

    result = read(raw_dir)

    assert [(row.split, row.row) for row in result.rejected] == [("train", "3")]
    assert result.rejected[0].reason.startswith(reason)
    assert result.posts == [post for post in whole.posts if post.id != "train-2"]
    assert result.rejected_share == pytest.approx(1 / 90)


def test_rejected_rows_come_in_the_order_of_the_files(raw_dir):
    train = raw_dir / "twitter2015" / "train.tsv"
    for line, fault in ((9, "unknown label"), (4, "image not found"), (6, "duplicate id"), (2, "wrong column count")):
        set_line(train, line, FAULTS[fault])

    # Row 2 is gone, so row 6 with its id 1 is the first of that id.
    assert [row.row for row in read(raw_dir).rejected] == ["2", "4", "9"]


def test_quotes_carriage_returns_and_unicode_separators_are_text(raw_dir):
    train = raw_dir / "twitter2015" / "train.tsv"
    set_line(train, 2, '1\t0\t1860693.jpg\t"$T$ said " hi\u2028there\x0b \u0085 you\tMCM\r'.encode())
    set_line(train, 3, b'2\t0\t1860693.jpg\t"unclosed $T$\tMCM\r')

    posts = read(raw_dir).posts

    assert posts[0].text == '"MCM said " hi\u2028there\x0b \u0085 you'
    assert posts[1].text == '"unclosed MCM'
    assert posts[1].aspect == "MCM"
    assert len(posts) == 90


def test_line_numbers_count_blank_lines(raw_dir):
    train = raw_dir / "twitter2015" / "train.tsv"
    set_line(train, 3, b"\n" + FAULTS["unknown label"])

    assert [row.row for row in read(raw_dir).rejected] == ["4"]


def test_an_image_of_several_posts_is_opened_once(raw_dir, monkeypatch):
    opened = []
    monkeypatch.setattr("mulcot_rd.images.load_image", lambda path: opened.append(path) or load_image(path))

    posts = read(raw_dir).posts

    assert len(opened) < len(posts)
    for split in ("train", "dev", "test"):
        images = {post.image for post in posts if post.split == split}
        assert images <= set(opened)
    assert len(opened) == sum(len({p.image for p in posts if p.split == s}) for s in ("train", "dev", "test"))


def test_too_many_rejected_rows_are_reported_after_the_result_is_there(raw_dir):
    for line in range(2, 12):
        set_line(raw_dir / "twitter2015" / "dev.tsv", line, FAULTS["unknown label"])

    result = read(raw_dir)

    assert len(result.rejected) == 10
    said = r"twitter2015: 11\.1% .* 5\.0%; .* unknown label \(10\); .*rejected\.csv.* ingest\.max_rejected_share=0\.12$"
    with pytest.raises(IngestError, match=said):
        check_rejected_share(result, PARAMETERS, "twitter2015")
    check_rejected_share(result, IngestParameters(max_rejected_share=10 / 90), "twitter2015")


def test_an_empty_image_folder_rejects_every_row(raw_dir):
    shutil.rmtree(raw_dir / "twitter2015" / "images")
    (raw_dir / "twitter2015" / "images").mkdir()

    result = read(raw_dir)

    assert len(result.rejected) == 90
    with pytest.raises(IngestError, match=r"100\.0% .* image not found \(90\)"):
        check_rejected_share(result, PARAMETERS, "twitter2015")


def test_a_split_left_without_a_post_is_refused(raw_dir):
    (raw_dir / "twitter2015" / "dev.tsv").write_text("index\t#1 Label\n")

    with pytest.raises(IngestError, match="the split dev has no usable post"):
        check_rejected_share(read(raw_dir), PARAMETERS, "twitter2015")


def test_real_texts_without_images_are_refused_in_one_sentence(shared_data):
    with pytest.raises(IngestError, match=r"twitter2017: image folder not found: .*twitter2017_images"):
        read_posts("twitter2017", shared_data, IngestParameters(folder="twitter2017_text"), seed=0)


def test_the_image_folder_may_be_named_after_the_data_set(raw_dir):
    folder = raw_dir / "twitter2015"
    (folder / "images").rename(folder / "twitter2015_images")

    assert len(read(raw_dir).posts) == 90


def test_missing_folder_file_and_header_name_what_was_looked_for(raw_dir, tmp_path):
    folder = raw_dir / "twitter2015"
    with pytest.raises(IngestError, match=r"twitter2015: folder not found: .*nowhere.*expected train\.tsv.*raw_dir"):
        read(tmp_path / "nowhere")
    (folder / "test.tsv").rename(folder / "other.tsv")
    with pytest.raises(IngestError, match=r"file not found: .*test\.tsv"):
        read(raw_dir)
    (folder / "test.tsv").write_text("1\t1\t975807.jpg\t$T$ is here\tTyga\n")
    with pytest.raises(IngestError, match=r"test\.tsv: the first line should be the header"):
        read(raw_dir)


def test_the_image_path_begins_as_raw_dir_was_given(raw_dir, monkeypatch):
    monkeypatch.chdir(raw_dir.parent)

    assert read(Path("raw")).posts[0].image == "raw/twitter2015/images/1860693.jpg"
