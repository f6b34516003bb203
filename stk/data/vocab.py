"""Vocabularies: text to ids and back, with tags for languages and tasks frozen in.

A saved vocabulary is a directory: ``vocab.json`` (kind, tags, digest of the content) and the
files of its kind. All kinds share the first ids: pad 0 (also the CTC blank), unk 1, bos 2, eos 3,
mask 4, then one id a tag, then the pieces of text. No text is ever encoded into one of these.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import sentencepiece

from stk.data.atomic import write_bytes, write_text
from stk.errors import StkError

PAD, UNK, BOS, EOS, MASK = range(5)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
_TAG = re.compile(r"[A-Za-z0-9_\-]+")
UNK_SURFACE = "\u2047"
"""How an unknown piece reads in decoded text."""


class Vocab(Protocol):
    """What the rest of stk asks of a vocabulary. All are picklable.

    Attributes:
        pad: 0, padding and the CTC blank.
        unk: 1.
        bos: 2, begin of sentence.
        eos: 3, end of sentence.
        mask: 4, for masked-token objectives.
        tags: names of the language and task tags, in the order of their ids (from 5 on).
        digest: hexadecimal SHA-256 of the content; equal digests mean equal ids.
    """

    pad: int
    unk: int
    bos: int
    eos: int
    mask: int
    tags: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        """Number of ids V."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos; only unk and pieces of text occur."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; pad, bos, eos, mask and tags are dropped, unk reads as U+2047."""
        ...

    def tag(self, name: str) -> int:
        """Id of a tag such as ``de`` or ``asr``; StkError if the vocabulary lacks it."""
        ...

    def piece(self, index: int) -> str:
        """The piece an id stands for, for people to read."""
        ...

    def save(self, directory: str | Path) -> None:
        """Write the vocabulary into a directory."""
        ...


class BaseVocab:
    """What the kinds have in common."""

    kind: ClassVar[str]
    pad, unk, bos, eos, mask = PAD, UNK, BOS, EOS, MASK

    def __init__(self, tags: Sequence[str], content: bytes) -> None:
        self.tags = check_tags(tags)
        self._content = content
        self._where: Path | None = None
        described = json.dumps([self.kind, list(self.tags)]).encode()
        self.digest = hashlib.sha256(described + b"\n" + content).hexdigest()

    def tag(self, name: str) -> int:
        """Id of a tag.

        Raises:
            StkError: the vocabulary was made without it.
        """
        try:
            return MASK + 1 + self.tags.index(name)
        except ValueError:
            raise StkError(
                f"the vocabulary has no tag {name!r}", file=self._where, mend=self._lacks()
            ) from None

    def _lacks(self) -> str:
        """What to do about a missing tag."""
        return f"it has {', '.join(self.tags) or 'none'}; make it with --tags"

    def save(self, directory: str | Path) -> None:
        """Write the vocabulary; ``vocab.json`` comes last, so a part is never taken for whole."""
        directory = Path(directory)
        write_bytes(directory / self.file_name(), self._content)
        described = {"kind": self.kind, "tags": list(self.tags), "digest": self.digest}
        write_text(directory / "vocab.json", json.dumps(described, indent=1) + "\n")

    @classmethod
    def file_name(cls) -> str:
        """Name of the file beside ``vocab.json`` that holds the content."""
        raise AttributeError(f"{cls.__name__} names no file")

    def _check(self, index: int, size: int) -> None:
        if not 0 <= index < size:
            raise IndexError(f"id {index} is outside a vocabulary of {size}")


class SentencePieceVocab(BaseVocab):
    """Unigram or BPE pieces (Kudo, 2018; Sennrich et al., 2016).

    Args:
        model: a serialised SentencePiece model trained by :func:`train_sentencepiece`.
        tags: its tags in order.

    Raises:
        StkError: the model's first ids are not the shared ones.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes, tags: Sequence[str] = ()) -> None:
        super().__init__(tags, model)
        self._load()
        expected = (*SPECIALS, *(f"<{tag}>" for tag in self.tags))
        found = tuple(self._model.id_to_piece(i) for i in range(min(len(expected), len(self))))
        if found != expected:
            raise StkError(
                "the SentencePiece model's first ids are not pad, unk, bos, eos, mask and the tags",
                mend="train it with stk-data vocab",
            )

    def _load(self) -> None:
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(self._content)
        except RuntimeError as error:
            raise StkError(f"not a SentencePiece model: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load()

    def __len__(self) -> int:
        return int(self._model.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos."""
        return list(self._model.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; specials and tags are dropped, unk reads as U+2047."""
        for index in ids:
            self._check(index, len(self))
        first = MASK + 1 + len(self.tags)
        kept = [int(i) for i in ids if i == UNK or i >= first]
        return " ".join(str(self._model.decode(kept)).split())

    def piece(self, index: int) -> str:
        """The piece an id stands for."""
        self._check(index, len(self))
        return str(self._model.id_to_piece(index))

    @classmethod
    def file_name(cls) -> str:
        """Name of the model file."""
        return "model.spm"

    @classmethod
    def from_content(cls, content: bytes, tags: Sequence[str]) -> Self:
        """Rebuild from what :meth:`save` wrote."""
        return cls(content, tags)


class CharVocab(BaseVocab):
    """One id a character; whitespace runs become one space.

    Args:
        characters: distinct characters in id order.
        tags: tags in order.
    """

    kind = "char"

    def __init__(self, characters: Sequence[str], tags: Sequence[str] = ()) -> None:
        if len(set(characters)) != len(characters) or any(len(c) != 1 for c in characters):
            raise StkError("a character vocabulary needs distinct single characters")
        content = json.dumps(list(characters), ensure_ascii=False).encode()
        super().__init__(tags, content)
        self._pieces = [*SPECIALS, *(f"<{tag}>" for tag in self.tags), *characters]
        self._first = len(self._pieces) - len(characters)
        self._ids = {c: self._first + i for i, c in enumerate(characters)}

    @classmethod
    def of_texts(cls, texts: Iterable[str], tags: Sequence[str] = ()) -> Self:
        """A vocabulary of every character that occurs, in code point order."""
        found: set[str] = set()
        for text in texts:
            found.update(" ".join(text.split()))
        if not found:
            raise StkError("no text to take characters from")
        return cls(sorted(found), tags)

    def __len__(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos."""
        return [self._ids.get(c, UNK) for c in " ".join(text.split())]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; specials and tags are dropped, unk reads as U+2047."""
        for index in ids:
            self._check(index, len(self))
        shown = (
            UNK_SURFACE if i == UNK else self._pieces[i] if i >= self._first else "" for i in ids
        )
        return " ".join("".join(shown).split())

    def piece(self, index: int) -> str:
        """The piece an id stands for."""
        self._check(index, len(self))
        return self._pieces[index]

    @classmethod
    def file_name(cls) -> str:
        """Name of the file of characters."""
        return "characters.json"

    @classmethod
    def from_content(cls, content: bytes, tags: Sequence[str]) -> Self:
        """Rebuild from what :meth:`save` wrote."""
        return cls(json.loads(content), tags)


def kinds() -> dict[str, Any]:
    """Every kind a ``vocab.json`` may name."""
    from stk.data.phonemes import PhonemeVocab
    from stk.data.piece_vocab import PieceVocab, WordPieceVocab

    known = (SentencePieceVocab, CharVocab, PhonemeVocab, PieceVocab, WordPieceVocab)
    return {kind.kind: kind for kind in known}


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return ``tags`` as a tuple; StkError for a bad or repeated name."""
    for tag in tags:
        if not _TAG.fullmatch(tag) or f"<{tag}>" in SPECIALS:
            raise StkError(
                f"{tag!r} cannot be a tag", mend="letters, digits, - and _; not pad, unk, s, mask"
            )
    if len(set(tags)) != len(tags):
        raise StkError(f"tags repeat: {' '.join(tags)}", mend="name each once")
    return tuple(tags)


def load_vocab(directory: str | Path) -> Vocab:
    """Read a saved vocabulary.

    Raises:
        StkError: missing or unreadable files, an unknown kind, files that do not belong together.
    """
    described_in = Path(directory) / "vocab.json"
    if not described_in.is_file():
        raise StkError("no such vocabulary", file=described_in, mend="stk-data vocab makes one")
    try:
        described = json.loads(described_in.read_text(encoding="utf-8"))
        kind, tags, digest = described["kind"], described["tags"], described["digest"]
    except (ValueError, KeyError, TypeError):
        raise StkError("does not describe a vocabulary", file=described_in) from None
    known = kinds()
    if kind not in known:
        listed = ", ".join(known)
        raise StkError(f"unknown kind {kind!r}", file=described_in, mend=f"known: {listed}")
    content = Path(directory) / known[kind].file_name()
    if not content.is_file():
        raise StkError("missing from the vocabulary", file=content, mend="make it again")
    try:
        vocab: Any = known[kind].from_content(content.read_bytes(), tags)
    except StkError as error:
        raise StkError(error.what, file=content, mend=error.mend) from None
    except ValueError:
        raise StkError("is damaged", file=content, mend="make the vocabulary again") from None
    if vocab.digest != digest:
        raise StkError(
            "does not belong to its vocab.json (digests differ)",
            file=content,
            mend="copy the directory as a whole",
        )
    vocab._where = Path(directory)
    found: Vocab = vocab
    return found


def train_sentencepiece(
    texts: Iterable[str],
    size: int,
    *,
    tags: Sequence[str] = (),
    model_type: str = "unigram",
    character_coverage: float = 1.0,
    normalization: str = "nmt_nfkc",
    out_dir: str | Path | None = None,
) -> SentencePieceVocab:
    """Train a SentencePiece vocabulary; equal texts in equal order give equal ids.

    Args:
        texts: sentences, consumed once.
        size: ids in all, specials and tags included.
        tags: language and task tags, frozen into the model as control symbols.
        model_type: ``unigram``, ``bpe`` or ``char``.
        character_coverage: share of characters kept; rarer ones become unk.
        normalization: SentencePiece rule: ``nmt_nfkc``, ``nfkc``, ``nmt_nfkc_cf``, ``identity``.
        out_dir: where to save it; None does not save.

    Raises:
        StkError: no text, a bad tag, or a size that these texts cannot fill or fit in.
    """
    tags = check_tags(tags)
    from io import BytesIO

    model = BytesIO()
    lines = (line for line in (" ".join(text.split()) for text in texts) if line)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            vocab_size=size,
            model_type=model_type,
            character_coverage=character_coverage,
            normalization_rule_name=normalization,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            pad_piece=SPECIALS[PAD],
            unk_piece=SPECIALS[UNK],
            bos_piece=SPECIALS[BOS],
            eos_piece=SPECIALS[EOS],
            unk_surface=f" {UNK_SURFACE} ",
            control_symbols=[SPECIALS[MASK], *(f"<{tag}>" for tag in tags)],
            num_threads=1,  # sums of several threads would depend on their timing
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise _training_error(str(error), size) from None
    vocab = SentencePieceVocab(model.getvalue(), tags)
    if out_dir is not None:
        vocab.save(out_dir)
    return vocab


def _training_error(text: str, size: int) -> StkError:
    highest = re.search(r"value <= (\d+)", text)
    lowest = re.search(r"required_chars.*?(\d+) vs (\d+)|smaller than.*?(\d+)", text)
    if highest:
        return StkError(
            f"a vocabulary of {size} is too big for these texts", mend=f"at most {highest[1]}"
        )
    if lowest:
        return StkError(
            f"a vocabulary of {size} cannot hold all characters and tags",
            mend="raise the size or lower the character coverage",
        )
    what = "no text to train on" if "empty" in text else text
    return StkError(f"SentencePiece training failed: {what}")
