"""`sweep` refuses what is wrong before any work, and leaves nothing behind."""

import pytest
from small import small_recipe


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--keep", "0.9,1.5"], 2, "`1.5` is not a fraction above 0"),
        (["--keep", "0.9,0.9"], 2, "names `0.9` 2 times"),
        (["--keep", "0.9", "--score", "fisher"], 2, "needs a model with a task head"),
        (["--keep", "0.9", "--score", "wando"], 2, "`score`: unknown method"),
        (
            ["--keep", "0.9", "--method", "beast"],
            2,
            "`method`: must be one of `best`, `best+recover`, `fast`",
        ),
        (["--keep", "0.9", "--target", "onyx"], 2, "did you mean `onnx`?"),
        (["--keep", "0.9", "--jobs", "2"], 2, "time 2 points on one machine at once"),
        (["--keep", "0.9", "--set", "model=nowhere"], 4, "there is no model at `nowhere`"),
    ],
)
def test_what_is_wrong_is_refused(refused, tmp_path, arguments, code, what):
    small_recipe(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert what in refused(code, "sweep", "small.yaml", *arguments, "--out", "new")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_foreign_folder_is_left_alone(refused, tmp_path):
    small_recipe(tmp_path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").touch()
    refused(6, "sweep", "small.yaml", "--keep", "0.5", "--out", "foreign")
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["mine.txt"]
