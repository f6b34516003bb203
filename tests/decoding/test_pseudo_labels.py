"""Pseudo-labels: shards written as manifests, read back as streams beside the gold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stk.cli.decode import main
from stk.config.run import BatchConfig, FeatureConfig, MixingConfig, StreamConfig
from stk.data.example import Example
from stk.data.manifest import read_manifest
from stk.data.mixing import Mixing, shares
from stk.data.stream import Stream
from stk.decoding.pseudo_labels import pseudo_labelled
from stk.decoding.translator import Candidate, Translation
from stk.features.frontend import FrontEnd
from stk.objectives.base import CollateContext
from stk.objectives.registry import build_objective
from tests.decoding import tiny

FLAGS = ["--device", "cpu", "--beam", "2", "--set", "max_extra=2", "min_length=3"]


def test_shards_are_manifests_to_train_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tiny.checkpoint(tmp_path / "checkpoint")
    rows = [
        {"id": f"c{i}", "audio": tiny.write_clip(tmp_path / f"{i}.wav", 0.5, seed=i).name}
        for i in range(5)
    ]
    manifest = tmp_path / "audio.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shards = [tmp_path / "labels" / f"{i}.jsonl" for i in (1, 2)]
    for number, path in enumerate(shards, 1):
        arguments = ["--checkpoint", str(checkpoint), "--manifest", str(manifest), *FLAGS]
        arguments += ["--target-lang", "de", "--shard", f"{number}/2"]
        assert main([*arguments, "--pseudo-labels", str(path)]) == 0
        captured = capsys.readouterr()
        assert captured.out == "" and f"{path}: " in captured.err
    found = [example for path in shards for example in read_manifest(path)]
    assert sorted(example.id for example in found) == [f"c{i}" for i in range(5)]
    for example in found:
        assert example.tgt_lang == "de" and example.tgt_text and example.duration == 0.5
        assert example.audio is not None and example.audio.is_file()
    config = StreamConfig(
        name="pseudo",
        manifests=tuple(map(str, shards)),
        objective={"name": "cross_entropy", "prefix": "tgt_lang"},
        batch=BatchConfig(max_examples=5),
    )
    context = CollateContext(
        vocabs={"tgt": tiny.vocab()}, frontend=FrontEnd(FeatureConfig(num_mel_bins=20))
    )
    stream = Stream(config, build_objective(config.objective), context)
    assert len(stream) == 5


def test_rows_without_output_are_left_out_and_transcripts_fill_gaps() -> None:
    def translation(text: str, transcript: str | None = None) -> Translation:
        return Translation(
            id="x",
            text=text,
            score=0.0,
            nbest=(Candidate(text=text, score=0.0, log_prob=0.0, tokens=()),),
            audio_seconds=1.5,
            batch_seconds=0.1,
            batch_size=1,
            transcript=transcript,
        )

    clip = Example(id="a", audio=Path("a.wav"), src_text="was said", tgt_text="old")
    bare = Example(id="b", audio=Path("b.wav"))
    pairs = [(clip, translation("new", "heard")), (bare, translation("neu", "heard"))]
    pairs += [(bare, translation(" "))]
    first, second = pseudo_labelled(pairs, "tgt_text")
    assert (first.tgt_text, first.src_text, first.duration) == ("new", "was said", 1.5)
    assert (second.tgt_text, second.src_text) == ("neu", "heard")
    (heard,) = pseudo_labelled([(clip, translation("again"))], "src_text")
    assert heard.src_text == "again" and heard.tgt_text == "old"


def test_gold_is_drawn_as_often_as_pseudo_labels_whatever_their_numbers() -> None:
    drawn = shares(MixingConfig(rule="weight"), (1.0, 1.0), (100, 10_000))
    mixing = Mixing(drawn, seed=1)
    counts = np.bincount([mixing.at(step)[0] for step in range(4000)], minlength=2)
    assert abs(counts[0] / 4000 - 0.5) < 0.03  # standard deviation 0.008
