"""Vocabularies of text models of transformers: stk's ids, and which of theirs each one is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from stk.data.piece_vocab import PieceVocab, WordPieceVocab
from stk.data.vocab import BOS, EOS, MASK, PAD, UNK, Vocab
from stk.errors import StkError
from stk.interop.state import read_json

_CODES = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT "
    "lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
)
_MORE = (
    "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF "
    "pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
)
MBART_LANGUAGES = tuple(_CODES.split())
"""Language codes of mBART (Liu et al., 2020) in the order of their ids."""

MBART50_LANGUAGES = (*MBART_LANGUAGES, *_MORE.split())
"""Those of mBART-50 (Tang et al., 2020)."""

SENTENCEPIECE_FILES = ("sentencepiece.bpe.model", "sentencepiece.model", "spiece.model")


@dataclass(frozen=True)
class Named:
    """A vocabulary, and the id that the other library gives to each of its entries.

    Attributes:
        vocab: in stk's order.
        theirs: ``(V,)`` int64; -1 for what they do not have, such as Marian's mask.
        read_only: ids of stk that copy another entry's vector and are never written.
    """

    vocab: Vocab
    theirs: Tensor
    read_only: tuple[int, ...] = ()


def arrange(
    tokens: Mapping[int, str],
    size: int,
    shared: Mapping[int, int],
    languages: Mapping[int, str],
    make: Callable[[list[str], list[str]], Vocab],
    where: Path,
) -> Named:
    """Put another library's ids into stk's order.

    Args:
        tokens: their id -> token, of everything the tokenizer knows.
        size: rows of their embedding; rows without a token are kept under a made-up name.
        shared: one of stk's first ids -> theirs.
        languages: their id -> name of the tag.
        make: from pieces and tags to the vocabulary.
        where: for messages.

    Raises:
        StkError: the tokenizer knows ids that the embedding lacks.
    """
    highest = max([*tokens, *languages, *shared.values()])
    if highest >= size:
        name = languages.get(highest) or tokens.get(highest, "a special symbol")
        raise StkError(
            f"{name!r} has id {highest}, but the embedding has {size} rows",
            file=where,
            mend="the tokenizer belongs to another checkpoint",
        )
    taken = {*shared.values(), *languages}
    rest = [i for i in range(size) if i not in taken]
    pieces = [tokens.get(i, f"<id {i}>") for i in rest]
    vocab = make(pieces, list(languages.values()))
    first = [shared.get(i, -1) for i in (PAD, UNK, BOS, EOS, MASK)]
    return Named(vocab, torch.tensor([*first, *languages, *rest], dtype=torch.int64))


def tag_names(codes: Sequence[str], renamed: Mapping[str, str], where: Path) -> list[str]:
    """Names of tags: ``de`` of ``de_DE``, unless ``renamed`` says otherwise.

    Raises:
        StkError: a renamed code that the model does not have, or two codes with one name.
    """
    unknown = sorted(set(renamed) - set(codes))
    if unknown:
        raise StkError(
            f"the vocabulary has no language {', '.join(unknown)}",
            file=where,
            mend=f"it has {', '.join(codes) or 'none'}",
        )
    names = [renamed.get(code) or code.split("_")[0] for code in codes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StkError(f"several languages are named {', '.join(twice)}", file=where)
    return names


def bert_vocab(directory: Path, size: int) -> Named:
    """BERT's word pieces, from ``vocab.txt`` or ``tokenizer.json``."""
    listed = directory / "vocab.txt"
    if listed.is_file():
        words = listed.read_text(encoding="utf-8").splitlines()
    else:
        found = read_json(directory / "tokenizer.json")["model"]["vocab"]
        words = sorted(found, key=found.get)
    config = directory / "tokenizer_config.json"
    lower = bool(read_json(config).get("do_lower_case", True)) if config.is_file() else True
    names = {PAD: "[PAD]", UNK: "[UNK]", BOS: "[CLS]", EOS: "[SEP]", MASK: "[MASK]"}
    missing = [name for name in names.values() if name not in words]
    if missing:
        raise StkError(f"the vocabulary lacks {', '.join(missing)}", file=directory)
    shared = {mine: words.index(name) for mine, name in names.items()}
    return arrange(
        dict(enumerate(words)), size, shared, {},
        lambda pieces, tags: WordPieceVocab(pieces, lower, tags), directory,
    )  # fmt: skip


