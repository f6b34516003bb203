"""The CoVoST 2 recipe: tables, directions, the cache of clips, and its run.sh from end to end."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import clips
import corpora
import corpus_statistics
import published_table
import pytest
import soundfile
from faults import Faults
from recipe_runs import ROOT, copy_of_recipes, run

from stk.data.manifest import read_manifest
from stk.errors import StkError

RECIPE = ROOT / "recipes" / "covost2"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[corpora.Fault]]:
    root = tmp_path_factory.mktemp("covost2")
    return root, corpora.write_covost2(root, ("en_de", "en_tr"))


def prepare(root: Path, out: Path, direction: str) -> subprocess.CompletedProcess[str]:
    places = ("--data", str(root / "covost2"), "--cv", str(root / "cv"), "--out", str(out))
    options = ("--direction", direction, "--cache", str(out / "flac"), "--processes", "2")
    return subprocess.run(
        [sys.executable, str(RECIPE / "local" / "prepare.py"), *places, *options],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'recipes' / 'common'}", "PATH": ""},
    )


def test_every_fault_is_named_and_counted(
    corpus: tuple[Path, list[corpora.Fault]], tmp_path: Path
) -> None:
    root, wanted = corpus
    done = prepare(root, tmp_path, "en_de,en_tr")
    assert done.returncode == 0, done.stderr
    lines = [line.split(": ")[:2] for line in (tmp_path / "faults.txt").read_text().splitlines()]
    assert sorted(lines) == sorted([f"{file}:{line}", kind] for file, line, kind in wanted)
    assert "12 faults (2 x Windows line end, 2 x broken sound, 2 x empty line, " in done.stdout
    assert "8 rows left out" in done.stdout


def test_manifests_and_cache(corpus: tuple[Path, list[corpora.Fault]], tmp_path: Path) -> None:
    root, _ = corpus
    assert prepare(root, tmp_path, "en_de,en_tr").returncode == 0
    sets = {name: read_manifest(tmp_path / f"{name}.jsonl") for name in ("train", "dev", "test")}
    counts = corpora.COVOST_SETS
    assert len(sets["train"]) == 2 * (counts["train"] + counts["train_covost"])
    assert len(sets["test"]) == 2 * counts["test"]
    assert len(read_manifest(tmp_path / "asr-test.jsonl")) == counts["test"]
    assert {row.tgt_lang for row in sets["train"]} == {"de", "tr"}
    row = sets["train"][1]
    assert row.audio is not None and " " in row.audio.name and row.src_text and row.speaker
    info = soundfile.info(row.audio)
    assert (info.format, info.samplerate) == ("FLAC", 16000)
    assert info.duration == pytest.approx(row.duration, abs=1e-3)
    cached = sorted((tmp_path / "flac" / "en").iterdir())
    assert len(cached) == sum(counts.values())
    stamps = [path.stat().st_mtime_ns for path in cached]
    assert prepare(root, tmp_path, "en_de").returncode == 0
    assert [path.stat().st_mtime_ns for path in cached] == stamps  # decoded once


def test_directions() -> None:
    assert len(clips.DIRECTIONS) == len(set(clips.DIRECTIONS)) == 36
    assert len(clips.directions("x_en")) == 21 and len(clips.directions("en_x")) == 15
    assert clips.directions("fr_en,zh-CN_en") == ("fr_en", "zh-CN_en")
    published = json.loads((RECIPE / "local/published.json").read_text())
    assert {d.replace("_", "-") for d in clips.DIRECTIONS} == set(published["counts"])
    with pytest.raises(StkError, match="no direction 'en_fr'"):
        clips.directions("en_fr")
    with pytest.raises(StkError, match="into English or out of it"):
        clips.directions("en_de,fr_en")


def test_tables_are_read_as_their_makers_do(tmp_path: Path) -> None:
    path = tmp_path / "covost_v2.fr_en.tsv"
    path.write_text(
        "path\ttranslation\tsplit\n"
        'a.mp3\t"Quoted" and \\"escaped\\".\ttrain\n'
        "a.mp3\tagain\ttrain\n"
        "b.mp3\tshort\n"
        "c.mp3\tnot released\tnone\n"
        "d.mp3\tone\u2028line\ttest\n",
        encoding="utf-8",
    )
    validated = {f"{name}.mp3": (f"phrase {name}", "me") for name in "abcd"}
    faults = Faults()
    found = list(clips.read_clips(path, validated, faults))
    assert [(c.name, c.translation, c.split) for c in found] == [
        ("a.mp3", '"Quoted" and "escaped".', "train"),
        ("d.mp3", "one\u2028line", "test"),
    ]
    assert [(f.line, f.kind) for f in faults.found] == [(3, "repeated clip"), (4, "short row")]
    with pytest.raises(StkError, match=r":1: no column 'client_id' \(it has path, translation"):
        list(clips.rows(path, ("path", "client_id"), None))


def test_missing_tables_say_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "covost2").mkdir()
    (tmp_path / "covost2" / "covost_v2.fr_en.tsv").write_text("")
    (tmp_path / "cv" / "en").mkdir(parents=True)
    done = prepare(tmp_path, tmp_path / "o", "en_de")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "cv/en/validated.tsv: no such file" in done.stderr and "holds nothing" in done.stderr


def test_published_counts_and_scores() -> None:
    published = json.loads((RECIPE / "local/published.json").read_text())
    right = {"fr-en": {"train": {"rows": 207374}, "dev": {"rows": 14760}, "test": {"rows": 14760}}}
    assert corpus_statistics.warnings(right, published) == []
    right["fr-en"]["dev"]["rows"] = 14000
    assert len(corpus_statistics.warnings(right, published)) == 1
    assert published_table.results(published["scores"]) in (RECIPE / "RESULTS.md").read_text()
    names = published_table.Names("{}_en", None)
    cell = published_table.published_for(
        published["scores"], "st-asr", "test", names.of("fr", "BLEU"), "BLEU"
    )
    assert cell.startswith("27.2 (s, ")


QUICK = ("--size", "tiny", "--updates", "2", "--averaged", "1", "--beam", "1")


def start(root: Path, recipes: Path, warm: Path, *options: str) -> subprocess.CompletedProcess[str]:
    places = ("--data", str(root / "covost2"), "--cv", str(root / "cv"))
    script = recipes / "covost2" / "run.sh"
    return run(script, *places, *QUICK, *options, programs=recipes / "bin", warm=warm)


def test_two_systems_on_the_small_corpus(
    corpus: tuple[Path, list[corpora.Fault]], tmp_path: Path, warm: Path
) -> None:
    recipes = copy_of_recipes(tmp_path)
    done = start(corpus[0], recipes, warm, "--system", "st-asr")
    assert done.returncode == 0, done.stdout + done.stderr
    work = recipes / "covost2" / "exp" / "en_de-tiny"
    shown = (work / "table-st-asr.md").read_text()
    assert "| st-asr | test | de | BLEU |" in shown and "16.1 (s, encoder" in shown
    assert "| asr | test | en | WER |" in shown and "25.6 (s, Wang" in shown
    assert "warning: en-de, train: 24 rows, published 289430 (dataset card" in done.stderr
    again = start(corpus[0], recipes, warm, "--system", "asr")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("begins") == 1  # the table: everything else was done before


def test_wrong_options_are_one_line(tmp_path: Path) -> None:
    recipes = copy_of_recipes(tmp_path)
    places = ("--data", str(tmp_path), "--cv", str(tmp_path))
    for arguments, message in (
        (["--data", "."], "--data (covost_v2.*.tsv) and --cv"),
        ([*places, "--direction", "en_fr"], "CoVoST 2 has no direction 'en_fr'"),
        ([*places, "--direction", "en_de,fr_en"], "directions go into English or out of it"),
    ):
        done = run(recipes / "covost2" / "run.sh", *arguments, programs=recipes / "bin")
        assert done.returncode == 1 and done.stderr.startswith(f"error: {message}"), done.stderr
        assert done.stderr.count("\n") == 1


SYSTEMS = sorted(path.name for path in (RECIPE / "conf").iterdir())


@pytest.mark.slow
def test_every_system(tmp_path: Path, warm: Path) -> None:
    recipes = copy_of_recipes(tmp_path)
    corpora.write_covost2(tmp_path / "c")
    for system in SYSTEMS:
        done = start(tmp_path / "c", recipes, warm, "--system", system)
        assert done.returncode == 0, system + done.stdout + done.stderr
        table = (recipes / f"covost2/exp/en_de-tiny/table-{system}.md").read_text()
        assert f"| {system} | test | " in table, table


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--system", "st-asr-mt", "--vocab-type", "unigram"),
        ("--system", "mt", "--vocab", "joint"),
        ("--system", "st", "--direction", "en_de,en_zh-CN"),
        ("--system", "st-asr", "--direction", "fr_en,de_en"),
        ("--system", "costt", "--direction", "fr_en,de_en"),
        ("--system", "chimera", "--direction", "en_de,en_zh-CN"),
        ("--system", "mt", "--direction", "en_ja", "--tokeniser", "char"),
    ],
    ids=" ".join,
)
def test_other_options(options: tuple[str, ...], tmp_path: Path, warm: Path) -> None:
    recipes = copy_of_recipes(tmp_path)
    corpora.write_covost2(tmp_path / "c", ("en_de", "en_zh-CN", "en_ja", "fr_en", "de_en"))
    done = start(tmp_path / "c", recipes, warm, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    if "zh-CN" in options[-1]:
        (path,) = (recipes / "covost2" / "exp").glob("*/table-*.md")
        table = path.read_text()
        assert "| zh-CN | BLEU-char |" in table and "tok:zh" in table and "tok:char" in table


@pytest.mark.slow
def test_every_direction_by_name(tmp_path: Path, warm: Path) -> None:
    """Each of the 36 alone, and both multilingual modes, declare their stages."""
    recipes = copy_of_recipes(tmp_path)
    (tmp_path / "covost2").mkdir()
    (tmp_path / "cv").mkdir()
    for direction in (*clips.DIRECTIONS, "x_en", "en_x"):
        more = ("--tokeniser", "char") if direction == "en_ja" else ()
        options = ("--system", "mt", "--direction", direction, "--list", *more)
        done = start(tmp_path, recipes, warm, *options)
        if direction == "en_x" and importlib.util.find_spec("MeCab") is None:
            assert "Japanese BLEU needs MeCab" in done.stderr
            continue
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 7, done.stdout
