"""Files of rows: what each format means, and what is refused with its place."""

import csv
import json

import pytest

from numprune_export.core.errors import InputError
from numprune_export.data.row_file import rows_of

ROWS = [{"text": "a, b", "label": "1"}, {"text": "c\u2028d", "label": "0"}]


def read(folder, name, content):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return [dict(row.fields) for row in rows_of(path)]


def places(folder, name, content):
    (folder / name).write_text(content, encoding="utf-8")
    return [row.place.replace(str(folder), "") for row in rows_of(folder / name)]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_format_gives_the_same_rows(tmp_path, mark, end):
    lines = end.join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    contents = {
        "a.jsonl": lines,
        "a.NDJSON": lines,
        "lines.json": lines,
        "a.json": json.dumps(ROWS, indent=1),
        "a.csv": end.join(["text,label", '"a, b",1', "c\u2028d,0"]),
        "a.tsv": end.join(["text\tlabel", "a, b\t1", "c\u2028d\t0", ""]),
    }
    for name, content in contents.items():
        assert read(tmp_path, name, mark + content) == ROWS, name


def test_places_count_lines_and_items_from_one(tmp_path):
    assert places(tmp_path, "a.csv", 'text\n\n"x\ny"\nz') == [
        "line 4 of `/a.csv`",
        "line 5 of `/a.csv`",
    ]
    assert places(tmp_path, "a.json", json.dumps(ROWS)) == [
        "item 1 of `/a.json`",
        "item 2 of `/a.json`",
    ]


def test_a_quote_mark_in_tsv_is_a_character_like_any_other(tmp_path):
    texts = ['"Go', "away", 'he said "no"', 'no"', '""', "'"]
    content = "sentence\tlabel\n" + "".join(f"{text}\t{i}\n" for i, text in enumerate(texts))
    assert [row["sentence"] for row in read(tmp_path, "a.tsv", content)] == texts


def test_a_value_may_be_long_and_the_limit_of_others_stays(tmp_path):
    before, text = csv.field_size_limit(), "word " * 40_000
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        rows = read(tmp_path, name, f"text{separator}label\n{text}{separator}1\n")
        assert rows == [{"text": text, "label": "1"}]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("a.csv", "text;label\nx;1", "separated by semicolons, not by commas", "commas"),
        ("a.csv", "sep=;\ntext;label\nx;1", "separated by semicolons", "commas"),
        ("a.csv", "text\tlabel\nx\t1", "separated by tabs, not by commas", ".tsv"),
        ("a.tsv", "text,label\nx,1", "separated by commas, not by tabs", ".csv"),
        ("a.csv", "text,text\nx,1", "has `text` twice", "own name"),
        ("a.csv", 'text,label\n"x,1', "line 2 of .* is not CSV", "quotes"),
        (
            "a.tsv",
            'text\tlabel\n"x\ty"\t1',
            "line 2 of .* values, but the header has",
            "use `.csv`",
        ),
        ("a.jsonl", '[{"text": "x"}]', "one JSON array, not JSON Lines", "jq"),
        ("a.jsonl", '[\n {"text": "x"}\n]\n', "one JSON array, not JSON Lines", "`.json`"),
        ("a.jsonl", '{\n "text": "x"\n}', "line 1 of .* is not a JSON object", "jq -c"),
        ("a.jsonl", "[" * 100_000, "line 1 of .* nested too deeply", ""),
        ("a.jsonl", '{"text": "a \\ud83d b"}', "line 1 of .* unpaired surrogate, `.ud83d`", ""),
        ("a.jsonl", '{"label": ' + "9" * 5000 + "}", "line 1 of .*integer", ""),
        ("a.json", "[" * 100_000, "not JSON: it is nested too deeply", ""),
        ("a.json", '[{"text": "\\udc00"}]', "not JSON: .*surrogate", ""),
        ("a.json", '["x"]', "item 1 of .* is not a JSON object", "array of objects"),
        ("a.json", '{"rows":\n[]}', "neither rows nor SQuAD", "array of objects"),
        ("a.json", '{"data": [{"text": "x"}]}', "is not SQuAD JSON", "rows"),
        ("a.json", "prose", "is not JSON", "array of objects"),
    ],
)
def test_an_unusable_file_is_named_with_its_place_and_a_way_out(
    tmp_path, name, content, message, hint
):
    with pytest.raises(InputError, match=message) as refusal:
        read(tmp_path, name, content)
    assert hint in refusal.value.hint


def test_a_whole_surrogate_pair_is_a_character(tmp_path):
    assert read(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude00"}') == [{"text": "😀"}]
