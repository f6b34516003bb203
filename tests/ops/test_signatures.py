"""The operators' public signatures, which other projects rely on."""

from __future__ import annotations

import inspect

import pytest

from stk import ops

SIGNATURES = {
    "fbank": "waveforms, lengths, *, sample_rate=16000, num_mel_bins=80, frame_length=25.0, "
    "frame_shift=10.0, window='povey', preemphasis=0.97, remove_dc_offset=True, low_freq=20.0, "
    "high_freq=0.0, use_power=True, snip_edges=True, dither=0.0, scale=32768.0, cmvn=None, "
    "seed=None, offset=None",
    "ctc_shrink": "states, scores_or_labels, lengths, *, blank=0, reduce='mean', blanks='drop'",
    "gumbel_vq": "logits, codebook, *, tau, training=True, seed=None, offset=None",
    "gumbel_vq_linear": "hidden, weight, bias, codebook, *, tau, training=True, seed=None, "
    "offset=None",
    "attention": "query, key, value, visible=None, *, query_lengths=None, scale=None, "
    "dropout_p=0.0, seed=None, offset=None",
}
OUTPUTS = {
    "FbankOutput": ("features", "lengths"),
    "CtcShrinkOutput": ("states", "lengths", "segments"),
    "GumbelVQOutput": ("vectors", "codes", "mean_probs", "code_counts"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_names_order_and_defaults(name: str) -> None:
    found = inspect.signature(getattr(ops, name))
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in found.parameters.values()
    ]
    wanted = f"({SIGNATURES[name]})"
    shown = found.replace(parameters=plain, return_annotation=inspect.Signature.empty)
    assert str(shown) == wanted


@pytest.mark.parametrize("name", OUTPUTS)
def test_fields_of_results(name: str) -> None:
    assert getattr(ops, name)._fields == OUTPUTS[name]
