"""Kaldi data directories and fairseq TSVs, in and out."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from stk.data.audio import load_audio
from stk.data.example import FIELDS, Example
from stk.data.fairseq import COLUMNS, FairseqOptions, read_fairseq, write_fairseq
from stk.data.kaldi import read_kaldi, write_kaldi
from stk.errors import StkError


def plain(example):
    return {name: getattr(example, name) for name in FIELDS}


@pytest.fixture
def examples(clip):
    long, short = clip("long.wav", 4.0, 22050, 2), clip("short.flac", 1.0)
    row = {"src_lang": "en", "tgt_lang": "de"}
    return [
        Example(
            id="s1-a",
            audio=long,
            duration=1.5,
            src_text="one",
            tgt_text="eins",
            speaker="s1",
            **row,
        ),
        Example(
            id="s1-b",
            audio=long,
            start=1.5,
            duration=2.0,
            src_text="two  words",
            tgt_text="zwei é",
            speaker="s1",
            **row,
        ),
        Example(
            id="s2-a",
            audio=short,
            duration=1.0,
            src_text="three",
            tgt_text="3",
            speaker="s2",
            **row,
        ),
    ]


def test_kaldi_round_trip(tmp_path, examples):
    assert write_kaldi(tmp_path / "k", reversed(examples)) == 3
    assert (tmp_path / "k" / "segments").read_text().splitlines()[1] == (
        "s1-b long 1.500000 3.500000"
    )
    found = read_kaldi(tmp_path / "k", tgt_lang="de")
    expected = [dataclasses.replace(e, src_text=" ".join(e.src_text.split())) for e in examples]
    assert [plain(e) for e in found] == [plain(e) for e in expected]


def test_kaldi_whole_files_without_segments(tmp_path, clip):
    rows = [Example(id=f"u{i}", audio=clip(f"{i}.wav"), src_text="x") for i in range(2)]
    write_kaldi(tmp_path / "k", rows)
    assert not (tmp_path / "k" / "segments").exists()
    found = read_kaldi(tmp_path / "k", src_lang="en")
    assert [(e.id, e.audio, e.duration, e.src_lang, e.speaker) for e in found] == [
        (e.id, e.audio, None, "en", e.id) for e in rows
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wav.scp", "r sph2pipe x.sph |\n", "commands are not run"),
        ("wav.scp", "r a.wav\nr b.wav\n", "stands already in row 1"),
        ("wav.scp", "r a.wav\n\n", "an empty line"),
        ("segments", "u r 0.0\n", "expected utterance"),
        ("segments", "u q 0.0 1.0\n", "no recording 'q'"),
        ("segments", "u r 2.0 1.0\n", "is empty"),
        ("text", "v words\n", "has no utterance 'u'"),
        ("text", "u words\nv words\n", "utterance 'v' has no sound"),
        ("utt2lang", "u english\n", "not a language code"),
    ],
)
def test_broken_kaldi_directories(tmp_path, name, text, message):
    (tmp_path / "wav.scp").write_text("r a.wav\n")
    (tmp_path / "segments").write_text("u r 0.0 1.0\n")
    assert len(read_kaldi(tmp_path)) == 1
    (tmp_path / name).write_text(text)
    with pytest.raises(StkError, match=message):
        read_kaldi(tmp_path)


def test_a_segment_to_the_end(tmp_path):
    (tmp_path / "wav.scp").write_text("r\ta.wav\n")
    (tmp_path / "segments").write_text("u r 1.5 -1\n")
    (found,) = read_kaldi(tmp_path)
    assert (found.start, found.duration, found.audio) == (1.5, None, Path("a.wav").absolute())


def test_what_kaldi_cannot_hold(tmp_path, examples):
    mixed = dataclasses.replace(examples[1], tgt_lang="fr")
    for rows, message in (
        ([dataclasses.replace(examples[0], id="a b")], "whitespace in 'a b'"),
        ([Example(id="a", src_text="x")], "lacks audio"),
        ([examples[0], mixed], "several target languages"),
    ):
        with pytest.raises(StkError, match=message):
            write_kaldi(tmp_path / "k", rows)
    with pytest.raises(StkError, match="Kaldi data directory"):
        read_kaldi(tmp_path / "none")


@pytest.mark.parametrize("rooted", [False, True])
def test_fairseq_round_trip(tmp_path, examples, rooted):
    options = FairseqOptions(audio_root=tmp_path if rooted else Path())
    path = tmp_path / "train.tsv"
    assert write_fairseq(path, examples, options) == 3
    lines = path.read_text().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert lines[2].split("\t")[1].endswith("long.wav:33075:44100")
    assert lines[2].startswith("s1-b\tlong.wav") == rooted
    assert [plain(e) for e in read_fairseq(path, options)] == [plain(e) for e in examples]


def test_fairseq_recognition_and_whole_files(tmp_path, clip):
    path = tmp_path / "asr.tsv"
    clip("a.wav")
    path.write_text('id\taudio\tn_frames\ttgt_text\nu\ta.wav\t16000\tsay "hi"\n')
    options = FairseqOptions(audio_root=tmp_path, target="src_text", src_lang="en", tgt_lang="de")
    (found,) = read_fairseq(path, options)
    assert (found.src_text, found.src_lang, found.tgt_text) == ('say "hi"', "en", None)
    assert found.tgt_lang is None and found.duration is None
    write_fairseq(tmp_path / "out.tsv", [found], options)
    assert (tmp_path / "out.tsv").read_text().splitlines()[1].startswith("u\ta.wav\t16000\tsay")


def zipped(tmp_path, data):
    """An archive with one stored member; return the bytes' place."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("member", data)
    offset = (tmp_path / "a.zip").read_bytes().index(data)
    return f"a.zip:{offset}:{len(data)}"


