"""The recipe bible_mt: what it prepares, and all of it at size tiny."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import classes
import everyday
import help_pages
import lexicons
import make_sets
import mixture
import other_text
import pytest
import reads_source
import score_table
import torch
import verse_split
from bible import write_bible, write_packages
from recipe_runs import copy_of_recipes, run

from stk.config.strict import load_mapping
from stk.data.batch import Source
from stk.data.example import Example
from stk.data.lexicon import load_lexicon
from stk.data.manifest import read_manifest
from stk.data.normalise import normalise
from stk.errors import StkError

CONF = Path(__file__).resolve().parents[2] / "recipes/bible_mt/conf"
PLAN = make_sets.Plan(
    languages=("en", "de", "fr", "es", "ru", "ro"),
    low="ro-en",
    exotic="it-tl",
    close="es-it",
    verses=50,
    longest=30,
)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("downloads")
    write_bible(directory / "bible.db")
    write_packages(directory / "debian")
    return directory


@pytest.fixture(scope="module")
def data(downloads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages before the vocabulary make."""
    out = tmp_path_factory.mktemp("data")
    make_sets.prepare(downloads / "bible.db", out / "bible", PLAN)
    other_text.make(downloads / "debian", out / "bible", out / "pairs-other", 30)
    others = [lang for lang in PLAN.languages if lang != "en"]
    lexicons.make(out / "bible/pairs", downloads / "debian", out, others, 1000)
    mixture.make(out, PLAN.languages, 600, 5.0)
    return out


def place(name: str) -> str:
    """Chapter and verse of an id, whatever version or set it is in."""
    return ".".join(name.split("-")[-1].split("#")[0].split(".")[-2:])


def test_sets_share_no_verse_and_no_sentence(data: Path) -> None:
    """Across versions, languages, and monolingual and parallel text."""
    places: dict[str, set[str]] = {}
    texts: dict[str, set[str]] = {}
    for file in (data / "bible").rglob("*.jsonl"):
        side = "dev" if file.parent.name == "mono-dev" else file.stem
        side = side if side in ("dev", "test") else "train"
        for row in read_manifest(file):
            places.setdefault(side, set()).add(place(row.id))
            found = (t for t in (row.src_text, row.tgt_text) if t)
            texts.setdefault(side, set()).update(normalise(t, "lower-nopunct") for t in found)
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert places[one].isdisjoint(places[other]) and texts[one].isdisjoint(texts[other])
    assert len(places["train"]) > 300 and len(places["test"]) > 3


def test_verses_that_read_alike_stay_together() -> None:
    verses = {(1, 1, i): f"Verse {i}." for i in range(400)}
    other = {(1, 1, i): f"Vers {i}" for i in range(400)} | {(1, 1, 7): "Vers 300!"}
    sides = verse_split.split([verses, other])
    assert sides[1, 1, 7] == sides[1, 1, 300]
    counts = {side: list(sides.values()).count(side) for side in ("train", "dev", "test")}
    assert counts["train"] > 370 and 4 <= counts["test"] <= 22 and counts["dev"] >= 1


def test_pairs_and_halves(data: Path) -> None:
    bible = data / "bible"
    for pair in ("ro-en", "en-ro", "it-tl"):
        assert len(read_manifest(bible / f"pairs/{pair}/train.jsonl")) == 50
    there, back = (read_manifest(bible / f"pairs/{p}/train.jsonl") for p in ("ro-en", "en-ro"))
    assert {place(r.id) for r in there} == {place(r.id) for r in back}
    (row, *_) = there
    assert row.src_lang == "ro" and row.tgt_lang == "en" and row.tgt_text
    assert "(" not in row.src_text  # numbers of other countings are gone
    for pair in ("es-it", "it-es"):  # both ways are decoded; neither is trained with
        assert (bible / f"pairs/{pair}/test.jsonl").exists()
        assert not (bible / f"pairs/{pair}/train.jsonl").exists()
    halves = [
        {place(r.id) for r in read_manifest(bible / f"halves/{x}.jsonl")} for x in ("es", "it")
    ]
    assert halves[0] and halves[1] and halves[0].isdisjoint(halves[1])
    doc = {row.doc for row in read_manifest(bible / "mono/en.jsonl")}
    assert {f"{version}.1.{chapter}" for version in "4k3" for chapter in range(1, 11)} == doc


