"""MVSA folders made on the spot: merge, encodings, splits, faults."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mulcot_rd.ingest import LABEL_CONFLICT, IngestError, IngestParameters, check_rejected_share, read_posts
from mulcot_rd.ingest.mvsa import merge_labels
from mulcot_rd.ingest.mvsa_splits import seeded_split
from mulcot_rd.schema import Sentiment

HEADERS = {"mvsa_single": "ID\ttext,image", "mvsa_multiple": "ID\ttext,image\ttext,image\ttext,image"}

LONG_ID = "9" * 300


def make(raw_dir: Path, rows: list[str], dataset: str = "mvsa_single", newline: str = "\n") -> Path:
    """Write a label file of these rows, and a text and an image for every id in it."""
    folder = raw_dir / dataset
    (folder / "data").mkdir(parents=True)
    (folder / "labelResultAll.txt").write_bytes(newline.join([HEADERS[dataset], *rows, ""]).encode())
    for row in rows:
        post_id = row.split("\t")[0]
        (folder / "data" / f"{post_id}.txt").write_text(f"post number {post_id}\n")
        Image.new("RGB", (8, 8), "white").save(folder / "data" / f"{post_id}.jpg")
    return folder


def read(raw_dir: Path, dataset: str = "mvsa_single", seed: int = 42, **settings):
    return read_posts(dataset, raw_dir, IngestParameters(**settings), seed)


def plain_rows(count: int) -> list[str]:
    return [f"{n}\tpositive,neutral" for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("pairs", "merged"),
    [
        (["positive,positive"], "positive"),
        (["neutral,neutral"], "neutral"),
        (["neutral,negative"], "negative"),
        (["positive,neutral"], "positive"),
        (["positive,negative"], None),
        (["negative,positive"], None),
        (["positive,neutral", "positive,neutral", "negative,positive"], "positive"),
        (["positive,neutral", "neutral,neutral", "negative,neutral"], None),
        (["neutral,positive", "neutral,neutral", "neutral,negative"], None),
        (["positive,negative", "positive,negative", "positive,positive"], None),
        (["neutral,negative", "positive,negative", "neutral,neutral"], "negative"),
    ],
)
def test_merge_rules(pairs, merged):
    labels = [tuple(Sentiment(name) for name in pair.split(",")) for pair in pairs]

    assert merge_labels(labels) == merged


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_conflicts_are_listed_but_do_not_count(tmp_path, newline):
    conflicts = [f"{n}\tpositive,negative" for n in range(101, 111)]
    make(tmp_path, plain_rows(20) + conflicts, newline=newline)

    result = read(tmp_path, max_rejected_share=0)

    assert len(result.posts) == 20
    assert [row.row for row in result.rejected] == [str(n) for n in range(22, 32)]
    assert all(row.reason.startswith(LABEL_CONFLICT) for row in result.rejected)
    assert result.rejected_share == 0
    check_rejected_share(result, IngestParameters(max_rejected_share=0), "mvsa_single")


def test_three_annotators(tmp_path):
    rows = [f"{n}\tneutral,positive\tneutral,positive\tpositive,negative" for n in range(1, 21)]
    make(tmp_path, rows, "mvsa_multiple")

    result = read(tmp_path, "mvsa_multiple")

    assert {post.label for post in result.posts} == {"positive"}
    assert all(post.aspect is None for post in result.posts)


def test_the_other_forms_label_file_is_rejected_row_by_row(tmp_path):
    folder = make(tmp_path, plain_rows(20))
    folder.rename(tmp_path / "mvsa_multiple")

    result = read(tmp_path, "mvsa_multiple")

    with pytest.raises(IngestError, match=r"100\.0% .*wrong column count \(20\)"):
        check_rejected_share(result, IngestParameters(), "mvsa_multiple")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("caf\u00e9 \U0001f600".encode(), "caf\u00e9 \U0001f600"),
        ("caf\u00e9".encode("utf-8-sig"), "caf\u00e9"),
        ("caf\u00e9".encode("utf-16"), "caf\u00e9"),
        ("it\u2019s a caf\u00e9\u2026".encode("cp1252"), "it\u2019s a caf\u00e9\u2026"),
        (b"caf\xe9 \x81 ol\xe9\r\n", "caf\u00e9 \x81 ol\u00e9"),
    ],
)
def test_texts_in_mixed_encodings(tmp_path, raw, text):
    folder = make(tmp_path, plain_rows(20))
    (folder / "data" / "7.txt").write_bytes(raw)

    assert [post.text for post in read(tmp_path).posts if post.id == "7"] == [text]


def test_faults_are_rejected_with_line_and_reason_and_move_no_other_post(tmp_path):
    rows = plain_rows(40)
    rows.insert(3, "90\tpositive")
    rows.insert(9, "91\thappy,neutral")
    rows.insert(12, "5\tneutral,neutral")
    folder = make(tmp_path, rows)
    whole = {post.id: post.split for post in read(tmp_path).posts}
    (folder / "data" / "20.jpg").unlink()
    (folder / "data" / "21.jpg").write_bytes(b"GIF89a")
    (folder / "data" / "22.txt").unlink()
    (folder / "data" / "23.txt").write_text(" \n")

    result = read(tmp_path)

    reasons = {row.row: row.reason for row in result.rejected}
    assert {line: reason.split(":")[0] for line, reason in reasons.items()} == {
        "5": "unknown label",
        "11": "unknown label",
        "14": "duplicate id",
        "24": "image not found",
        "25": "image can't be read (UnidentifiedImageError)",
        "26": "text file not found",
        "27": "empty text",
    }
    assert "5 is in row 7" in reasons["14"]
    assert {post.id: post.split for post in result.posts} == {
        post_id: split for post_id, split in whole.items() if post_id not in {"20", "21", "22", "23"}
    }
    assert result.rejected_share == pytest.approx(7 / 43)


def test_the_seeded_split_has_the_sizes_of_table_1():
    ids = {str(n) for n in range(1, 4512)}

    split = seeded_split(ids, seed=42)

    assert Counter(split.values()) == {"train": 3608, "dev": 451, "test": 452}
    assert split == seeded_split({str(n) for n in range(4511, 0, -1)}, seed=42)
    assert split != seeded_split(ids, seed=43)


def test_the_seed_and_not_the_order_of_the_label_file_decides(tmp_path):
    make(tmp_path / "a", plain_rows(30))
    make(tmp_path / "b", plain_rows(30)[::-1])
    first, second, other = (
        {post.id: post.split for post in read(tmp_path / name, seed=seed).posts}
        for name, seed in (("a", 1), ("b", 1), ("a", 2))
    )

    assert first == second
    assert first != other


def test_the_rejected_share_is_damaged_rows_over_all_rows(tmp_path):
    make(tmp_path, [*plain_rows(98), "200\tpositive", "201\tx,y"])

    result = read(tmp_path)

    assert len(result.posts) == 98
    assert result.rejected_share == pytest.approx(0.02)
    check_rejected_share(result, IngestParameters(), "mvsa_single")


def test_split_files(tmp_path):
    make(tmp_path, plain_rows(6))
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("1\n2\n3\n")
    (lists / "dev.txt").write_text("\n4\r\n")
    with pytest.raises(IngestError, match=r"split file not found: .*test\.txt"):
        read(tmp_path, split_files=str(lists))
    (lists / "test.txt").write_text("5")

    result = read(tmp_path, split_files=str(lists))

    assert {post.id: post.split for post in result.posts} == {
        "1": "train",
        "2": "train",
        "3": "train",
        "4": "dev",
        "5": "test",
    }
    assert [row.reason for row in result.rejected] == ["in no split file: id 6"]
    assert result.rejected_share == 0
    (lists / "test.txt").write_text("5\n4\n")
    with pytest.raises(IngestError, match=r"test\.txt: line 2: id 4 stands in dev\.txt too"):
        read(tmp_path, split_files=str(lists))


def test_an_id_that_only_the_split_files_know_is_listed(tmp_path):
    make(tmp_path, plain_rows(3))
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, ids in (("train", "1\n77"), ("dev", "2"), ("test", "3")):
        (lists / f"{split}.txt").write_text(ids)

    result = read(tmp_path, split_files=str(lists))

    assert [(row.split, row.row, row.reason) for row in result.rejected] == [
        ("train", "id 77", "no label: listed in train.txt, but labelResultAll.txt gives it none")
    ]


def test_missing_parts_are_named(tmp_path):
    folder = make(tmp_path, plain_rows(3))
    (folder / "labelResultAll.txt").rename(folder / "labels.txt")
    with pytest.raises(IngestError, match=r"mvsa_single: file not found: .*labelResultAll\.txt; expected"):
        read(tmp_path)
    with pytest.raises(IngestError, match="mvsa_multiple: folder not found"):
        read(tmp_path, "mvsa_multiple")


@pytest.mark.parametrize("form", ["single", "multiple"])
def test_real_posts_keep_their_text_and_label(shared_data, tmp_path, form):
    """The real posts, laid out as MVSA is distributed (without images): every one gets its text, label and split."""
    labels = ("positive", "neutral", "negative")
    posts = [
        post
        for split in ("train", "dev", "test")
        for post in json.loads((shared_data / "mvsa_text" / form / f"{split}.json").read_text(encoding="utf-8"))
    ]
    posts = list({post["id"]: post for post in posts}.values())[:600]
    dataset, columns = f"mvsa_{form}", 1 if form == "single" else 3
    folder = tmp_path / dataset
    (folder / "data").mkdir(parents=True)
    with (folder / "labelResultAll.txt").open("w", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\r\n", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerow(["ID"] + ["text,image"] * columns)
        for post in posts:
            writer.writerow([post["id"]] + [",".join([labels[post["emotion_label"]]] * 2)] * columns)
            (folder / "data" / f"{post['id']}.txt").write_text(post["text"], encoding="utf-8")
            Image.new("L", (4, 4)).save(folder / "data" / f"{post['id']}.jpg")

    result = read(tmp_path, dataset)

    assert Counter(post.split for post in result.posts) == {"train": 480, "dev": 60, "test": 60}
    assert {post.id: (post.text, post.label) for post in result.posts} == {
        post["id"]: (post["text"].strip(), labels[post["emotion_label"]]) for post in posts
    }


def test_ids_that_are_no_file_names_and_files_that_are_no_text_cost_their_rows(tmp_path):
    pair = "positive,positive"
    folder = make(tmp_path, plain_rows(20))
    with (folder / "labelResultAll.txt").open("a") as labels:
        labels.write(f"../x\t{pair}\n{LONG_ID}\t{pair}\n")
    (folder / "data" / "7.txt").write_bytes(b"\x1f\x8brest")
    (folder / "data" / "8.txt").unlink()
    (folder / "data" / "8.txt").symlink_to(folder / "nowhere")
    (folder / "data" / "9.txt").write_bytes(b"one\nt\0w\0o\0")

    reasons = {row.row: row.reason.split(":")[0] for row in read(tmp_path).rejected}

    unreadable = "text can't be read"
    missing = "text file not found"
    assert reasons == {"8": unreadable, "9": unreadable, "10": unreadable, "22": missing, "23": missing}