def tsv(tmp_path, audio, text="x"):
    path = tmp_path / "z.tsv"
    path.write_text(f"id\taudio\tn_frames\ttgt_text\nu/1\t{audio}\t1\t{text}\n")
    return path


def test_sound_is_taken_out_of_zip_archives(tmp_path, clip):
    source = clip("a.flac")
    path = tsv(tmp_path, zipped(tmp_path, source.read_bytes()))
    options = FairseqOptions(audio_root=tmp_path, extract=tmp_path / "out")
    (found,) = read_fairseq(path, options)
    assert found.audio == tmp_path / "out" / "u_1.flac"
    assert torch.equal(load_audio(found.audio), load_audio(source))
    with pytest.raises(StkError, match="say where: --extract DIR") as caught:
        read_fairseq(path, FairseqOptions(audio_root=tmp_path))
    assert (caught.value.file, caught.value.row) == (path, 2)


def test_features_are_not_sound(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((4, 80)))
    options = FairseqOptions(audio_root=tmp_path, extract=tmp_path)
    member = zipped(tmp_path, (tmp_path / "f.npy").read_bytes())
    for audio in ("f.npy", member):
        with pytest.raises(StkError, match="features"):
            read_fairseq(tsv(tmp_path, audio), options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\taudio\tn_frames\nu\ta\t1\n", "no column 'tgt_text'"),
        ("id\taudio\tn_frames\ttgt_text\nu\ta.wav\t1\n", "not 4 columns"),
        ("id\taudio\tn_frames\ttgt_text\nu\ta.wav\t1\t \n", "tgt_text is empty"),
        ("id\taudio\tn_frames\ttgt_text\nu\ta.wav:1:2\t1\tx\n", "no such sound file"),
        ("id\taudio\tn_frames\ttgt_text\nu\ta\t1\tx\nu\ta\t1\tx\n", "stands twice"),
        ("id\taudio\tn_frames\ttgt_text\ttgt_lang\nu\ta\t1\tx\tgerman\n", "not a language code"),
    ],
)
def test_broken_tsvs(tmp_path, text, message):
    (tmp_path / "b.tsv").write_text(text)
    with pytest.raises(StkError, match=message):
        read_fairseq(tmp_path / "b.tsv", FairseqOptions())


def test_what_a_tsv_cannot_hold(tmp_path, examples):
    tabbed = dataclasses.replace(examples[0], tgt_text="a\tb")
    for rows, message in (
        ([tabbed], "a tab or line end"),
        ([Example(id="a", tgt_text="x")], "lacks audio"),
        ([dataclasses.replace(examples[0], tgt_text=None)], "lacks tgt_text"),
    ):
        with pytest.raises(StkError, match=message):
            write_fairseq(tmp_path / "x.tsv", rows, FairseqOptions())
    assert not (tmp_path / "x.tsv").exists()
