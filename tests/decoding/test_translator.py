"""Translation with real (tiny, untrained) models through saved checkpoints."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import stk
from stk.config.run import BatchConfig
from stk.data.audio import load_audio
from stk.data.example import Example
from stk.data.manifest import SkipList
from stk.decoding.decode import plan
from stk.errors import StkError
from tests.decoding import tiny

SEARCH = {"beam": 3, "nbest": 2, "max_extra": 2, "min_length": 6}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("speech") / "checkpoint"
    return tiny.checkpoint(directory, ctc_layer=2, ctc_view="tgt")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        Example(
            id=f"clip{i}",
            audio=tiny.write_clip(folder / f"{i}.wav", 0.4 + 0.23 * (i * 5 % 7), seed=i),
            tgt_lang="de" if i % 3 else "fr",
        )
        for i in range(7)
    ]


def test_batching_and_order_never_change_a_translation(speech: Path, clips: list[Example]) -> None:
    one = stk.load(speech, device="cpu", batch={"max_examples": 1}, **SEARCH)
    expected = one.translate_examples(clips)
    assert len({translation.text for translation in expected}) > 3
    for bounds in ({"max_frames": 400}, {"max_examples": 3}, {"max_examples": 100}):
        for weight in (0.0, 0.4):
            options = {**SEARCH, "ctc_weight": weight}
            alone = stk.load(speech, device="cpu", batch={"max_examples": 1}, **options)
            together = stk.load(speech, device="cpu", batch=bounds, **options)
            for order in (clips, clips[::-1]):
                for a, b in zip(
                    alone.translate_examples(order), together.translate_examples(order), strict=True
                ):
                    assert (a.id, a.text) == (b.id, b.text)
                    assert [c.tokens for c in a.nbest] == [c.tokens for c in b.nbest]
                    assert a.score == pytest.approx(b.score, abs=1e-4)


def test_a_file_a_waveform_and_a_row_give_the_same(speech: Path, clips: list[Example]) -> None:
    translator = stk.load(speech, device="cpu", **SEARCH)
    path = clips[1].audio
    assert path is not None
    from_file = translator.translate(str(path), target_lang="de")
    samples, rate = soundfile.read(path, dtype="float32")
    from_tensor = translator.translate(
        torch.from_numpy(samples), sample_rate=rate, target_lang="de"
    )
    stereo = np.stack([samples, samples])
    from_array = translator.translate(stereo, sample_rate=rate, target_lang="de")
    from_row = translator.translate_examples([clips[1]])[0]
    assert from_file.nbest == from_tensor.nbest == from_array.nbest == from_row.nbest
    assert str(from_file) == from_file.text == from_file.nbest[0].text
    for found in (from_file, from_tensor, from_row):
        assert found.audio_seconds == pytest.approx(len(samples) / rate)
        assert found.batch_seconds > 0 and found.batch_size == 1
    assert len(from_file.nbest) == 2


def test_the_target_language_is_the_prefix(speech: Path, clips: list[Example]) -> None:
    translator = stk.load(speech, device="cpu", **SEARCH)
    path = clips[3].audio
    assert path is not None
    texts = {lang: translator.translate(path, target_lang=lang).text for lang in ("de", "fr")}
    assert texts["de"] != texts["fr"]
    with pytest.raises(StkError, match="has no tgt_lang"):
        translator.translate(path)
    with pytest.raises(StkError, match="no tag 'es'"):
        translator.translate(path, target_lang="es")


def test_options_of_one_call_and_a_forced_prefix(speech: Path, clips: list[Example]) -> None:
    translator = stk.load(speech, device="cpu", **SEARCH)
    path = clips[4].audio
    assert path is not None
    free = translator.translate(path, target_lang="de", nbest=1)
    assert len(free.nbest) == 1
    forced = translator.translate(path, target_lang="de", prefix="jab")
    assert forced.text.startswith("jab") and not free.text.startswith("jab")
    with pytest.raises(StkError, match="unknown key 'decode.beams'.*nearest known key: beam"):
        translator.translate(path, target_lang="de", beams=3)
    with pytest.raises(StkError, match="nbest must lie between"):
        translator.translate(path, target_lang="de", nbest=9)


def test_ctc_alone(speech: Path, clips: list[Example]) -> None:
    translator = stk.load(speech, device="cpu", search="ctc")
    texts = [t.text for t in translator.translate_examples(clips)]
    assert len(set(texts)) > 3
    assert translator.translate(clips[0].audio or "").text == texts[0]
    with pytest.raises(StkError, match="cannot force a prefix"):
        translator.translate(clips[0].audio or "", prefix="a")


def test_an_ensemble_of_copies_is_one(speech: Path, clips: list[Example], tmp_path: Path) -> None:
    options = {**SEARCH, "ctc_weight": 0.3}
    one = stk.load(speech, device="cpu", **options).translate_examples(clips)
    three = stk.load(speech, speech, speech, device="cpu", **options).translate_examples(clips)
    assert [t.text for t in one] == [t.text for t in three]
    other = tiny.checkpoint(tmp_path / "other", seed=2, ctc_layer=2, ctc_view="tgt")
    pair = stk.load(speech, other, device="cpu", **options).translate_examples(clips)
    assert [t.text for t in pair] != [t.text for t in one]
    foreign = tiny.checkpoint(tmp_path / "foreign", letters="xyz")
    with pytest.raises(StkError, match="target vocabulary is not that of"):
        stk.load(speech, foreign, device="cpu")


def test_text_models(tmp_path: Path) -> None:
    directory = tiny.checkpoint(tmp_path / "text", kind="text")
    translator = stk.load(directory, device="cpu", **SEARCH)
    rows = [
        Example(id=str(i), src_text=text, tgt_lang="de")
        for i, text in enumerate(["abc", "j", "hgfedcba abc", "caj bad"])
    ]
    together = translator.translate_examples(rows)
    alone = [translator.translate(row.src_text or "", target_lang="de") for row in rows]
    assert [t.nbest[0].tokens for t in together] == [t.nbest[0].tokens for t in alone]
    assert len({t.text for t in together}) > 1
    assert together[0].audio_seconds is None
    with pytest.raises(StkError, match="translates text, not sound"):
        translator.translate(np.zeros(100, dtype=np.float32), sample_rate=16000)
    with pytest.raises(StkError, match="has no src_text"):
        translator.translate("  ", target_lang="de")
    with pytest.raises(StkError, match="no CTC head"):
        translator.translate("abc", target_lang="de", ctc_weight=0.5)


def test_tasks_by_stream_name(tmp_path: Path, clips: list[Example]) -> None:
    base = {"name": "cross_entropy", "source": "audio"}
    streams = [
        tiny.stream("st", {**base, "prefix": "tgt_lang"}),
        tiny.stream("asr", {**base, "prefix": "asr", "target": "src_text"}),
        tiny.stream("ctc", {"name": "ctc", "ctc_view": "tgt"}),
    ]
    directory = tiny.checkpoint(tmp_path / "multi", streams=streams)
    path = clips[2].audio
    assert path is not None
    asr = stk.load(directory, task="asr", device="cpu", **SEARCH).translate(path)
    st = stk.load(directory, task="st", device="cpu", **SEARCH)
    assert asr.text != st.translate(path, target_lang="de").text
    assert st.members[0].objective.config.prefix == "tgt_lang"
    with pytest.raises(StkError, match="no stream 'mt'.*st, asr, ctc"):
        stk.load(directory, task="mt", device="cpu")
    with pytest.raises(StkError, match="writes nothing with the decoder"):
        stk.load(directory, task="ctc", device="cpu")
    with pytest.raises(StkError, match="no CTC head"):
        stk.load(directory, task="ctc", search="ctc", device="cpu")


def test_joint_decoding_of_two_texts_is_refused(tmp_path: Path, clips: list[Example]) -> None:
    task = {"name": "joint", "ctc_text": "src_text", "ctc_view": "tgt"}
    directory = tiny.checkpoint(
        tmp_path / "joint", streams=[tiny.stream("st", task)], ctc_layer=1, ctc_view="tgt"
    )
    translator = stk.load(directory, device="cpu", ctc_weight=0.3)
    with pytest.raises(StkError, match="CTC head writes src_text, its decoder tgt_text"):
        translator.translate(clips[0].audio or "")


def test_bad_input_is_one_line_or_a_counted_skip(
    speech: Path, clips: list[Example], tmp_path: Path
) -> None:
    translator = stk.load(speech, device="cpu", **SEARCH)
    empty, short, text = (tmp_path / name for name in ("empty.wav", "short.wav", "text.wav"))
    empty.touch()
    soundfile.write(short, np.zeros(100, dtype=np.float32), 16000)
    text.write_text("no sound at all")
    bad = {
        empty: "empty",
        short: "shorter than one frame",
        text: "not a readable sound file",
        tmp_path / "none.wav": "no such sound file",
    }
    for path, message in bad.items():
        with pytest.raises(StkError, match=message) as caught:
            translator.translate(path, target_lang="de")
        assert path.name in str(caught.value) and "\n" not in str(caught.value)
    rows = [
        Example(id=path.name, audio=path, tgt_lang="de", file=Path("m.jsonl"), row=i + 1)
        for i, path in enumerate(bad)
    ]
    skipped = SkipList(tmp_path / "skipped")
    foreign = dataclasses.replace(clips[2], tgt_lang="es", file=Path("m.jsonl"), row=5)
    mixed = [rows[0], clips[0], rows[1], rows[2], foreign, clips[1], rows[3]]
    found = translator.translate_examples(mixed, skip_bad=skipped)
    assert [t.id for t in found] == ["clip0", "clip1"]
    assert len(skipped) == 5
    assert all(str(error).startswith("m.jsonl:") for error in skipped.errors)
    for waveform in (np.zeros(0), np.array([np.nan] * 9000), np.zeros((2, 2, 2))):
        with pytest.raises(StkError, match="expected finite samples"):
            translator.translate(waveform, sample_rate=16000, target_lang="de")
    with pytest.raises(StkError, match="shorter than one frame"):
        translator.translate(np.zeros(50), sample_rate=16000, target_lang="de")
    with pytest.raises(StkError, match="needs its sample_rate"):
        translator.translate(np.zeros(50), target_lang="de")


def test_batches_keep_their_bounds_and_leave_nothing_out() -> None:
    from stk.data.batch import Size

    frames = [30, 500, 10, 250, 250, 90, 10]
    sizes = {i: Size(frames=n) for i, n in enumerate(frames)}
    batches = plan(sizes, BatchConfig(max_frames=300))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert batches[0] == [1]
    for batch in batches[1:]:
        assert len(batch) * max(frames[i] for i in batch) <= 300
    assert plan({}, BatchConfig(max_frames=300)) == []


def test_sound_is_read_batch_by_batch(
    speech: Path, clips: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counting(path: Path, *arguments: object) -> torch.Tensor:
        read.append(path)
        return load_audio(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("stk.data.items.load_audio", counting)
    translator = stk.load(speech, device="cpu", batch={"max_examples": 2}, **SEARCH)
    stream = translator.stream(clips)
    counts = []
    for _ in clips:
        next(stream)
        counts.append(len(read))
    assert counts == [2, 2, 4, 4, 6, 6, 7]


def test_segments_of_one_long_file(speech: Path, tmp_path: Path) -> None:
    path = tiny.write_clip(tmp_path / "long.wav", 3.0, seed=5)
    samples, _ = soundfile.read(path, dtype="float32")
    translator = stk.load(speech, device="cpu", **SEARCH)
    row = Example(id="part", audio=path, start=1.0, duration=0.8, tgt_lang="de")
    rest = dataclasses.replace(row, duration=None)
    part = translator.translate(samples[16000:28800], sample_rate=16000, target_lang="de")
    whole = translator.translate(samples[16000:], sample_rate=16000, target_lang="de")
    found = translator.translate_examples([row, rest])
    assert [t.nbest[0].tokens for t in found] == [t.nbest[0].tokens for t in (part, whole)]
    assert [t.score for t in found] == pytest.approx([part.score, whole.score], abs=1e-4)
    assert [t.audio_seconds for t in found] == pytest.approx([0.8, 2.0])


def test_a_device_that_is_not_there(speech: Path) -> None:
    with pytest.raises(StkError, match="device 'abacus' cannot be used"):
        stk.load(speech, device="abacus")
    with pytest.raises(StkError, match="device 'cuda:99' cannot be used"):
        stk.load(speech, device="cuda:99")


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    code = "import sys, stk; print('torch' in sys.modules); stk.load; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'translate'"):
        stk.translate  # noqa: B018


def test_a_text_longer_than_the_learned_positions_is_named(tmp_path: Path) -> None:
    directory = tiny.checkpoint(
        tmp_path / "text", kind="text", positions="learned", max_positions=12
    )
    translator = stk.load(directory, device="cpu", **{**SEARCH, "max_length": 10})
    texts = ("abc", "abcdefghija", "abcdefghijab")
    rows = [
        Example(id=text, src_text=text, tgt_lang="de", file=Path("m.jsonl"), row=i)
        for i, text in enumerate(texts, 1)
    ]
    assert len(translator.translate_examples(rows[:2])) == 2
    with pytest.raises(StkError, match=r"m\.jsonl:3: .* has 13 tokens, more than the model's 12"):
        translator.translate_examples(rows)
    skipped = SkipList()
    assert len(translator.translate_examples(rows, skip_bad=skipped)) == 2 and len(skipped) == 1
