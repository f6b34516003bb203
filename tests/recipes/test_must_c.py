"""The MuST-C recipe: reading segments, naming faults, tables, the global batch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import corpora
import corpus_statistics
import facts
import published_table
import pytest
import segments
from faults import Faults
from recipe_runs import ROOT, copy_of_recipes, run

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping
from stk.data.manifest import read_manifest
from stk.errors import StkError

RECIPE = ROOT / "recipes" / "must_c"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[corpora.Fault]]:
    root = tmp_path_factory.mktemp("must_c")
    return root, corpora.write_must_c(root, ("de", "fr"))


def prepare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RECIPE / "local" / "prepare.py"), *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'recipes' / 'common'}", "PATH": ""},
    )


def listed(path: Path) -> list[tuple[str, int, str]]:
    """File, line and kind of every fault in a list."""
    rows = [line.split(": ")[:2] for line in path.read_text().splitlines()]
    return sorted((p.rsplit(":", 1)[0], int(p.rsplit(":", 1)[1]), kind) for p, kind in rows)


def test_every_fault_is_named_and_counted(
    corpus: tuple[Path, list[corpora.Fault]], tmp_path: Path
) -> None:
    root, wanted = corpus
    done = prepare("--data", str(root), "--langs", "de", "fr", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert listed(tmp_path / "faults.txt") == sorted((str(f), n, k) for f, n, k in wanted)
    assert "10 faults (2 x Windows line end, 2 x beyond the end, " in done.stdout
    assert "6 rows left out" in done.stdout
    rows = read_manifest(tmp_path / "train.jsonl")
    count = corpora.MUST_C_SETS["train"][0]
    assert len(rows) == 2 * count and {row.tgt_lang for row in rows} == {"de", "fr"}
    assert not any("\r" in (row.src_text or "") for row in rows)
    assert any(row.audio is not None and row.audio.name == corpora.SPACED for row in rows)
    recognised = read_manifest(tmp_path / "asr-train.jsonl")
    assert len(recognised) == count and recognised[0].tgt_text is None


@pytest.mark.parametrize("version", [2, 3])
def test_later_releases_and_a_directory_of_one_pair(tmp_path: Path, version: int) -> None:
    corpora.write_must_c(tmp_path / "c", version=version, faults=False)
    (tmp_path / "more.en").write_text("one\ntwo\n\n")
    (tmp_path / "more.de").write_text("eins\nzwei\ndrei\n")
    extra = ("--parallel", str(tmp_path / "more"))
    done = prepare(
        "--data", str(tmp_path / "c/en-de"), "--langs", "de", "--out", f"{tmp_path}/o", *extra
    )
    assert done.returncode == 0, done.stderr
    assert len(read_manifest(tmp_path / "o" / "mt-train.jsonl")) == 24 + 2
    assert listed(tmp_path / "o" / "faults.txt") == [
        (str(corpora_yaml(tmp_path / "c")), 17, "space in a name"),
        (str(tmp_path / "more.en"), 3, "empty line"),
    ]


def corpora_yaml(root: Path) -> Path:
    return root / "en-de" / "data" / "train" / "txt" / "train.yaml"


def test_wrong_directory_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "en-es").mkdir()
    done = prepare("--data", str(tmp_path), "--langs", "de", "--out", str(tmp_path / "o"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{tmp_path}/en-de/data" in done.stderr and "found en-es" in done.stderr


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    corpora.write_must_c(tmp_path, faults=False)
    path = corpora_yaml(tmp_path).with_name("train.de")
    path.write_text(path.read_text() + "one more\n")
    done = prepare("--data", str(tmp_path), "--langs", "de", "--out", str(tmp_path / "o"))
    assert done.returncode == 1
    assert f"{path}: 25 lines, but train.yaml has 24 segments" in done.stderr


def test_segments_in_every_notation(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(
        "- {duration: 3.5, offset: 16.08, rW: 9, uW: 0, speaker_id: spk.1, wav: ted 1.wav}\n"
        '- {duration: 1.0, offset: 0.5, speaker_id: "spk, 2", wav: "a: b.wav"}\n'
        "- duration: 2.0\n"
        "  offset: 1\n"
        "  wav: c.wav\n"
        "- {duration: x, offset: 1.0, wav: d.wav}\n"
        "- {duration: 0.0, offset: 1.0, wav: d.wav}\n"
        "- {offset: 1.0, wav: d.wav}\n"
    )
    faults = Faults()
    found = segments.read_segments(path, faults)
    assert found[:3] == [
        segments.Segment(1, "ted 1.wav", 16.08, 3.5, "spk.1"),
        segments.Segment(2, "a: b.wav", 0.5, 1.0, "spk, 2"),
        segments.Segment(3, "c.wav", 1.0, 2.0, None),
    ]
    assert found[3:] == [None, None, None]
    assert [(f.line, f.kind) for f in faults.found] == [
        (line, "malformed segment") for line in (6, 7, 8)
    ]
    path.write_text("- {duration: 3.5, offset: [}\n")
    with pytest.raises(StkError, match=r"train.yaml:1: not valid YAML"):
        segments.read_segments(path, faults)


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "train.en"
    path.write_bytes("one\u2028still one\ntwo\r\n\nfour".encode())
    faults = Faults()
    lines = segments.read_lines(path, faults)
    assert lines == ["one\u2028still one", "two", "", "four"]
    assert [(f.line, f.kind, f.kept) for f in faults.found] == [(2, "Windows line end", True)]


def test_segments_are_read_fast(tmp_path: Path) -> None:
    """At this rate the segments of 400 hours are read in seconds; a YAML parser takes minutes."""
    path = tmp_path / "train.yaml"
    line = "- {duration: 3.5, offset: 16.08, rW: 9, uW: 0, speaker_id: spk.1, wav: ted_1.wav}\n"
    path.write_text(line * 20000)
    began = time.process_time()
    assert len(segments.read_segments(path, Faults())) == 20000
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(
    ("processes", "each", "said"),
    [(1, 8, "320000 frames = 40000 x 1 processes x 8"), (4, 2, "x 4 processes x 2 micro-steps")],
)
def test_global_batch(
    processes: int, each: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZE", "m")
    path = RECIPE / "conf/st/1-st.yaml"
    config = build(RunConfig, load_mapping(path))
    steps, sentence = facts.accumulate(config, processes, path)
    assert steps == each and said in sentence and "states" not in sentence
    steps, sentence = facts.accumulate(config, 3, path)
    assert steps == 3 and "360000 frames" in sentence and "states 320000" in sentence
    with pytest.raises(StkError, match="too few for 16 processes"):
        facts.accumulate(config, 16, path)


def test_global_batch_of_several_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "m")
    path = RECIPE / "conf/xstnet/3-xstnet.yaml"
    steps, sentence = facts.accumulate(build(RunConfig, load_mapping(path)), 5, path)
    assert steps == 1
    assert sentence == (
        "global batch: 75000 frames or 8000 tokens = 15000 or 1600 x 5 processes x 1 micro-steps"
    )


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("asr/1-asr", "src_text"),
        ("costt/1-costt-decoder", "none"),
        ("costt/2-costt-acoustic", "none"),
        ("costt/3-costt", "tgt_text"),
        ("xstnet/1-wav2vec2", "none"),
        ("xstnet/2-xstnet-mt", "tgt_text"),
        ("xstnet/3-xstnet", "tgt_text"),
        ("self-training/4-wave-student", "tgt_text"),
        ("self-training-lm/6-lm", "none"),
    ],
)
def test_what_a_run_writes(name: str, field: str) -> None:
    config = build(RunConfig, load_mapping(RECIPE / f"conf/{name}.yaml"))
    assert facts.field(config) == field


def test_counts_are_compared_with_the_published_ones() -> None:
    published = json.loads((RECIPE / "local/published.json").read_text())
    languages = ("de", "es", "fr", "it", "nl", "pt", "ro", "ru")
    assert set(published["counts"]) == {f"en-{lang}" for lang in languages}
    rows = {"train": 229703, "dev": 1423, "tst-COMMON": 2641, "tst-HE": 600}
    right = {"en-de": {name: {"rows": count} for name, count in rows.items()}}
    right["en-de"]["all"] = {"hours": 408.2}
    assert corpus_statistics.warnings(right, published) == []
    right["en-de"]["train"]["rows"] = 200000
    (line,) = corpus_statistics.warnings(right, published)
    assert line.startswith("en-de, train: 200000 rows, published 229703 (ESPnet, ")
    assert corpus_statistics.warnings({"en-es": {"all": {"hours": 504.0}}}, published) == []
    (line,) = corpus_statistics.warnings({"en-es": {"all": {"hours": 300.0}}}, published)
    assert line == "en-es, all: 300 hours, published at least 385 (Di Gangi et al., 2019, abstract)"


def test_results_page_holds_every_published_score() -> None:
    published = json.loads((RECIPE / "local/published.json").read_text())["scores"]
    assert published_table.results(published) in (RECIPE / "RESULTS.md").read_text()


LABELLING = ("--data", ".", "--size", "tiny", "--system", "self-training")


def test_wrong_options_are_one_line(tmp_path: Path) -> None:
    recipes = copy_of_recipes(tmp_path)
    script = recipes / "must_c" / "run.sh"
    for arguments, message in (
        ([], "--data is needed"),
        (["--data", "nowhere"], "--data nowhere: no such directory"),
        (["--data", ".", "--lang", "xx"], "--lang takes de, es, "),
        (["--data", ".", "--system", "chimaera"], "--system takes one of: asr cascade chimera"),
        (
            ["--data", ".", "--system", "chimera"],
            "--system chimera at size s starts from a release",
        ),
        (
            ["--data", ".", "--system", "lna", "--wav2vec2", "no.pt"],
            "--wav2vec2 no.pt: no such file",
        ),
        (
            ["--data", ".", "--system", "costt", "--lang", "all"],
            "--system costt writes one language",
        ),
        (
            ["--data", ".", "--system", "mt", "--unlabelled", "no.jsonl"],
            "--unlabelled: --system mt labels no sound",
        ),
        (
            [*LABELLING, "--unlabelled", "no.jsonl"],
            "--unlabelled no.jsonl: no such file",
        ),
        (["--data", ".", "--updates", "few"], "--updates takes a whole number, not 'few'"),
    ):
        done = run(script, *arguments, programs=recipes / "bin")
        assert done.returncode == 1 and done.stderr.startswith(f"error: {message}"), done.stderr


def test_other_sound_is_labelled_again(tmp_path: Path, warm: Path) -> None:
    """The labelling step's marker depends on the manifest that --unlabelled names."""
    recipes = copy_of_recipes(tmp_path)
    sound, script = tmp_path / "more sound.jsonl", recipes / "must_c" / "run.sh"
    shown = script.with_name("hashes.sh")
    shown.write_text(script.read_text().replace("run_stages", HASHES))

    def hashes(*more: str) -> dict[str, str]:
        done = run(shown, *LABELLING, *more, programs=recipes / "bin", warm=warm)
        assert done.returncode == 0, done.stderr
        return dict(line.split() for line in done.stdout.splitlines())

    plain = hashes()
    sound.write_text("a")
    first = hashes("--unlabelled", str(sound))
    sound.write_text("ab")
    second = hashes("--unlabelled", str(sound))
    steps = {"pseudo", "wave-student", "self-training"}
    after = {f"{kind}-{name}" for kind in ("decode", "score") for name in steps - {"pseudo"}}
    for one, other in ((plain, first), (first, second)):
        changed = {name for name in one if one[name] != other[name]}
        assert changed == {*steps, *after, "table-self-training"}


HASHES = 'hash_stages; for name in "${!STAGE_HASH[@]}"; do echo "$name ${STAGE_HASH[$name]}"; done'


@pytest.mark.slow
def test_400_hours_take_minutes_and_little_memory(tmp_path: Path) -> None:
    corpora.write_must_c(tmp_path, faults=False)
    folder = corpora_yaml(tmp_path).parent
    for name in ("train.yaml", "train.en", "train.de"):
        text = (folder / name).read_text()
        (folder / name).write_text(text * 10000)
    script = RECIPE / "local" / "prepare.py"
    measure = [sys.executable, str(ROOT / "recipes/common/measure.py"), str(tmp_path / "m.json")]
    work = [str(script), "--data", str(tmp_path), "--langs", "de", "--out", str(tmp_path / "o")]
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'recipes' / 'common'}", "PATH": ""}
    subprocess.run([*measure, sys.executable, *work], check=True, env=env)
    figures = json.loads((tmp_path / "m.json").read_text())
    assert figures["cpu_seconds"] < 300 and figures["peak_mb"] < 2000
