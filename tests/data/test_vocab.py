"""Vocabularies: shared ids, tags frozen in, saved and found unchanged."""

from __future__ import annotations

import json
import pickle

import pytest

from stk.data.vocab import CharVocab, SentencePieceVocab, load_vocab, train_sentencepiece
from stk.errors import StkError

TEXTS = [
    f"the {a} {b} number {i}" for i, (a, b) in enumerate([("red", "fox"), ("big", "dog")] * 90)
]
TAGS = ["de", "fr-CA", "asr"]


def make(kind):
    if kind == "char":
        return CharVocab.of_texts(TEXTS, TAGS)
    return train_sentencepiece(TEXTS, 45, tags=TAGS, model_type=kind)


@pytest.fixture(params=["unigram", "bpe", "char"])
def vocab(request):
    return make(request.param)


def test_shared_ids_and_round_trip(vocab):
    assert (vocab.pad, vocab.unk, vocab.bos, vocab.eos, vocab.mask) == (0, 1, 2, 3, 4)
    assert [vocab.tag(name) for name in TAGS] == [5, 6, 7]
    assert vocab.piece(5) == "<de>" and vocab.piece(4) == "<mask>"
    for text in TEXTS[:20]:
        ids = vocab.encode(text)
        assert min(ids) > 7 and max(ids) < len(vocab)
        assert vocab.decode(ids) == text
        assert vocab.decode([2, 5, 4, *ids, 3, 0, 0]) == text
    assert vocab.encode("") == [] and vocab.decode([]) == ""


def test_text_never_becomes_a_special(vocab):
    ids = vocab.encode("<de> <s> </s> <pad> <mask> <unk> fox")
    assert not set(ids) & {0, 2, 3, 4, 5, 6, 7}
    assert "\u2047" in vocab.decode([*vocab.encode("fox"), vocab.unk])


def test_equal_input_gives_equal_ids(vocab, request):
    again = make(request.node.callspec.params["vocab"])
    assert again.digest == vocab.digest
    assert again.encode(TEXTS[3]) == vocab.encode(TEXTS[3])


def test_save_load_pickle(vocab, tmp_path):
    vocab.save(tmp_path / "v")
    for other in (load_vocab(tmp_path / "v"), pickle.loads(pickle.dumps(vocab))):
        assert (other.digest, other.tags, len(other)) == (vocab.digest, vocab.tags, len(vocab))
        assert other.encode(TEXTS[5]) == vocab.encode(TEXTS[5])
    with pytest.raises(StkError, match="no tag 'es'.*it has de, fr-CA, asr") as caught:
        load_vocab(tmp_path / "v").tag("es")
    assert caught.value.file == tmp_path / "v"


@pytest.mark.parametrize("index", [-1, 10**6])
def test_ids_outside_are_refused(vocab, index):
    with pytest.raises(IndexError):
        vocab.decode([index])
    with pytest.raises(IndexError):
        vocab.piece(index)


def test_digest_depends_on_tags_and_content():
    digests = {
        CharVocab("abc", ["de"]).digest,
        CharVocab("abc", ["fr"]).digest,
        CharVocab("abd", ["de"]).digest,
    }
    assert len(digests) == 3


def test_what_does_not_belong_together(tmp_path):
    with pytest.raises(StkError, match="no such vocabulary"):
        load_vocab(tmp_path)
    CharVocab("abc", ["de"]).save(tmp_path)
    (tmp_path / "characters.json").write_text('["a", "b", "d"]')
    with pytest.raises(StkError, match="digests differ"):
        load_vocab(tmp_path)
    (tmp_path / "characters.json").write_text("[")
    with pytest.raises(StkError, match="is damaged"):
        load_vocab(tmp_path)
    (tmp_path / "characters.json").unlink()
    with pytest.raises(StkError, match="missing from the vocabulary"):
        load_vocab(tmp_path)
    described = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**described, "kind": "words"}))
    with pytest.raises(StkError, match="unknown kind 'words'"):
        load_vocab(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(StkError, match="does not describe"):
        load_vocab(tmp_path)


def test_a_damaged_or_foreign_sentencepiece_model():
    with pytest.raises(StkError, match="not a SentencePiece model"):
        SentencePieceVocab(b"nonsense")
    good = make("unigram")
    with pytest.raises(StkError, match="first ids"):
        SentencePieceVocab(good._content, ["de", "asr"])


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [(TEXTS, 5000, "too big.*at most"), (TEXTS, 12, "cannot hold"), ([], 45, "no text")],
)
def test_sizes_that_do_not_fit(texts, size, message):
    with pytest.raises(StkError, match=message):
        train_sentencepiece(texts, size, tags=TAGS)


@pytest.mark.parametrize("tags", [["de", "de"], ["a b"], ["<de>"], ["pad"], ["s"]])
def test_bad_tags(tags):
    with pytest.raises(StkError, match="tag"):
        CharVocab("abc", tags)
