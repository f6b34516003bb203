"""BERT, XLM-R, mBART and Marian from transformers: equal logits, equal output, clear errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import stk
from stk.cli.data import main as stk_data
from stk.config.training import InitConfig
from stk.data.batch import Padded, Source
from stk.data.vocab import load_vocab
from stk.errors import StkError
from stk.interop.text import ImportedText, read_text_model
from stk.models.registry import build_model
from stk.modules.positions import sinusoids
from stk.training.checkpoint import load_model
from stk.training.init_from import init_from
from tests.interop.text_models import (
    LANGUAGES,
    SENTENCES,
    save_bert,
    save_marian,
    save_mbart,
    save_xlmr,
)

transformers = pytest.importorskip("transformers")

SAVE: dict[str, Callable[[Path], Any]] = {
    "bert": save_bert,
    "xlm-roberta": save_xlmr,
    "mbart": save_mbart,
    "marian": save_marian,
    "marian, three languages": lambda d: save_marian(d, ("fra", "por", "deu")),
    "marian, two tables": lambda d: save_marian(
        d, share_encoder_decoder_embeddings=False, tie_word_embeddings=False
    ),
}


def read(directory: Path, **options: Any) -> ImportedText:
    """mBART's three languages are not told by their number."""
    if json.loads((directory / "config.json").read_text())["model_type"] == "mbart":
        options.setdefault("languages", LANGUAGES)
    return read_text_model(directory, **options)


def random_ids(imported: ImportedText, view: str, lengths: list[int]) -> Padded:
    """Ids that the other library has too."""
    known = (imported.names[view].theirs >= 0).nonzero()[:, 0]
    known = known[known > 0]
    generator = torch.Generator().manual_seed(3)
    rows = [known[torch.randint(len(known), (n,), generator=generator)] for n in lengths]
    return Padded.stack(rows)


def theirs_of(imported: ImportedText, view: str, ids: Padded, pad: int) -> tuple[Tensor, Tensor]:
    """Their ids and attention mask."""
    real = torch.arange(ids.data.shape[1]) < ids.lengths[:, None]
    return torch.where(real, imported.names[view].theirs[ids.data], pad), real.long()


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_logits_of_language_models(kind: str, tmp_path: Path) -> None:
    original = SAVE[kind](tmp_path)
    imported = read(tmp_path)
    model: Any = imported.build()
    ids = random_ids(imported, "src", [9, 5, 1])
    tokens, mask = theirs_of(imported, "src", ids, original.config.pad_token_id)
    with torch.inference_mode():
        encoded = model.encode(Source(ids.data, ids.lengths))
        ours = model.project(encoded.states)
        expected = original(input_ids=tokens, attention_mask=mask).logits
    expected = expected[:, :, imported.names["src"].theirs]
    for row, length in enumerate(ids.lengths.tolist()):
        torch.testing.assert_close(ours[row, :length], expected[row, :length], atol=1e-4, rtol=0)
    assert ours.std() > 0.5


@pytest.mark.parametrize("kind", ["mbart", "marian", "marian, three languages"])
def test_logits_of_translation_models(kind: str, tmp_path: Path) -> None:
    original = SAVE[kind](tmp_path)
    compare(original, read(tmp_path))


def test_logits_of_marian_with_two_tables(tmp_path: Path) -> None:
    original = SAVE["marian, two tables"](tmp_path)
    compare(original, read(tmp_path))