def fairseq_vocab(
    directory: Path, size: int, codes: Sequence[str] | None, renamed: Mapping[str, str]
) -> Named:
    """XLM-R's and mBART's: begin, pad, end, unknown, pieces, languages, mask.

    Args:
        directory: holds the SentencePiece model.
        size: rows of the embedding.
        codes: language codes in the order of their ids; None: told by their number.
        renamed: code -> name of its tag.

    Raises:
        StkError: no SentencePiece model, languages that cannot be told, or too few rows.
    """
    file = _spm_file(directory, SENTENCEPIECE_FILES)
    content = file.read_bytes()
    model = _processor(content, file)
    count = len(model)
    if codes is None:
        known = {0: (), 25: MBART_LANGUAGES, 52: MBART50_LANGUAGES}
        number = size - count - 2
        if number not in known:
            raise StkError(
                f"the embedding has {size} rows, the SentencePiece model {count} pieces: languages "
                f"cannot be told",
                file=directory,
                mend="name them in the order of their ids: --languages ar_AR cs_CZ ...",
            )
        codes = list(known[number])
    names = tag_names(codes, renamed, directory)
    tokens = {i + 1: str(model.id_to_piece(i)) for i in range(3, count)}
    languages = {count + 1 + i: name for i, name in enumerate(names)}
    shared = {BOS: 0, PAD: 1, EOS: 2, UNK: 3, MASK: count + 1 + len(codes)}
    return arrange(
        tokens, size, shared, languages,
        lambda pieces, tags: PieceVocab(content, pieces, tags), directory,
    )  # fmt: skip


def marian_vocab(
    directory: Path, size: int, config: Mapping[str, Any], side: str, renamed: Mapping[str, str]
) -> Named:
    """Marian's: pieces as ``vocab.json`` (or ``target_vocab.json``) numbers them.

    There is neither begin nor mask. What the decoder reads first stands for begin.

    Args:
        directory: holds the SentencePiece models and the numbering.
        size: rows of the embedding.
        config: of the model.
        side: ``source`` or ``target``.
        renamed: code -> name of its tag, such as ``fra`` -> ``fr``.
    """
    separate = directory / "target_vocab.json"
    listed = directory / "vocab.json"
    if side == "target" and separate.is_file():
        listed = separate
    numbers: dict[str, int] = read_json(listed)
    missing = [name for name in ("<pad>", "<unk>", "</s>") if name not in numbers]
    if missing:
        raise StkError(f"the vocabulary lacks {', '.join(missing)}", file=listed)
    file = _spm_file(directory, (f"{side}.spm",))
    content = file.read_bytes()
    _processor(content, file)
    codes = [t[2:-2] for t in sorted(numbers, key=lambda t: numbers[t]) if t[:2] + t[-2:] == ">><<"]
    names = tag_names(codes, renamed, listed)
    languages = {numbers[f">>{code}<<"]: name for code, name in zip(codes, names, strict=True)}
    shared = {PAD: numbers["<pad>"], UNK: numbers["<unk>"], EOS: numbers["</s>"]}
    named = arrange(
        {i: piece for piece, i in numbers.items()}, size, shared, languages,
        lambda pieces, tags: PieceVocab(content, pieces, tags), listed,
    )  # fmt: skip
    theirs = named.theirs.clone()
    theirs[BOS] = int(config.get("decoder_start_token_id", numbers["<pad>"]))
    return Named(named.vocab, theirs, read_only=(BOS,))


def _spm_file(directory: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise StkError(
        "no SentencePiece model",
        file=directory,
        mend=f"it must hold {' or '.join(names)}, which comes with the published checkpoint",
    )


def _processor(content: bytes, file: Path) -> SentencePieceProcessor:
    model = SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(content)
    except RuntimeError:
        raise StkError("not a SentencePiece model", file=file) from None
    return model
