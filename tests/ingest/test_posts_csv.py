"""A data set of the user's own in the sample's form, and names that no data set has."""

from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from mulcot_rd.ingest import DATASETS, IngestError, IngestParameters, check_rejected_share, read_posts

HEADER = "id,split,text,aspect,image,label"
ROWS = [
    'a1,train,"Lovely, she said: ""yes""",she,one.png,positive',
    'a2,dev,"two\nlines",,one.png,neutral',
    "a3,test,plain text,text,one.png,Negative",
]


def make(raw_dir: Path, rows: list[str], header: str = HEADER, name: str = "mine") -> Path:
    folder = raw_dir / name
    (folder / "images").mkdir(parents=True)
    Image.new("RGBA", (5, 9), (1, 2, 3, 4)).save(folder / "images" / "one.png")
    (folder / "posts.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return folder


def read(raw_dir: Path, dataset: str = "mine", **settings):
    return read_posts(dataset, raw_dir, IngestParameters(**settings), seed=0)


def test_a_data_set_of_ones_own_is_read(tmp_path):
    folder = make(tmp_path, ROWS)

    result = read(tmp_path)

    assert [(post.id, post.text, post.aspect, post.label) for post in result.posts] == [
        ("a1", 'Lovely, she said: "yes"', "she", "positive"),
        ("a2", "two\nlines", None, "neutral"),
        ("a3", "plain text", "text", "negative"),
    ]
    assert {post.image for post in result.posts} == {str(folder / "images" / "one.png")}
    check_rejected_share(result, IngestParameters(max_rejected_share=0), "mine")


def test_columns_in_any_order_and_a_byte_order_mark(tmp_path):
    rows = ["neutral,x,train,a fact,a,one.png,note"]
    make(tmp_path, rows, header="\ufefflabel,id,split,text,aspect,image,comment")

    assert read(tmp_path).posts[0].id == "x"


def test_folder_names_where_the_data_set_lies(tmp_path):
    make(tmp_path, ROWS, name="elsewhere")

    assert len(read(tmp_path, folder="elsewhere").posts) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("b,train,text,aspect,one.png", "wrong column count"),
        ("b,validation,text,aspect,one.png,neutral", "unknown split"),
        ("b,train,text,aspect,one.png,happy", "unknown label"),
        ("b,train, ,aspect,one.png,neutral", "empty text"),
        (",train,text,aspect,one.png,neutral", "empty id"),
        ("b,train,text,aspect,,neutral", "empty image"),
        ("b,train,text,aspect,none.png,neutral", "image not found"),
        ("a1,test,text,aspect,one.png,neutral", "duplicate id: a1 is in row 2 (train)"),
    ],
)
def test_faulty_rows_are_named_by_the_line_they_begin_on(tmp_path, row, reason):
    make(tmp_path, [*ROWS, row, "c,train,text,,one.png,neutral"])

    result = read(tmp_path)

    # Line 6: header, a1, two lines of a2, a3.
    assert [rejected.row for rejected in result.rejected] == ["6"]
    assert result.rejected[0].reason.startswith(reason)
    assert [post.id for post in result.posts] == ["a1", "c", "a2", "a3"]


def test_broken_quotes_missing_columns_and_encodings_are_refused_as_a_whole(tmp_path):
    make(tmp_path, [*ROWS, 'd,train,"never closed,x,one.png,neutral', "e,train,lost,x,one.png,neutral"])
    with pytest.raises(IngestError, match=r"posts\.csv: row 6 is not valid CSV"):
        read(tmp_path)
    make(tmp_path, ROWS, header="id,split,text,image", name="short")
    with pytest.raises(IngestError, match="column aspect, label missing"):
        read(tmp_path, "short")
    folder = make(tmp_path, ROWS, name="latin")
    (folder / "posts.csv").write_bytes(f"{HEADER}\nz,train,caf".encode() + b"\xe9,,one.png,neutral\n")
    with pytest.raises(IngestError, match="not UTF-8"):
        read(tmp_path, "latin")


def test_an_unknown_data_set_names_the_known_ones(tmp_path):
    with pytest.raises(IngestError, match="unknown data set 'twiter2015'") as error:
        read(tmp_path, "twiter2015")

    assert all(name in str(error.value) for name in DATASETS)
    assert "posts.csv" in str(error.value)


def test_split_files_are_refused_where_they_mean_nothing(tmp_path):
    make(tmp_path, ROWS)

    with pytest.raises(IngestError, match=r"ingest\.split_files is for mvsa_single and mvsa_multiple alone"):
        read(tmp_path, split_files="lists")


def test_unknown_parameters_are_refused():
    with pytest.raises(ValidationError):
        IngestParameters(max_rejected=0.1)
    with pytest.raises(ValidationError):
        IngestParameters(max_rejected_share=5)