def compare(original: Any, imported: ImportedText) -> None:
    model: Any = imported.build()
    source, target = random_ids(imported, "src", [9, 5, 1]), random_ids(imported, "tgt", [7, 4, 2])
    pad = original.config.pad_token_id
    tokens, mask = theirs_of(imported, "src", source, pad)
    written, _ = theirs_of(imported, "tgt", target, pad)
    with torch.inference_mode():
        encoded = model.encode(Source(source.data, source.lengths))
        ours = model.decode(encoded, target.data, target.lengths).logits
        expected = original(input_ids=tokens, attention_mask=mask, decoder_input_ids=written).logits
    named = imported.names["tgt"]
    both = (named.theirs >= 0) & ~torch.isin(
        torch.arange(len(named.theirs)), torch.tensor(named.read_only, dtype=torch.int64)
    )
    assert both.sum() >= len(both) - 2
    for row, length in enumerate(target.lengths.tolist()):
        wanted = expected[row, :length][:, named.theirs[both]]
        found = ours[row, :length]
        torch.testing.assert_close(found[:, both], wanted, atol=1e-4, rtol=0)
        probs = wanted.softmax(-1), found.softmax(-1)[:, both]  # what they lack has no mass
        torch.testing.assert_close(probs[1], probs[0], atol=1e-5, rtol=0)
    assert ours[:, :, both].std() > 0.5


def greedy(original: Any, tokens: list[int], **options: Any) -> list[int]:
    """Ids that transformers writes, without begin, end and padding."""
    written = original.generate(
        torch.tensor([tokens]), do_sample=False, num_beams=1, max_new_tokens=20, **options
    )[0].tolist()
    special = {original.config.pad_token_id, original.config.eos_token_id}
    return [i for i in written[1:] if i not in special]


@pytest.mark.parametrize("codes", [(), ("fra", "deu")])
def test_marian_writes_the_same(codes: tuple[str, ...], tmp_path: Path) -> None:
    original = save_marian(tmp_path / "theirs", codes)
    tokenizer = transformers.MarianTokenizer.from_pretrained(str(tmp_path / "theirs"))
    imported = read(tmp_path / "theirs", tags={"fra": "fr", "deu": "de"} if codes else {})
    named = imported.names["tgt"]
    closed = named.theirs[5 : 5 + len(named.vocab.tags)].tolist()
    original.generation_config.bad_words_ids = [
        [i] for i in (original.config.pad_token_id, *closed)
    ]
    imported.save(tmp_path / "ours")
    translator = stk.load(tmp_path / "ours", beam=1, max_length=19, max_ratio=99.0)
    outputs = set()
    for sentence in SENTENCES:
        text = f">>fra<< {sentence}" if codes else sentence
        tokens = tokenizer(text).input_ids
        expected = greedy(original, tokens)
        found = translator.translate(sentence, target_lang="fr" if codes else None)
        assert named.theirs[list(found.nbest[0].tokens)].tolist() == expected
        outputs.add(found.text)
        shown = tokenizer.decode(expected, use_source_tokenizer=False).replace("<unk>", " \u2047 ")
        assert found.text == " ".join(shown.split())
    assert len(outputs) > 3


@pytest.mark.parametrize("languages", [LANGUAGES, None])
def test_mbart_writes_the_same(languages: tuple[str, ...] | None, tmp_path: Path) -> None:
    """With three named languages, and with mBART's own 25."""
    from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

    codes = languages or tuple(FAIRSEQ_LANGUAGE_CODES)
    original = save_mbart(tmp_path / "theirs", codes)
    imported = read_text_model(tmp_path / "theirs", languages=languages)
    imported.save(tmp_path / "ours")
    vocab = imported.vocabs["src"]
    closed = [int(imported.names["tgt"].theirs[vocab.tag(c[:2])]) for c in codes]
    original.generation_config.bad_words_ids = [[i] for i in (*closed, 0, 1, closed[-1] + 1)]
    source, target = (int(imported.names["tgt"].theirs[vocab.tag(c)]) for c in ("de", "en"))
    translator = stk.load(tmp_path / "ours", beam=1, max_length=19, max_ratio=99.0)
    outputs = set()
    for sentence in SENTENCES:
        pieces = imported.names["src"].theirs[vocab.encode(sentence)].tolist()
        expected = greedy(original, [*pieces, 2, source], decoder_start_token_id=target)
        found = translator.translate(sentence, source_lang="de", target_lang="en")
        ours = imported.names["tgt"].theirs[list(found.nbest[0].tokens)].tolist()
        assert ours == expected
        outputs.add(found.text)
    assert len(outputs) > 3


