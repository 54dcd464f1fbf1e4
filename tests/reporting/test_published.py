import pytest

from mulcot_rd.reporting.published import published, published_rows, read_published


def test_the_shipped_file_is_whole():
    frame = published()
    assert frame.groupby("table").size().to_dict() == {1: 32, 3: 16, 4: 16, 5: 48, 7: 32, 8: 32}


def test_tables_1_and_8_agree():
    # Rows after expansion are the training split and the share that the assistant got right (METHOD of the paper).
    sizes = published_rows("twitter2015", (1,)).set_index("method")
    right = published_rows("twitter2015", (8,)).set_index("method")
    for teacher in ("GPT-4o-mini", "Qwen2.5-VL-72B"):
        row = sizes.loc[f"teacher {teacher}"]
        accuracy = right.loc[f"MulCoT-RD(asst), teacher {teacher}", "accuracy"] / 100
        assert row["train"] * (1 + accuracy) == pytest.approx(row["train_plus"], abs=0.0005 * row["train"] + 1)


def test_spot_checks_against_the_paper():
    fine = published_rows("twitter2015", (3, 4, 5)).set_index("method")
    assert fine.loc["MulCoT-RD(asst), teacher Qwen2.5-VL-72B", "macro_f1"] == 77.2
    assert fine.loc["MulCoT-RD(stu), teacher GPT-4o-mini", "bleu"] == 28.2
    assert (
        published_rows("mvsa_multiple", (3,))
        .set_index("method")
        .loc["MulCoT-RD(stu), teacher Qwen2.5-VL-72B", "accuracy"]
        == 77.2
    )
    assert published_rows("sample", (3, 4)).empty


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3,m,imdb,accuracy,50", "line 3, has an unknown data set"),
        ("3,m,mvsa_single,f2,50", "line 3, has an unknown metric"),
        ("3,m,mvsa_single,accuracy,150", "line 3, has a percentage outside 0 to 100"),
        ("3,m,mvsa_single,accuracy,high", "line 3, has a percentage outside 0 to 100"),
        ("1,m,mvsa_single,train,10.5", "line 3, has a count that is no whole number"),
        ("3,m,mvsa_single,weighted_f1,51", "line 3, has the table, method, data set and metric of an earlier row"),
    ],
)
def test_a_fault_names_its_line(row, message):
    with pytest.raises(ValueError, match=message):
        read_published(f"table,method,dataset,metric,value\n3,m,mvsa_single,weighted_f1,50\n{row}\n")


def test_other_columns_are_refused():
    with pytest.raises(ValueError, match="has the columns a, b, not table, method"):
        read_published("a,b\n1,2\n")