def test_back_translation_has_its_reverse_pair_without_english() -> None:
    pairs = replace(PLAN, low="de-fr").pairs()
    assert pairs["de-fr"] == pairs["fr-de"] == 50
    assert pairs["en-de"] is pairs["ro-en"] is None


def test_mixtures(data: Path) -> None:
    mono, multi = (read_manifest(data / f"pretrain/{name}.jsonl") for name in ("mono", "multi"))
    assert {row.src_lang for row in mono} == set(PLAN.languages)
    ways = {f"{row.src_lang}-{row.tgt_lang}" for row in multi}
    assert ways == {w for x in PLAN.languages if x != "en" for w in (f"{x}-en", f"en-{x}")}
    everything = {row.src_lang for row in read_manifest(data / "vocab.jsonl")}
    assert everything == {*PLAN.languages, "it", "tl"}
    assert {row.doc for row in mono} >= {"help/shared/page"}  # texts: all
    assert {file.name for file in (data / "pretrain").iterdir()} == {
        f"{name}{kind}.jsonl" for name in ("", "valid-") for kind in ("mono", "multi")
    }
    low = sum(row.src_lang == "ro" for row in multi)
    assert low > 30  # the temperature lifts the small pair


def test_kinds_of_books(data: Path) -> None:
    """English is learnt from; no language has a tested verse in it."""
    note = classes.make(data / "bible", data / "classes", PLAN.languages)
    train, test = (read_manifest(data / f"classes/{name}.jsonl") for name in ("train", "test"))
    assert {row.src_lang for row in train} == {"en"} and note["train"] == {"law": len(train)}
    assert {row.src_lang for row in test} == set(PLAN.languages)
    assert {place(row.id) for row in train}.isdisjoint(place(row.id) for row in test)
    books = {1: "law", 6: "history", 22: "poetry", 23: "prophets", 44: "gospels", 66: "letters"}
    for book, kind in books.items():
        assert classes.kind_of(replace(train[0], id=f"k.{book}.1.2")) == kind
    labels = load_mapping(CONF / "classes.yaml")["streams"][0]["objective"]["labels"]
    assert list(labels) == list(classes.LAST)


def test_help_and_everyday_sentences(downloads: Path, data: Path) -> None:
    rows = list(help_pages.read_help(downloads / "debian", "de"))
    assert len(rows) == 60 and rows[0].src_lang == "en" and rows[0].tgt_text
    (row,) = everyday.read_everyday(downloads / "debian")
    assert (row.src_text, row.tgt_text) == ("The house is big.", "Das Haus ist groß.")
    german = [Example(id=f"{i}", src_text=f"Text {i}.", tgt_text="Satz.") for i in range(400)]
    sides = other_text.apart(german, Counter())  # every side would have some
    assert sides["test"] and not sides["dev"] and not sides["train"]
    english: dict[str, set[str]] = {}
    for file in (data / "pairs-other").rglob("*.jsonl"):
        found = {normalise(str(r.src_text), "lower-nopunct") for r in read_manifest(file)}
        english.setdefault(file.stem, set()).update(found)
    assert english.pop("train").isdisjoint(set().union(*english.values()))
    with pytest.raises(StkError, match="no pages of help there"):
        list(help_pages.read_help(downloads, "de"))


def test_held_out_words_are_in_no_lexicon(data: Path) -> None:
    for lang in ("de", "ro"):
        held = load_lexicon(data / f"heldout/en-{lang}.tsv")
        forward = load_lexicon(data / f"lexicons/en-{lang}.tsv")
        backward = load_lexicon(data / f"lexicons/{lang}-en.tsv")
        assert held and not set(held) & set(forward)
        assert not set(held) & {english for _, english in backward.pairs()}
        assert not {found[0] for found in held.values()} & set(backward)
    assert load_lexicon(data / "lexicons/en-de.tsv")["king"] == ("könig",)


