"""Reading sound: formats, rates, channels, segments, and everything broken."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from stk.data.audio import audio_duration, audio_info, check_segment, load_audio
from stk.errors import StkError

FORMATS = ("wav", "flac", "ogg", "aiff", "mp3")


def tone(path, seconds=1.0, rate=16000, hertz=440.0, channels=1, **keys):
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * hertz * t)
    soundfile.write(path, np.stack([wave] * channels, 1), rate, **keys)
    return path


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_and_rate_gives_the_same_tone(tmp_path, form, rate):
    path = tone(tmp_path / f"x.{form}", rate=rate, channels=2)
    samples = load_audio(path)
    assert samples.dtype == torch.float32 and samples.shape == (16000,)
    middle = samples[2000:14000].numpy()
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * 16000 / len(middle) == pytest.approx(440, abs=2)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert audio_duration(path) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("form", ["wav", "flac", "aiff"])
def test_a_segment_is_the_slice_of_the_whole(clip, form):
    path = clip(f"x.{form}", 3.0)
    whole = load_audio(path)
    assert torch.equal(load_audio(path, 1.25, 0.5), whole[20000:28000])
    assert torch.equal(load_audio(path, 2.5), whole[40000:])
    assert len(load_audio(path, 2.5, 0.505)) == 8000  # within the tolerance: the file's end


@pytest.mark.parametrize("form", ["ogg", "mp3"])
def test_a_segment_of_a_lossy_file(clip, form):
    path = clip(f"x.{form}", 3.0)
    whole, part = load_audio(path), load_audio(path, 1.25, 0.5)
    assert len(part) == 8000
    assert torch.corrcoef(torch.stack([part, whole[20000:28000]]))[0, 1] > 0.98


def test_only_the_segment_is_read(tmp_path, monkeypatch):
    path = tone(tmp_path / "long.flac", 120.0)
    asked = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, n, **k: asked.append(n) or read(self, n, **k)
    )
    assert len(load_audio(path, 100.0, 1.0)) == 16000
    assert asked == [16000]


def test_channels(tmp_path):
    left, right = np.zeros(1000), np.full(1000, 0.5)
    left[:10] = 0.25
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    read = {c: load_audio(tmp_path / "x.wav", channel=c) for c in ("mean", "loudest", "first")}
    assert read["first"][500] == 0 and read["loudest"][500] == 0.5 and read["mean"][500] == 0.25


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_files_are_errors(clip, form):
    path = clip(f"x.{form}", 3.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StkError, match="cut short|cannot be decoded") as caught:
        load_audio(path)
    assert caught.value.file == path and caught.value.mend


@pytest.mark.parametrize("form", FORMATS)
def test_corrupt_missing_empty_and_zero_length_files(tmp_path, form):
    path = tmp_path / f"x.{form}"
    for read in (load_audio, audio_info):
        path.unlink(missing_ok=True)
        with pytest.raises(StkError, match="no such sound file"):
            read(path)
        path.touch()
        with pytest.raises(StkError, match="0 bytes"):
            read(path)
        path.write_bytes(np.random.default_rng(0).bytes(5000))
        with pytest.raises(StkError):
            read(path)
        if form in ("wav", "aiff"):  # the others write no file without samples
            soundfile.write(path, np.zeros((0, 1)), 16000)
            with pytest.raises(StkError, match="holds no samples"):
                read(path)


def test_corruption_in_the_middle_of_a_flac_is_an_error(clip):
    path = clip("x.flac", 3.0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    path.write_bytes(data)
    with pytest.raises(StkError, match="cannot be decoded|cut short"):
        load_audio(path)


def test_samples_that_are_not_finite(tmp_path):
    samples = np.zeros(1000, dtype=np.float32)
    samples[7] = np.nan
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(StkError, match="not finite"):
        load_audio(tmp_path / "x.wav")


@pytest.mark.parametrize(("start", "duration"), [(1.0, None), (5.0, None), (0.5, 0.6), (0.0, 1.02)])
def test_segments_outside_the_file(clip, start, duration):
    path = clip("x.wav", 1.0)
    with pytest.raises(StkError, match="outside the file of 1.000 s"):
        load_audio(path, start, duration)
    with pytest.raises(StkError, match="outside the file"):
        check_segment(path, audio_info(path), start, duration)


def test_a_wav_written_to_a_pipe_has_no_length_and_is_read(clip):
    path = clip("x.wav", 1.0)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(load_audio(path)) == 16000
