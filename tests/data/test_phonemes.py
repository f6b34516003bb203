"""Phonemes as CTC labels: lexicon files, words that are missing, espeak-ng."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from stk.cli.data import main
from stk.data.espeak import pronounce
from stk.data.phonemes import PhonemeVocab, read_pronunciations, write_pronunciations
from stk.data.vocab import UNK, load_vocab
from stk.errors import StkError

LEXICON = """;;; a comment
HALF  HH AE F
half(2)  H A F
past\tP AE S T

three TH R IY
"""


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.txt"
    path.write_text(LEXICON)
    return path


def manifest(tmp_path: Path, *texts: str) -> str:
    path = tmp_path / "train.jsonl"
    rows = [{"id": f"r{i}", "src_text": text, "src_lang": "en"} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_reading_a_lexicon(lexicon: Path, tmp_path: Path) -> None:
    found = read_pronunciations(lexicon)
    wanted = {"half": "HH AE F", "past": "P AE S T", "three": "TH R IY"}
    assert found == {word: tuple(phonemes.split()) for word, phonemes in wanted.items()}
    write_pronunciations(tmp_path / "again.txt", found)
    assert read_pronunciations(tmp_path / "again.txt") == found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"half HH AE F\npast\n", "lexicon.txt:2: the word 'past' has no phonemes"),
        (b"\xff\xfe\n", "lexicon.txt: not UTF-8"),
        (b";;; nothing\n", "lexicon.txt: the lexicon is empty"),
    ],
)
def test_bad_lexicons(lexicon: Path, content: bytes, words: str) -> None:
    lexicon.write_bytes(content)
    with pytest.raises(StkError) as caught:
        read_pronunciations(lexicon)
    assert words in str(caught.value)


def test_a_text_becomes_the_phonemes_of_its_words(lexicon: Path) -> None:
    vocab, missing = PhonemeVocab.of_texts(
        ["Half past three.", "half past four, FOUR!"], read_pronunciations(lexicon), ("en",)
    )
    assert missing == {"four": 2}
    ids = vocab.encode("Half past four")
    assert [vocab.piece(i) for i in ids] == ["HH", "AE", "F", "P", "AE", "S", "T", "<unk>"]
    assert ids[-1] == UNK and vocab.tag("en") == 5 and min(ids[:-1]) == 6
    assert vocab.decode([5, 0, *ids]) == "HH AE F P AE S T \u2047"
    assert len(vocab) == 6 + 9
    assert pickle.loads(pickle.dumps(vocab)).encode("past") == vocab.encode("past")
    with pytest.raises(StkError, match="has no word of these texts"):
        PhonemeVocab.of_texts(["four"], read_pronunciations(lexicon))


def test_from_the_command_line(
    lexicon: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = manifest(tmp_path, "half past three", "half past four", "four or five", "past")
    out = tmp_path / "ctc"
    command = ["vocab", rows, "--fields", "src_text", "--type", "phoneme", "--out", str(out)]
    assert main([*command, "--lexicon", str(lexicon)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{lexicon}: misses 3 words, 4 of 10 occurrences, listed in {out}/missing.txt" in error
    assert (out / "missing.txt").read_text() == "four\t2\nfive\t1\nor\t1\n"
    assert not (out / "vocab.json").exists()
    assert main([*command, "--lexicon", str(lexicon), "--missing", "unk"]) == 0
    assert "misses 3 words" in capsys.readouterr().err
    vocab = load_vocab(out)
    assert vocab.encode("half four")[-1] == UNK
    assert vocab.digest == PhonemeVocab.of_texts(
        ["half past three"], read_pronunciations(lexicon)
    )[0].digest  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--type", "phoneme"], "--type phoneme needs a lexicon"),
        (["--type", "phoneme", "--lexicon", "x", "--size", "9"], "--size is SentencePiece's"),
        (["--type", "char", "--lexicon", "x"], "are of phonemes"),
        (["--type", "phoneme", "--lexicon", "none.txt"], "none.txt: no such lexicon"),
    ],
)
def test_wrong_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    rows = manifest(tmp_path, "half past three")
    assert (
        main(["vocab", rows, "--fields", "src_text", "--out", str(tmp_path / "v"), *options]) == 1
    )
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_espeak_says_words(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
    found = pronounce(["three", "thirty", "tree", "three"], "en-us")
    assert set(found) == {"three", "thirty", "tree"}
    assert found["three"] == ("θ", "ɹ", "iː") and found["tree"] == ("t", "ɹ", "iː")
    assert found["thirty"][0] == "θ"
    with pytest.raises(StkError, match="has no voice 'xx-none'"):
        pronounce(["three"], "xx-none")
    rows, out = manifest(tmp_path, "Three trees.", "three"), str(tmp_path / "ctc")
    command = ["vocab", rows, "--fields", "src_text", "--type", "phoneme", "--out", out]
    assert main([*command, "--espeak", "en-us"]) == 0
    vocab = load_vocab(out)
    assert vocab.decode(vocab.encode("three")) == "θ ɹ iː"