def test_faults(downloads: Path, tmp_path: Path) -> None:
    with pytest.raises(StkError, match="no such database"):
        make_sets.prepare(tmp_path / "none.db", tmp_path / "out", PLAN)
    (tmp_path / "bad.db").write_text("not a database, whatever its name says")
    with pytest.raises(StkError, match=r"bad\.db: not the database expected"):
        make_sets.prepare(tmp_path / "bad.db", tmp_path / "out", PLAN)
    write_bible(tmp_path / "less.db")
    connection = sqlite3.connect(tmp_path / "less.db")
    connection.execute("DELETE FROM bible WHERE bbName = 'u'")
    connection.commit()
    connection.close()
    with pytest.raises(StkError, match=r"less\.db: no verses of version 'u' \(ro\)"):
        make_sets.prepare(tmp_path / "less.db", tmp_path / "out", PLAN)
    for changes, what in (
        ({"low": "xx-en"}, "no version in 'xx'"),
        ({"exotic": "it-de"}, "pre-training sees a side"),
        ({"close": "en-ro"}, "the close pair en-ro is also trained with its pairs"),
        ({"low": "it-es"}, "the close pair es-it is also trained with its pairs"),
        ({"longest": 4}, "no text is left for mono/en"),
    ):
        plan = make_sets.Plan(**{**vars(PLAN), **changes})
        with pytest.raises(StkError, match=what):
            make_sets.prepare(downloads / "bible.db", tmp_path / "out", plan)
    assert not (tmp_path / "out").exists()


def test_table(tmp_path: Path) -> None:
    for seed, shift in ((1, 0.0), (2, 1.0)):
        rows, tests = [], []
        for system, value in (("direct", 4.0), ("tune-mrasp", 9.0 + shift)):
            for metric, factor in (("BLEU", 1), ("chrF2", 5)):
                row = {"system": f"x/{system}.jsonl", "group": None, "name": metric}
                rows.append(row | {"value": value * factor})
        tests.append({"system_name": "x/tune-mrasp.jsonl", "metric": "BLEU", "p_value": 0.001})
        file = tmp_path / f"seed{seed}/scores/ro-en-direct.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"scores": rows, "comparisons": tests}))
    out = tmp_path / "table.md"
    score_table.main(["--work", str(tmp_path), "--seeds", "1", "2", "--out", str(out)])
    text = out.read_text()
    assert "| direct | 4.0 ± 0.0 |  |  | 20.0 ± 0.0 |" in text
    metrics = tmp_path / "seed2/classes/metrics.jsonl"
    metrics.parent.mkdir()
    accuracies = {f"test/{x}/accuracy": y for x, y in (("de", 0.5), ("en", 0.875))}
    metrics.write_text(json.dumps({"kind": "valid", "test/accuracy": 0.7, **accuracies}) + "\n")
    score_table.main(["--work", str(tmp_path), "--seeds", "1", "2", "--out", str(out)])
    assert out.read_text() == text + (
        "\nkind of book, accuracy in percent, tuned on English\n\n"
        "| training | en | de |\n|---|---|---|\n| classes, seed 2 | 87.5 | 50.0 |\n"
    )
    for seed in (1, 2):
        lost = {"direct": {"own": 4.0 + seed, "other": 4.5 + seed}}
        (tmp_path / f"seed{seed}/listening.json").write_text(json.dumps(lost))
    score_table.main(["--work", str(tmp_path), "--seeds", "1", "2", "--out", str(out)])
    assert "| direct | 5.50 ± 0.71 | 6.00 ± 0.71 | 0.50 ± 0.00 |" in out.read_text()
    assert "| tune-mrasp | 9.5 ± 0.7 | +5.5 ± 0.7 | 0.001, 0.001 | 47.5 ± 3.5 |" in text
    with pytest.raises(StkError, match="no scores there"):
        score_table.main(["--work", str(out.parent), "--seeds", "3", "--out", str(out)])


