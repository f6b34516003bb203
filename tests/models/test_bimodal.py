"""XSTNet and Chimera: one encoder for sound and text, tags, memory, who trains what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stk.config.run import FeatureConfig
from stk.data.batch import Item, Source
from stk.data.example import Example
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.models.bimodal import BimodalModel
from stk.models.chimera import Chimera
from stk.models.registry import build_model
from stk.models.wav2vec2 import Wav2Vec2
from stk.models.xstnet import XSTNet
from stk.modules.positions import sinusoids
from stk.objectives.base import CollateContext, Context
from stk.objectives.bimodal import Bimodal, memory_contrast
from stk.objectives.combine import combine
from stk.objectives.registry import build_objective

VOCAB = 31
WAVE: dict[str, Any] = {
    "layers": 1,
    "width": 16,
    "ffn": 24,
    "heads": 2,
    "convolutions": [[8, 10, 5], *[[8, 3, 2]] * 4, *[[12, 2, 2]] * 2],
    "position_kernel": 6,
    "position_groups": 4,
    "layer_drop": 0.0,
}
SMALL: dict[str, Any] = {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "width": 16,
    "ffn": 24,
    "heads": 2,
    "dropout": 0.0,
    "conv_channels": 12,
    "wave": WAVE,
}
SAMPLES = [9000, 4100, 400]


def tiny(name: str, dtype: torch.dtype = torch.float64, **keys: Any) -> BimodalModel:
    torch.manual_seed(1)
    slots = {"slots": 5} if name == "chimera" else {}
    model = build_model({"name": name, **SMALL, **slots, **keys}, {"tgt": VOCAB}, 1)
    assert isinstance(model, BimodalModel)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.to(dtype).eval()


def sound(dtype: torch.dtype = torch.float64) -> Source:
    torch.manual_seed(2)
    return Source(torch.randn(3, 9000, dtype=torch.float64).to(dtype), torch.tensor(SAMPLES))


def text() -> Source:
    torch.manual_seed(3)
    ids, lengths = torch.randint(5, VOCAB, (3, 7)), torch.tensor([7, 2, 4])
    return Source(ids * (torch.arange(7) < lengths[:, None]), lengths)


@pytest.mark.parametrize("name", ["xstnet", "chimera"])
@pytest.mark.parametrize("kind", ["sound", "text"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["fp32", "fp64"]
)
def test_batch_equals_single(name: str, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    model, source = tiny(name, dtype), sound(dtype) if kind == "sound" else text()
    data = source.data.clone()
    if kind == "sound":
        for row, length in enumerate(SAMPLES):
            data[row, length:] = torch.nan
    tokens, counts = torch.randint(2, VOCAB, (3, 4)), torch.tensor([4, 4, 4])
    with torch.no_grad():
        encoded = model.encode(Source(data, source.lengths))
        logits = model.decode(encoded, tokens, counts).logits
        for row, length in enumerate(source.lengths.tolist()):
            single = model.encode(
                Source(source.data[row : row + 1, :length], source.lengths[row : row + 1])
            )
            assert single.lengths[0] == encoded.lengths[row]
            close = {"rtol": tolerance, "atol": tolerance}
            states = encoded.states[row, : single.lengths[0]]
            torch.testing.assert_close(states, single.states[0], **close)
            alone = model.decode(single, tokens[row : row + 1], counts[:1]).logits
            torch.testing.assert_close(logits[row], alone[0], **close)


def test_presets() -> None:
    with torch.device("meta"):
        for name in ("xstnet", "chimera"):
            model = build_model({"name": name, "preset": "base"}, {"tgt": 10000}, 1)
            assert isinstance(model, BimodalModel)
            assert model.encoder.wave.shape.layers == 12 and model.config.width == 512
            assert len(model.encoder.stack.layers) == len(model.decoder.layers) == 6
            build_model({"name": name, "preset": "tiny"}, {"tgt": 100}, 1)
    assert isinstance(model, Chimera)
    assert model.memory.queries.shape == (64, 512) and len(model.memory.layers) == 3


def test_xstnet_shortens_speech_four_times_and_puts_its_tag_in_front() -> None:
    model = tiny("xstnet")
    assert isinstance(model, XSTNet)
    source = sound()
    encoded = model.encode(source)
    frames = model.wave_lengths(source.lengths)
    quarter = ((frames + 1) // 2 + 1) // 2
    assert torch.equal(encoded.lengths, quarter + 1)
    entered, _ = model.encoder.hear(source.data, source.lengths)
    first = sinusoids(1, 16)[0].double()
    torch.testing.assert_close(entered[0, 0], model.encoder.audio_tag * 4 + first)
    states, _ = model.encoder.wave(source.data, source.lengths)
    frame = model.encoder.subsampler(states, frames)[0][0, 0] * 4
    torch.testing.assert_close(entered[0, 1], frame + first)  # it stands at position 0 too


@pytest.mark.parametrize("name", ["xstnet", "chimera"])
def test_sound_and_text_share_encoder_and_table(name: str) -> None:
    model = tiny(name)
    assert model.encoder.embedding is model.decoder.embedding
    runs: list[str] = []
    model.encoder.stack.register_forward_hook(lambda *_: runs.append("stack"))
    model.encoder.wave.register_forward_hook(lambda *_: runs.append("wave"))
    model.encode(sound())
    model.encode(text())
    assert runs == ["wave", "stack", "stack"]


@pytest.mark.parametrize("name", ["xstnet", "chimera"])
def test_only_speech_trains_the_wave_encoder(name: str) -> None:
    model = tiny(name)
    model.encode(text()).states.sum().backward()
    assert all(p.grad is None for p in model.encoder.wave.parameters())
    assert all(p.grad is not None for p in model.encoder.stack.parameters())
    model.zero_grad()
    model.encode(sound()).states.square().sum().backward()
    names = [n for n, p in model.encoder.wave.named_parameters() if p.grad is None]
    assert names == ["mask_vector"]
    assert all(p.grad is not None for p in model.encoder.stack.parameters())


def test_memory_has_one_size_and_never_sees_padding() -> None:
    model = tiny("chimera")
    for source in (sound(), text()):
        encoded = model.encode(source)
        assert encoded.states.shape == (3, 5, 16) and encoded.lengths.tolist() == [5] * 3
    longer = torch.cat([text().data, torch.zeros(3, 40, dtype=torch.int64)], 1)
    torch.testing.assert_close(
        model.encode(Source(longer, text().lengths)).states, model.encode(text()).states
    )
    assert isinstance(model, Chimera)
    assert float(model.memory.queries.detach().std(0).min()) > 0.1  # no slot is set apart or zero


def test_slots_do_not_see_each_other() -> None:
    model = tiny("chimera")
    assert isinstance(model, Chimera)
    before = model.encode(text()).states
    model.memory.queries.data[2] *= -1.0
    after = model.encode(text()).states
    others = [0, 1, 3, 4]
    torch.testing.assert_close(before[:, others], after[:, others])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_contrast_is_lowest_for_identical_memories_with_distinct_slots() -> None:
    eye = torch.eye(6).expand(2, 6, 6)
    lowest = memory_contrast(eye, eye, 0.1)
    assert float(lowest) == pytest.approx(12 * np.log1p(5 * np.exp(-10.0)), rel=1e-3)
    torch.manual_seed(0)
    for other in (eye.flip(1), torch.ones(2, 6, 6), torch.randn(2, 6, 6)):
        assert memory_contrast(eye, other, 0.1) > lowest
    same = torch.ones(2, 6, 6)
    assert float(memory_contrast(same, same, 0.1)) == pytest.approx(12 * np.log(6.0), rel=1e-5)
    # within a sentence alone: what another sentence holds does not matter
    mixed = torch.cat([eye[:1], torch.randn(1, 6, 6)])
    own = memory_contrast(eye[:1], eye[:1], 0.1) + memory_contrast(mixed[1:], eye[1:], 0.1)
    torch.testing.assert_close(memory_contrast(mixed, eye, 0.1), own)


@pytest.fixture
def vocab() -> CharVocab:
    return CharVocab("abcdehinruswz ", ("en", "de"))


@pytest.fixture
def context(vocab: CharVocab) -> CollateContext:
    frontend = FrontEnd(FeatureConfig(kind="waveform", cmvn="none"))
    return CollateContext(vocabs={"tgt": vocab}, frontend=frontend)


@pytest.fixture
def items() -> list[Item]:
    made = []
    for i, (source, target) in enumerate((("a hen", "eine henne"), ("wires", "drei"))):
        torch.manual_seed(i)
        example = Example(
            id=str(i), audio=Path("x.wav"), duration=0.3, src_text=source, src_lang="en",
            tgt_text=target, tgt_lang="de", file=Path("m.jsonl"), row=i + 1,
        )  # fmt: skip
        waveform = torch.randn(4800 + 1000 * i) * 0.1
        made.append(Item(example=example, rng=np.random.default_rng(i), waveform=waveform))
    return made


TASKS: dict[str, dict[str, Any]] = {
    "st": {"source": "audio", "prefix": "tgt_lang"},
    "asr": {"source": "audio", "prefix": "src_lang", "target": "src_text"},
    "mt": {"source": "src_text", "source_prefix": "src_lang", "prefix": "tgt_lang"},
}


def test_the_target_tag_alone_switches_the_task(
    context: CollateContext, items: list[Item], vocab: CharVocab
) -> None:
    batches = {}
    for name, keys in TASKS.items():
        made = build_objective({"name": "cross_entropy", "source_view": "tgt", **keys})
        batches[name] = made.collate(items, context)
    st, asr, mt = (batches[name] for name in ("st", "asr", "mt"))
    assert torch.equal(st.source.data, asr.source.data)
    assert st.target.inputs.data[:, :2].tolist() == [[vocab.bos, vocab.tag("de")]] * 2
    assert asr.target.inputs.data[:, :2].tolist() == [[vocab.bos, vocab.tag("en")]] * 2
    assert mt.source.is_text and mt.source.data[:, 0].tolist() == [vocab.tag("en")] * 2
    assert vocab.tag("de") not in st.target.labels.tolist()  # it is forced, not learnt
    model = tiny("xstnet", torch.float32)
    encoded = model.encode(st.source)
    de, en = (
        model.decode(encoded, torch.tensor([[vocab.bos, vocab.tag(tag)]] * 2), torch.tensor([2, 2]))
        for tag in ("de", "en")
    )
    assert not torch.allclose(de.logits[:, 1], en.logits[:, 1])


def test_three_tasks_of_xstnet_are_learnt_by_heart(
    context: CollateContext, items: list[Item]
) -> None:
    torch.manual_seed(0)
    keys = {**SMALL, "width": 32, "ffn": 64, "wave": {**WAVE, "dropout": 0.0, "input_dropout": 0.0}}
    model = build_model({"name": "xstnet", **keys}, {"tgt": len(context.vocabs["tgt"])}, 1)
    tasks = []
    for task in TASKS.values():
        made = build_objective(
            {"name": "cross_entropy", "source_view": "tgt", "smoothing": 0.0, **task}
        )
        tasks.append((made, made.collate(items, context)))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(120):
        optimizer.zero_grad()
        losses = [
            combine(made.forward(model, batch, Context(step=step)), made.counts(batch))
            for made, batch in tasks
        ]
        torch.stack(losses).sum().backward()
        optimizer.step()
    assert max(float(loss.detach()) for loss in losses) < 0.1


def test_the_bimodal_objective(context: CollateContext, items: list[Item]) -> None:
    made = build_objective(
        {"name": "bimodal", "source_view": "tgt", "source_prefix": "src_lang", "prefix": "tgt_lang"}
    )
    assert isinstance(made, Bimodal)
    assert made.needs == {"audio", "src_text", "src_lang", "tgt_text", "tgt_lang"}
    batch = made.collate(items, context)
    size = made.size(items[0].example, context)
    assert size.frames == 30 and size.tokens == 12
    torch.manual_seed(0)
    model = build_model(
        {"name": "chimera", **SMALL, "slots": 5}, {"tgt": len(context.vocabs["tgt"])}, 1
    )
    sums = made.forward(model, batch, Context())
    assert {name: (s.per, s.weight) for name, s in sums.items()} == {
        "st": ("tokens", 1.0),
        "st_nll": ("tokens", 0.0),
        "st_accuracy": ("tokens", 0.0),
        "mt": ("tokens", 1.0),
        "mt_nll": ("tokens", 0.0),
        "mt_accuracy": ("tokens", 0.0),
        "contrast": ("tokens", 1.0),
    }
    first = combine(sums, made.counts(batch))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = combine(made.forward(model, batch, Context()), made.counts(batch))
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * float(first.detach())
    unused = {n for n, p in model.named_parameters() if p.grad is None}
    assert unused == {"encoder.wave.mask_vector"}
    with pytest.raises(StkError, match="memory has one size .*chimera"):
        made.forward(tiny("xstnet", torch.float32), batch, Context())


def test_a_tag_missing_from_the_vocabulary(items: list[Item]) -> None:
    frontend = FrontEnd(FeatureConfig(kind="waveform", cmvn="none"))
    plain = CollateContext(vocabs={"tgt": CharVocab("abc", ("de",))}, frontend=frontend)
    made = build_objective({"name": "cross_entropy", "source_view": "tgt", **TASKS["mt"]})
    with pytest.raises(StkError, match="no tag 'en' .*make it with --tags"):
        made.size(items[0].example, plain)


def test_a_pre_trained_wave_encoder_fits_in() -> None:
    pretrained = build_model({"name": "wav2vec2", **WAVE, "codes": 4, "target_dim": 8}, {}, 1)
    assert isinstance(pretrained, Wav2Vec2)
    for name in ("xstnet", "chimera"):
        model = tiny(name, torch.float32)
        model.encoder.wave.load_state_dict(pretrained.encoder.state_dict())


def test_what_is_refused() -> None:
    with pytest.raises(StkError, match="xstnet reads samples"):
        build_model({"name": "xstnet", **SMALL}, {"tgt": VOCAB}, 80)
    with pytest.raises(StkError, match="no CTC head"):
        tiny("chimera", ctc_layer=1)
    with pytest.raises(ValueError, match="not frames"):
        tiny("xstnet").encode(Source(torch.randn(1, 9, 80), torch.tensor([9])))
    with pytest.raises(StkError, match="receptive field"):
        tiny("chimera").encode(Source(torch.randn(1, 399).double(), torch.tensor([399])))