def test_mbart_50_has_another_layout(tmp_path: Path) -> None:
    from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES

    save_mbart(tmp_path, tuple(FAIRSEQ_LANGUAGE_CODES))
    imported = read_text_model(tmp_path)
    named = imported.names["src"]
    assert [
        int(named.theirs[named.vocab.tag(c.split("_")[0])]) for c in FAIRSEQ_LANGUAGE_CODES
    ] == [*range(named.theirs.max() - 52, named.theirs.max())]
    assert imported.objective["begin"] == "eos" and imported.objective["prefix"] == "tgt_lang"


def test_word_pieces_are_those_of_bert(tmp_path: Path) -> None:
    save_bert(tmp_path)
    named = read(tmp_path).names["src"]
    tokenizer = transformers.BertTokenizer.from_pretrained(str(tmp_path))
    texts = [
        *SENTENCES, "The Hóuse, is old!", "haus中haus", "x" * 120, "houses\tand\napes.", "éè\u0301",
        "a\u00ado\ufffd b", "$5",
    ]  # fmt: skip
    for text in texts:
        expected = tokenizer(text, add_special_tokens=False).input_ids
        assert named.theirs[named.vocab.encode(text)].tolist() == expected, text
    vocab = named.vocab
    assert vocab.decode(vocab.encode("the houses")) == "the houses"
    assert vocab.decode([2, *vocab.encode("old ∂ hill"), 3]) == "old \u2047 hill"
    starts = [vocab.piece(i).startswith("\u2581") for i in vocab.encode("the houses")]
    assert starts == [True, True, False]


@pytest.mark.parametrize("kind", SAVE)
def test_saved_checkpoint_is_the_model(kind: str, tmp_path: Path) -> None:
    SAVE[kind](tmp_path / "theirs")
    imported = read(tmp_path / "theirs")
    imported.save(tmp_path / "ours")
    loaded = load_model(tmp_path / "ours")
    for name, tensor in imported.weights.items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    for view, vocab in imported.vocabs.items():
        again = load_vocab(tmp_path / "ours" / "vocab" / view)
        assert again.digest == vocab.digest == loaded.vocabs[view].digest
        assert again.encode(SENTENCES[0]) == vocab.encode(SENTENCES[0]) != []
        assert again.decode(again.encode(SENTENCES[0])) == SENTENCES[0]
    with pytest.raises(StkError, match="already exists"):
        imported.save(tmp_path / "ours")


def test_mbart_starts_lna(tmp_path: Path) -> None:
    """As decoder and as text encoder: with text read in, the two models write the same logits."""
    save_mbart(tmp_path / "theirs")
    imported = read(tmp_path / "theirs")
    imported.save(tmp_path / "mbart")
    keys = {k: v for k, v in imported.model.items() if k not in ("name", "tie", "embedding_scale")}
    lna: Any = build_model(
        {"name": "lna", **keys, "wave": {"preset": "tiny"}, "text_encoder": True},
        {"tgt": len(imported.vocabs["tgt"])},
        1,
    ).eval()
    config = InitConfig(
        checkpoint=str(tmp_path / "mbart"),
        components={"decoder": "decoder", "text_encoder": "encoder"},
    )
    copied = init_from(lna, config, {"tgt": imported.vocabs["tgt"]})
    assert any(name.startswith("text_encoder.stack.layers.1.") for name in copied.names)
    source, target = random_ids(imported, "src", [6, 3]), random_ids(imported, "tgt", [5, 4])
    mbart: Any = imported.build()
    both = []
    for model in (lna, mbart):
        encoded = model.encode(Source(source.data, source.lengths))
        both.append(model.decode(encoded, target.data, target.lengths).logits)
    torch.testing.assert_close(*both)