def test_another_rows_source() -> None:
    source = Source(data=torch.tensor([[5, 6], [7, 0]]), lengths=torch.tensor([2, 1]))
    other = reads_source.of_another_row(source)
    assert other.data.tolist() == [[7, 0], [5, 6]] and other.lengths.tolist() == [1, 2]
    assert other.languages is None


def test_options_are_checked(tmp_path: Path) -> None:
    script = copy_of_recipes(tmp_path) / "bible_mt/run.sh"
    for option, what in (
        (("--systems", "magic"), "--systems takes some of: main"),
        (("--exotic-from", "tlm"), "--exotic-from takes some of: mlm mbart mass mrasp, not 'tlm'"),
        (("--seeds", "1,2"), "--seeds takes whole numbers"),
        (("--low", "roen"), "'roen' does not name a pair"),
        (("--tune-updates", "few"), "--tune-updates takes a whole number"),
        (("--pretrain-seed", "2"), "--pretrain-seed takes one of --seeds (1), not '2'"),
    ):
        done = run(script, *option, programs=tmp_path / "bin")
        assert done.returncode == 1 and what in done.stderr, done.stderr


def test_one_pretraining_for_several_seeds(tmp_path: Path) -> None:
    script = copy_of_recipes(tmp_path) / "bible_mt/run.sh"
    for option, seeds in (((), "23"), (("--pretrain-seed", "2"), "2")):
        stages = listed(script, "--seeds", "2 3", *option)
        assert [name for name in stages if name.startswith("mass-")] == [f"mass-{x}" for x in seeds]
        assert [name for name in stages if "tune-mass" in name] == ["tune-mass-2", "tune-mass-3"]
        assert stages.count("similarity-2") == 1


def listed(script: Path, *options: str) -> list[str]:
    """The stages that are declared with these options."""
    done = run(script, "--list", *options, programs=script.parent / "bin")
    assert done.returncode == 0, done.stderr
    return [line.split()[1] for line in done.stdout.splitlines()]


def test_systems_declare_what_they_need(tmp_path: Path) -> None:
    script = copy_of_recipes(tmp_path) / "bible_mt/run.sh"
    every = {f"{name}-1" for name in ("mlm", "clm", "tlm", "mbart", "mass", "mrasp", "mrasp-plain")}
    for systems, needed in (
        ("exotic", {"mrasp-1"}),
        ("unmt classes", {"mlm-1"}),
        ("bt", {"mrasp-1"}),
        ("kd", {"mrasp-1"}),
        ("more", {"clm-1", "tlm-1"}),
    ):
        stages = listed(script, "--systems", systems, "--exotic-from", "mrasp")
        assert every & set(stages) == needed
        assert ("book-classes" in stages) == ("classes-1" in stages)
        assert ("direct-1" in stages) == (systems not in ("exotic", "unmt classes"))


def declared(script: Path, expression: str, *options: str) -> list[str]:
    """Lines that bash writes for an expression once all stages are declared."""
    text = script.read_text()
    assert text.endswith("\nrun_stages\n")
    other = script.with_name("declared.sh")
    other.write_text(text.removesuffix("run_stages\n") + expression + "\n")
    done = run(other, *options, programs=script.parent / "bin")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_stages_read_their_configurations_bases(tmp_path: Path) -> None:
    script = copy_of_recipes(tmp_path) / "bible_mt/run.sh"
    lines = declared(
        script,
        'for one in "${STAGE_NAMES[@]}"; do echo "$one" ${STAGE_INPUTS[$one]}; done',
        *("--systems", "all", "--size", "xs"),
    )
    inputs = {name: set(files) for name, *files in map(str.split, lines)}
    for stage, files in (
        ("mass-1", "mass mbart size/nmt-xs"),
        ("mrasp-1", "mrasp mrasp-plain size/nmt-xs"),
        ("tlm-1", "tlm mlm size/lm-xs"),
        ("unmt-lm-1", "unmt-lm mlm size/lm-xs"),
        ("tune-mlm-1", "tune-lm direct size/nmt-xs"),
        ("direct-1", "direct size/nmt-xs"),
        ("classes-1", "classes classes-direct size/lm-xs"),
        ("unmt-1", "unmt direct size/nmt-xs"),
    ):
        names = {*files.split(), files.split()[-1].replace("-xs", "-s")}  # xs is built on s
        assert {file for file in inputs[stage] if file.startswith("conf/")} == {
            f"conf/{name}.yaml" for name in names
        }


