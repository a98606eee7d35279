"""The file of hypotheses: when it was settled, and what is wrong with it."""

import subprocess
from dataclasses import replace

import pytest

from paper.hypotheses import read_hypotheses
from paper.runs import HYPOTHESES
from tests.records import write_arm
from tests.test_signs import verdict_on
from tests.test_tables import LUCK, NOISE, write_pairs
from utils.files import UserError


def test_what_was_named_before_is_shown_with_hash_and_commit(tmp_path, named):
    repository, old, new = (tmp_path / name for name in ("clone", "old", "new"))
    repository.mkdir()

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository)]
        return subprocess.run([*command, *words], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    file = repository / "named.toml"
    file.write_bytes(HYPOTHESES.read_bytes())
    assert read_hypotheses(file).when == "named now, not committed"
    git("add", "named.toml")
    git("commit", "-qm", "x", "--date", "2020-01-01T00:00:00+00:00")
    found = read_hypotheses(file)
    assert found.sha256 == named.sha256 and {*found.since} == {"H1", "H2", "H3", "H4"}
    assert found.when.split()[1] == git("rev-parse", "--short", "HEAD").strip()
    write_pairs(new, -0.05 + NOISE)
    assert not [note for note in verdict_on(new, found)["notes"] if "began" in note]
    write_arm(old, 0.0, LUCK, environment={"started": "2001-01-01T00:00:00+00:00"})
    write_arm(old, -2.0, LUCK)
    early = "8 of 16 runs began before the hypothesis was committed"
    assert early in verdict_on(old, found)["notes"]
    text = file.read_text() + "# a comment, which changes no meaning\n"
    file.write_text(text)
    assert (
        read_hypotheses(file).sha256 == named.sha256 and read_hypotheses(file).since == found.since
    )
    file.write_text(text.replace("first = -2.0\nsecond = 2.0", "first = -4.0\nsecond = 2.0"))
    later = read_hypotheses(file)
    assert later.when == "named now, not committed"
    assert later.since == {name: found.since[name] for name in ("H1", "H2", "H3")}
    git("commit", "-qam", "y", "--date", "2020-01-01T00:00:00+00:00")
    assert {*read_hypotheses(file).since} == {"H1", "H2", "H3", "H4"}


@pytest.mark.parametrize("data", ["load.csv kW", "custom"])
def test_a_file_of_ones_own_can_be_named(tmp_path, named, data):
    one = replace(named.family[0], data=data)
    own = {"data": "custom", "target": "kW", "environment": {"data_file": "load.csv"}}
    write_pairs(tmp_path, -0.05 + NOISE, **own)
    row = verdict_on(tmp_path, replace(named, family=(one,)))
    assert (row["n"], row["verdict"]) == (8, "better by at least 2 %")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[[hypothesis]\n", "Expected ']]'"),
        (b"margin = 1\n", "lacks 'hypothesis'"),
        (
            HYPOTHESES.read_bytes().replace(b"claim =", b"claims ="),
            "unexpected keyword argument 'claims'",
        ),
        ("claim = 'Größe'".encode("latin-1"), "can't decode"),
        (HYPOTHESES.read_bytes().replace(b"first = -2.0\n", b""), "missing 1 required"),
        (HYPOTHESES.read_bytes().replace(b'"0-7"', b'"a-b"'), "invalid literal"),
        (None, "No such file"),
    ],
)
def test_wrong_hypotheses_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "named.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_hypotheses(path)
    text = str(error.value)
    assert message in text and str(path) in text and "see paper/hypotheses.toml" in text
    assert "\n" not in text
