"""The tuxpaint recipe: reading stamps, splitting them, converting sound, tables."""

from __future__ import annotations

import json
from pathlib import Path

import lexicon
import numpy as np
import prepare
import pytest
import soundfile
import table
from split import groups, split
from stamps import Clip, read_clips, read_text

from stk.data.manifest import read_manifest
from stk.data.phonemes import read_pronunciations
from stk.errors import StkError


def clip(index: int, lang: str, transcript: str, english: str, digest: str = "") -> Clip:
    name = f"{lang}-{index}"
    return Clip(name, Path(f"{name}.ogg"), lang, transcript, english, digest or name)


def many() -> list[Clip]:
    clips = [
        clip(index, lang, f"{lang} phrase {index // 2}", f"Sentence {index // 2}.")
        for index in range(200)
        for lang in ("fr", "ro")
    ]
    pecan = clip(900, "fr", "Une noix.", "A pecan.")
    walnut = clip(901, "fr", "une noix", "A walnut!")
    shell = clip(902, "ro", "O nucă", "a walnut")
    same_sound = clip(903, "ro", "altceva", "Something else", digest="ro-0")
    return [*clips, pecan, walnut, shell, same_sound]


def test_groups_join_what_shares_a_sentence_a_transcript_or_a_recording() -> None:
    found = groups(many())
    assert found["a pecan"] == found["a walnut"] == "a pecan"
    assert found["something else"] == found["sentence 0"]
    assert found["sentence 1"] == "sentence 1"


def test_split_shares_nothing() -> None:
    clips = many()
    sides = split(clips)
    assert sum(map(len, sides.values())) == len(clips)
    group_of = groups(clips)
    seen = {
        side: {group_of[" ".join(c.english.lower().strip(".!").split())] for c in chosen}
        for side, chosen in sides.items()
    }
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["dev"]
    assert not seen["dev"] & seen["test"]
    assert 0.1 < len(seen["test"]) / len(set(group_of.values())) < 0.2
    assert 0.04 < len(seen["dev"]) / len(set(group_of.values())) < 0.1
    assert split(clips[::-1]) == {side: chosen[::-1] for side, chosen in sides.items()}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An unpacked package of forty stamps, some of them broken."""
    root = tmp_path / "package" / prepare.STAMPS
    (root / "food").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(40):
        stamp = root / "food" / f"stamp{index}"
        lines = [f"A thing {index}.", f"fr.utf8=Une chose  {index}.", f"ro.utf8=Un lucru {index}."]
        stamp.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for lang in ("fr", "ro"):
            sound = np.zeros((4410, 2))
            sound[:, 1] = rng.uniform(-0.5, 0.5, 4410)
            soundfile.write(stamp.with_name(f"stamp{index}_desc_{lang}.ogg"), sound, 44100)
    food = root / "food"
    (food / "copy.txt").write_bytes((food / "stamp0.txt").read_bytes())
    (food / "copy_desc_fr.ogg").write_bytes((food / "stamp0_desc_fr.ogg").read_bytes())
    (food / "mute_desc_fr.ogg").write_bytes((food / "stamp1_desc_fr.ogg").read_bytes())
    (food / "bare.txt").write_text("A bare thing.\nfr.utf8=\n")
    (food / "bare_desc_fr.ogg").write_bytes((food / "stamp1_desc_fr.ogg").read_bytes())
    return tmp_path / "package"


def test_read_clips_counts_what_it_leaves_out(package: Path) -> None:
    clips, left_out = read_clips(package / prepare.STAMPS)
    assert len(clips) == 80
    assert len({c.id for c in clips}) == 80
    assert left_out == {("fr", "copy"): 1, ("fr", "no text file"): 1, ("fr", "no sentence"): 1}
    with pytest.raises(StkError, match="no recordings found"):
        read_clips(package / "usr" / "nowhere")


def test_read_text(package: Path) -> None:
    english, others = read_text(package / prepare.STAMPS / "food" / "stamp3.txt")
    assert english == "A thing 3."
    assert others == {"fr": "Une chose 3.", "ro": "Un lucru 3."}


def test_prepare_takes_the_louder_channel(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    prepare.prepare(package, out, processes=2)
    rows = {side: read_manifest(out / f"{side}.jsonl") for side in ("train", "dev", "test")}
    note = json.loads((out / "prepared.json").read_text())
    assert sum(len(found) for found in rows.values()) == 80
    for side, found in rows.items():
        assert note[side]["clips"] == len(found) > 0
        for row in found:
            assert row.audio is not None and row.audio.suffix == ".flac"
            samples, rate = soundfile.read(row.audio)
            assert rate == 16000 and samples.ndim == 1
            assert 0.12 < np.sqrt(np.mean(samples**2)) < 0.3  # the mean of both: 0.08
            assert row.duration == pytest.approx(0.1, abs=0.01)
            assert row.tgt_lang == "en" and row.src_lang in ("fr", "ro")


def scores(folder: Path, shift: float) -> None:
    folder.mkdir(parents=True)
    translation: dict[str, list[dict[str, object]]] = {"scores": [], "comparisons": []}
    for system, value in (("st-scratch", 20.0), ("st-from-asr", 30.0)):
        for group in ("fr", None):
            for metric in ("chrF2", "BLEU"):
                row = {"system": f"x/{system}.jsonl", "name": metric, "group": group}
                translation["scores"].append(row | {"value": value + shift, "signature": "s"})
    test = {"metric": "chrF2", "baseline": 20.0, "system": 30.0, "difference": 10.0}
    translation["comparisons"].append(test | {"low": 8.0, "high": 12.0, "p_value": 0.001})
    (folder / "st.json").write_text(json.dumps(translation))
    errors = [{"name": "WER", "group": group, "value": 50.0} for group in ("fr", None)]
    (folder / "asr.json").write_text(json.dumps({"scores": errors}))


def test_table_puts_seeds_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        scores(tmp_path / f"seed{seed}" / "scores", float(seed))
    table.main(["--work", str(tmp_path), "--seeds", "1", "2"])
    written = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out.startswith(written.rstrip())
    assert "| all | 21.5 ± 0.7 | 31.5 ± 0.7 | 21.5 ± 0.7 | 31.5 ± 0.7 | 50.0 ± 0.0 |" in written
    assert "| 2 | chrF2 | 20.0 | 30.0 | +10.0 | +8.0 to +12.0 | 0.001 |" in written


def test_words_are_said_as_in_the_language_that_uses_them_most(tmp_path: Path) -> None:
    manifest, out = tmp_path / "train.jsonl", tmp_path / "lexicon.txt"
    texts = [("fr", "La maison."), ("es", "La casa, la casa!"), ("ca", "Casa"), ("ru", "дом")]
    rows = [{"id": str(i), "src_lang": a, "src_text": b} for i, (a, b) in enumerate(texts)]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lexicon.main([str(manifest), "--out", str(out)])
    assert read_pronunciations(out) == {
        "casa": ("k", "a", "s", "a"),
        "la": ("l", "a"),
        "maison": ("m", "ɛ", "z", "ɔ̃"),
        "дом": ("d", "o", "m"),
    }
    manifest.write_text('{"id": "0", "src_text": "maison"}\n')
    with pytest.raises(StkError, match="src_lang"):
        lexicon.main([str(manifest), "--out", str(out)])