def test_substitution_has_the_lexicons_of_all_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = copy_of_recipes(tmp_path) / "bible_mt/run.sh"
    call = 'eval "set -- ${STAGE_CALL[mrasp-1]}"; printf "%s\\n" "${@: -1}"'
    (line,) = declared(script, call, "--languages", "ro en de it", "--size", "xs")
    name, _, value = line.partition("=")
    monkeypatch.setenv(name, value)
    found = load_mapping(CONF / "mrasp.yaml")["streams"][1]["objective"]["lexicons"]
    ways = [way for lang in ("ro", "de", "it") for way in (f"en-{lang}", f"{lang}-en")]
    assert found == {way: f"exp/xs/data/lexicons/{way}.tsv" for way in ways}


def test_language_models_are_judged_by_language() -> None:
    for name in ("mlm", "clm", "tlm"):
        for stream in load_mapping(CONF / f"{name}.yaml")["validation"]["streams"]:
            assert stream["group_by"] == ["src_lang"]


@pytest.mark.slow
def test_everything_at_size_tiny(tmp_path: Path, downloads: Path, warm: Path) -> None:
    """Every stage and every system, without a network."""
    script = copy_of_recipes(tmp_path) / "bible_mt/run.sh"
    options = ["--size", "tiny", "--systems", "all", "--texts", "all", "--verses", "60", "--rows"]
    options += ["600", "--pieces", "200", "--samples", "20", "--beam", "2", "--averaged", "2"]
    done = run(
        script, *options, "--downloads", str(downloads), programs=tmp_path / "bin", warm=warm
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    work = script.parent / "exp/tiny"
    written = (work / "table.md").read_text()
    tuned = [f"tune-{name}" for name in ("mlm", "clm", "tlm", "mbart", "mass", "mrasp")]
    others = ["ensemble", "exotic-mrasp", "unmt", "bt-tagged", "bt-iterated", "word-distilled"]
    for system in [*tuned, *others]:
        assert f"| {system} |" in written
    assert "| mrasp, seed 1 | en-de |" in written
    assert "| before training, seed 1 | en-de |" in written
    assert "| classes-direct, seed 1 |" in written and "| classes, seed 1 |" in written
    for pair in ("es-it", "it-es"):
        assert f"unsupervised-{pair}, seeds 1, copy is the baseline" in written
    judged = (work / "seed1/tlm/metrics.jsonl").read_text()
    assert all(f'"{key}/ro/perplexity"' in judged for key in ("dev", "dev-pairs"))
    assert (work / "seed1/similarity/mrasp.png").stat().st_size > 10000
    listened = json.loads((work / "seed1/listening.json").read_text())
    assert set(listened) >= {"direct", "tune-mlm", "tune-mrasp"}
    assert all(0 < one["own"] < 20 and 0 < one["other"] < 20 for one in listened.values())
    assert (work / "seed1/unmt-curve.png").stat().st_size > 5000
    tagged = [json.loads(line) for line in (work / "seed1/made/round1.jsonl").open()]
    originals = {row.src_text for row in read_manifest(work / "data/bible/mono/en.jsonl")}
    assert tagged and all(row["tgt_text"] in originals for row in tagged)
    again = run(
        script, *options, "--downloads", str(downloads), programs=tmp_path / "bin", warm=warm
    )
    assert again.returncode == 0 and "begins" not in again.stdout
