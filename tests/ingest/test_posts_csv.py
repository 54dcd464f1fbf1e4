"""A data set of the user's own in the sample's form, and names that no data set has."""

import gzip
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
        (f"b,train,{'x' * 10_001},aspect,one.png,neutral", "text of 10,001 characters: at most 10,000 are read"),
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


def test_the_first_row_of_an_id_that_can_be_used_is_kept(tmp_path):
    make(
        tmp_path,
        [*ROWS, "b,train,text,,none.png,neutral", "b,train,text,,one.png,neutral", "b,dev,text,,one.png,neutral"],
    )

    result = read(tmp_path)

    assert [(rejected.row, rejected.reason[:9]) for rejected in result.rejected] == [
        ("6", "image not"),
        ("8", "duplicate"),
    ]
    assert "b" in [post.id for post in result.posts]


def test_broken_quotes_missing_columns_and_encodings_are_refused_as_a_whole(tmp_path):
    make(tmp_path, [*ROWS, 'd,train,"never closed,x,one.png,neutral', "e,train,lost,x,one.png,neutral"])
    with pytest.raises(IngestError, match=r"posts\.csv: row 6 is not valid CSV"):
        read(tmp_path)
    make(tmp_path, ROWS, header="id,split,text,image", name="short")
    with pytest.raises(
        IngestError, match="column aspect, label missing in line 1, which has id, split, text, image; give"
    ):
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


EXPECTED = [("a1", 'Lovely, she said: "yes"', "she"), ("a2", "two\nlines", None), ("a3", "plain text", "text")]
WHOLE = "\n".join([HEADER, *ROWS, ""])


@pytest.mark.parametrize(
    "written",
    [
        WHOLE.encode("utf-16"),
        f"sep=,\n{WHOLE}".encode(),
        WHOLE.replace(HEADER, "ID, Split,TEXT ,Aspect,image,Label").encode(),
        WHOLE.replace(HEADER, HEADER + ",,").replace(",positive", ",positive,,").encode(),
        WHOLE.replace(",dev,", ",Dev,").replace('lines",,', 'lines",NaN,').encode() + b",,,,,\n",
        "\n".join([HEADER, ROWS[0], ROWS[1].replace("two\nlines", "two lines"), ROWS[2], ""])
        .replace("two lines", "two\nlines")
        .replace("\n", "\r\n")
        .encode(),
        WHOLE.replace("one.png", ".\\one.png").encode(),
        WHOLE.replace("a1,train,", "a1, train, ").encode(),
    ],
    ids=["utf-16", "sep", "capitals", "empty columns", "nan and empty row", "crlf", "backslash", "blanks"],
)
def test_what_excel_and_pandas_write_is_read(tmp_path, written):
    folder = make(tmp_path, ROWS)
    (folder / "posts.csv").write_bytes(written)

    result = read(tmp_path)

    assert result.rejected == []
    found = [(post.id, post.text.replace("\r\n", "\n"), post.aspect) for post in result.posts]
    assert found == EXPECTED


def test_semicolons_tabs_and_lone_carriage_returns_are_read(tmp_path):
    folder = make(tmp_path, ROWS)
    for rows in ("{h}\n{r}\n".replace(",", ";"), "{h}\r{r}\r"):
        for mark in (";", "\t"):
            plain = rows.format(h=HEADER, r="b1,train,a text,,one.png,neutral").replace(",", mark)
            (folder / "posts.csv").write_bytes(plain.encode())
            assert [(post.id, post.text, post.aspect) for post in read(tmp_path).posts] == [("b1", "a text", None)]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (gzip.compress(WHOLE.encode()), r"posts\.csv is compressed with gzip: unpack it"),
        (b"PK\x03\x04rest", "an Excel workbook: .* save it as a text file"),
        (WHOLE.encode("utf-16-le"), "line 1 holds NUL bytes.* save the file as UTF-8"),
        (WHOLE.replace("plain", "pl\xe4in").encode("latin-1"), r"line 5 is not UTF-8 \(byte 0xe4\)"),
        (b"", "has no header: put id,split,text,aspect,image,label into line 1"),
        (WHOLE.replace(HEADER, HEADER + ",Text").encode(), "column text stands twice in line 1"),
    ],
)
def test_what_is_no_csv_in_utf_8_is_refused_with_its_cure(tmp_path, written, said):
    folder = make(tmp_path, ROWS)
    (folder / "posts.csv").write_bytes(written)
    with pytest.raises(IngestError, match=said):
        read(tmp_path)


def test_a_nul_byte_costs_its_row_and_a_header_alone_is_named(tmp_path):
    make(tmp_path, [*ROWS, "d,train,a\0b,,one.png,neutral"])
    assert [(row.row, row.reason) for row in read(tmp_path).rejected] == [("6", "not UTF-8, or with a NUL byte")]
    make(tmp_path, [], name="bare")
    with pytest.raises(IngestError, match="bare has no rows"):
        check_rejected_share(read(tmp_path, "bare"), IngestParameters(), "bare")


def test_ids_need_not_be_file_names(tmp_path):
    make(tmp_path, [f"{'i' * 300},train,text,,one.png,neutral", "../x/y,train,text,,one.png,neutral"])
    assert [post.id for post in read(tmp_path).posts] == ["i" * 300, "../x/y"]