def test_positions_are_marians() -> None:
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    theirs = MarianSinusoidalPositionalEmbedding(40, 32)
    expected = theirs.create_weight()
    torch.testing.assert_close(sinusoids(40, 32, exact=True), expected, atol=1e-5, rtol=0)


def test_headless_bert_has_no_head_yet(tmp_path: Path) -> None:
    original = save_bert(tmp_path)
    original.bert.save_pretrained(tmp_path)
    imported = read(tmp_path)
    assert imported.absent == ("head.dense.", "head.norm.")
    assert set(imported.left) <= {"pooler.dense.weight", "pooler.dense.bias"}
    imported.build()


def change(directory: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Change saved weights."""
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def test_keys_must_be_understood_and_complete(tmp_path: Path) -> None:
    save_marian(tmp_path)
    change(tmp_path, lambda state: state.update(surprise=torch.zeros(2)))
    with pytest.raises(StkError, match="not understood: surprise; missing: none"):
        read(tmp_path)

    def without(state: dict[str, Tensor]) -> None:
        del state["surprise"], state["model.encoder.layers.0.fc1.bias"]

    change(tmp_path, without)
    with pytest.raises(StkError, match="missing: encoder.layers.0.fc1.bias"):
        read(tmp_path)


def test_a_twin_that_differs(tmp_path: Path) -> None:
    save_marian(tmp_path)
    change(
        tmp_path,
        lambda state: state.update(
            {"model.encoder.embed_tokens.weight": torch.zeros_like(state["model.shared.weight"])}
        ),
    )
    with pytest.raises(StkError, match="encoder.embed_tokens.weight differs"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "t5", "model_type is 't5'"),
        ("activation_function", "gelu_new", "activation_function is 'gelu_new'"),
        ("normalize_before", False, "normalize_before is False"),
        ("decoder_ffn_dim", 12, "encoder_ffn_dim and decoder_ffn_dim differ"),
    ],
)
def test_configurations_that_cannot_be(key: str, value: Any, message: str, tmp_path: Path) -> None:
    save_mbart(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(StkError, match=message):
        read_text_model(tmp_path, languages=LANGUAGES)


def test_languages_that_are_not_there(tmp_path: Path) -> None:
    save_mbart(tmp_path / "theirs")
    with pytest.raises(StkError, match="languages cannot be told"):
        read_text_model(tmp_path / "theirs")
    with pytest.raises(StkError, match="but the embedding has"):
        read_text_model(tmp_path / "theirs", languages=(*LANGUAGES, "ro_RO"))
    with pytest.raises(StkError, match="no language ro_RO"):
        read(tmp_path / "theirs", tags={"ro_RO": "ro"})
    read(tmp_path / "theirs").save(tmp_path / "ours")
    translator = stk.load(tmp_path / "ours")
    with pytest.raises(StkError, match="no tag 'ro'.*knows de, en, fr"):
        translator.translate("the house", source_lang="en", target_lang="ro")
    with pytest.raises(StkError, match="no tag 'ro'"):
        translator.translate("the house", source_lang="ro", target_lang="en")


def test_missing_files(tmp_path: Path) -> None:
    save_marian(tmp_path)
    (tmp_path / "target.spm").unlink()
    with pytest.raises(StkError, match=r"no SentencePiece model.*target\.spm"):
        read(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(StkError, match="is no JSON"):
        read(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(StkError, match=r"config\.json.*no such file"):
        read_text_model(tmp_path)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_mbart(tmp_path / "theirs")
    out = str(tmp_path / "ours")
    named = ["--languages", *LANGUAGES, "--tags", "en_XX=eng"]
    assert stk_data(["import", str(tmp_path / "theirs"), "--out", out, *named]) == 0
    printed = capsys.readouterr().out
    assert "text_transformer" in printed and "eng" in printed
    assert load_model(out).vocabs["tgt"].tags == ("de", "eng", "fr")
    assert stk_data(["import", str(tmp_path / "theirs"), "--out", out, *named]) == 1
    assert "already exists" in capsys.readouterr().err
