"""Batches are a pure function of (seed, step, rank), whoever loads them."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest
import torch

from stk.config.run import AugmentConfig, BatchConfig, MixingConfig, StreamConfig
from stk.data.loader import Loader, one_pass
from stk.data.manifest import SkipList
from stk.data.stream import Stream
from stk.errors import StkError

AUGMENT = AugmentConfig(speed=(0.9, 1.0, 1.1), specaugment="ld")


def stream_of(path, toy, context, *, name="st", sound=True, skip_bad=None, **keys):
    keys = {"batch": BatchConfig(max_frames=500), "augment": AUGMENT, **keys}
    config = StreamConfig(name=name, manifests=(str(path),), objective={"name": "toy"}, **keys)
    return Stream(config, toy(sound), context, skip_bad=skip_bad)


def same(a, b):
    assert a.stream == b.stream and a.batch.ids == b.batch.ids
    assert (a.info.micro_step, a.info.epoch, a.info.step) == (
        b.info.micro_step,
        b.info.epoch,
        b.info.step,
    )
    assert torch.equal(a.batch.noise, b.batch.noise)
    if a.batch.source is not None:
        assert torch.equal(a.batch.source.data, b.batch.source.data)


@pytest.fixture
def streams(corpus, toy, context):
    first = stream_of(corpus(), toy, context, weight=2.0)
    second = stream_of(corpus(10, "b.jsonl", 1), toy, context, name="mt", sound=False)
    return [first, second]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(streams, workers):
    here = Loader(streams, MixingConfig(), seed=3)
    there = Loader(streams, MixingConfig(), seed=3, workers=workers)
    for a, b in islice(zip(here, there, strict=True), 16):
        same(a, b)


def test_resume_from_any_micro_step_reads_nothing_before_it(streams, monkeypatch):
    whole = list(islice(Loader(streams, MixingConfig(), seed=3), 20))
    loaded = []
    load = Stream.load
    monkeypatch.setattr(
        Stream, "load", lambda self, rows, **keys: loaded.append(1) or load(self, rows, **keys)
    )
    for start in (1, 7, 19):
        loaded.clear()
        resumed = Loader(streams, MixingConfig(), seed=3, start_step=start)
        for expected, found in zip(whole[start:], resumed, strict=False):
            same(expected, found)
        assert len(loaded) <= 20 - start + 1
        assert resumed.state["micro_step"] > start


def test_global_generators_are_left_alone(streams):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(islice(Loader(streams, MixingConfig(), seed=3, workers=1), 3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_seeds_and_epochs_differ(corpus, toy, context):
    stream = stream_of(corpus(), toy, context)
    plan = stream.plan(1)
    assert [b.tolist() for b in plan.epoch(0).batches] != [
        b.tolist() for b in plan.epoch(1).batches
    ]
    item = [stream.item(0, seed=s, epoch=e).rng.random() for s, e in ((1, 0), (1, 1), (2, 0))]
    assert len(set(item)) == 3


def test_ranks_share_streams_and_cover_an_epoch(corpus, toy, context):
    stream = stream_of(corpus(), toy, context)
    batches = len(stream.plan(5).epoch(0).batches)
    seen = []
    loaders = [Loader([stream], MixingConfig(), seed=5, rank=r, world=3) for r in range(3)]
    for step in islice(zip(*loaders, strict=True), -(-batches // 3)):
        assert len({micro.stream for micro in step}) == 1
        assert all(micro.info.epoch == 0 for micro in step)
        seen += [i for micro in step for i in micro.batch.ids]
    assert set(seen) == {f"u{i}" for i in range(24)}
    first = len(stream.plan(5).epoch(0).batches[0])
    assert len(seen) - 24 <= 2 * max(first, 24)
    assert next(iter(loaders[0])).info.epoch == 1
    assert loaders[0].epochs() == {"st": 1}


def test_padded_frames_never_pass_the_cap_at_any_speed(corpus, toy, context):
    stream = stream_of(corpus(40), toy, context, batch=BatchConfig(max_frames=400))
    for micro in islice(Loader([stream], MixingConfig(), seed=1), 60):
        batch, frames, _ = micro.batch.source.data.shape
        assert batch * frames <= 400
    worst = Loader([stream], MixingConfig(), seed=1).worst_batches()
    areas = [m.batch.source.data.shape[0] * m.batch.source.data.shape[1] for m in worst]
    assert 250 < max(areas) <= 400
    longest = max(stream.costs.frames)
    assert worst[0].batch.source.data.shape[1] >= longest


def test_one_pass_sees_every_row_once_whatever_the_ranks(corpus, toy, context):
    import dataclasses

    context = dataclasses.replace(context, training=False)
    stream = stream_of(corpus(), toy, context)
    assert stream.context.augment is None and stream.speeds == ()
    for world in (1, 2, 5):
        ids = [
            i
            for rank in range(world)
            for micro in one_pass(stream, rank=rank, world=world)
            for i in micro.batch.ids
        ]
        assert sorted(ids) == sorted(f"u{i}" for i in range(24))
    first, second = (list(one_pass(stream, workers=w)) for w in (0, 2))
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        same(a, b)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_clip_is_an_error_with_its_row(corpus, toy, context, workers):
    path = corpus()
    stream = stream_of(path, toy, context)
    broken = stream.example(4)
    broken.audio.write_bytes(b"not sound")
    with pytest.raises(StkError, match="not a readable sound file") as caught:
        for _ in islice(Loader([stream], MixingConfig(), seed=1, workers=workers), 20):
            pass
    assert (caught.value.file, caught.value.row) == (path, broken.row)
    assert str(broken.audio) in str(caught.value)


def test_skip_bad_leaves_out_counts_once_and_replaces_empty_batches(corpus, toy, context, tmp_path):
    skipped = SkipList(tmp_path / "skipped.txt")
    stream = stream_of(corpus(), toy, context, skip_bad=skipped, batch=BatchConfig(max_examples=1))
    for row in (0, 1):
        stream.example(row).audio.unlink()
    seen = set()
    for micro in islice(Loader([stream], MixingConfig(), seed=1, workers=1), 50):
        assert len(micro.batch.ids) == micro.info.examples == 1
        seen.update(micro.batch.ids)
    assert len(seen) == 22
    assert len(skipped) == 2
    skipped.write()
    assert "no such sound file" in (tmp_path / "skipped.txt").read_text().splitlines()[0]


def test_nothing_readable_is_an_error(corpus, toy, context):
    stream = stream_of(corpus(4), toy, context, skip_bad=SkipList())
    for row in range(4):
        stream.example(row).audio.unlink()
    with pytest.raises(StkError, match="can be read"):
        next(iter(Loader([stream], MixingConfig(), seed=1)))


def test_report_counts_what_is_left_out(tmp_path, corpus, toy, context):
    path = corpus(12)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["tgt_text"] = "abcdefgh" * 40  # longer than its frames
    rows[1]["duration"] = 0.04
    rows[2]["tgt_text"] = "a" * 1100
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = stream_of(path, toy, context).report()
    assert report.kept == 9
    assert report.dropped == {
        "too few frames for CTC": 1,
        "shorter than min_frames 5": 1,
        "more than max_tokens 1024": 1,
    }
    assert len(report.rows) == 3 and report.rows[0].startswith(f"{path}:1: u0: too few frames")
    assert 0 <= report.padding < 0.5 and report.hours > 0
    assert report.lines()[0].startswith("st: 9 examples")


def test_ctc_refusal_holds_at_the_fastest_speed(corpus, toy, context):
    path = corpus(1)
    row = json.loads(path.read_text())
    frames = context.frontend.frames(row["duration"])
    row["tgt_text"] = ("ab" * frames)[: frames - 1]
    path.write_text(json.dumps(row) + "\n")
    plain = stream_of(path, toy, context, augment=AugmentConfig())
    assert len(plain) == 1
    with pytest.raises(StkError, match="no example is left.*too few frames"):
        stream_of(path, toy, context)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "x", "tgt_text": "a"}, "lacks audio"),
        ({"id": "x", "tgt_text": "a", "tgt_lang": "es", "audio": "GOOD"}, "no tag 'es'"),
        ({"id": "x", "tgt_text": "a", "tgt_lang": "de", "audio": "none.wav"}, "no such sound"),
        ({"id": "x", "tgt_text": "a", "audio": "GOOD", "start": 99.0}, "outside the file"),
    ],
)
def test_bad_rows_are_refused_or_skipped(tmp_path, corpus, toy, context, row, message):
    path = corpus(4)
    good = json.loads(path.read_text().splitlines()[0])["audio"]
    if row.get("audio") == "GOOD":
        row = {**row, "audio": good}
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    with pytest.raises(StkError, match=message) as caught:
        stream_of(path, toy, context)
    assert (caught.value.file, caught.value.row) == (path, 5)
    skipped = SkipList()
    assert len(stream_of(path, toy, context, skip_bad=skipped)) == 4
    assert len(skipped) == 1


def test_durations_are_measured_where_the_manifest_has_none(corpus, toy, context):
    path = corpus(3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    durations = [row.pop("duration") for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stream = stream_of(path, toy, context)
    assert [stream.example(i).duration for i in range(3)] == pytest.approx(durations)


def test_group_by_and_unknown_key(corpus, toy, context):
    stream = stream_of(corpus(), toy, context, group_by=("tgt_lang", "fields"))
    for batch in stream.plan(1).epoch(0).batches:
        assert len({stream.example(int(row)).tgt_lang for row in batch}) == 1
    with pytest.raises(StkError, match="group_by knows no 'lang'"):
        stream_of(corpus(), toy, context, group_by=("lang",))


def test_waiting_is_measured(streams):
    loader = Loader(streams, MixingConfig(), seed=1)
    list(islice(loader, 3))
    assert loader.startup > 0 and loader.waited > 0
