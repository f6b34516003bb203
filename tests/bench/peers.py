"""Hugging Face models of the same size as stk's, which the benches compare with."""

from __future__ import annotations

from typing import Any


def speech2text(vocab: int, mels: int, **settings: Any) -> Any:
    """Speech2Text with the layers and widths of the ``xs`` speech Transformer, random weights.

    Args:
        vocab: number of tokens; 2 begins, 3 ends a sentence.
        mels: features of a frame.
        settings: further keys of ``Speech2TextConfig``.
    """
    from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

    config = Speech2TextConfig(
        vocab_size=vocab,
        encoder_layers=6,
        decoder_layers=3,
        d_model=256,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        conv_channels=1024,
        input_feat_per_channel=mels,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=2,
        **settings,
    )
    return Speech2TextForConditionalGeneration(config)


MT_VOCAB = 32000
"""Tokens of the translation models that are compared."""


def marian(**settings: Any) -> Any:
    """Marian with the layers and widths of the base text Transformer, random weights.

    Args:
        settings: further keys of ``MarianConfig``.
    """
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=MT_VOCAB,
        encoder_layers=6,
        decoder_layers=6,
        d_model=512,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        activation_function="relu",
        scale_embedding=True,
        pad_token_id=0,
        eos_token_id=3,
        forced_eos_token_id=3,
        decoder_start_token_id=2,
        **settings,
    )
    return MarianMTModel(config)


def wav2vec2() -> Any:
    """Wav2Vec2ForPreTraining of BASE with the dropout of its pre-training, without layer drop."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

    config = Wav2Vec2Config(
        hidden_dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        feat_proj_dropout=0.1,
        feat_quantizer_dropout=0.1,
        layerdrop=0.0,
        num_negatives=100,
        diversity_loss_weight=0.1,
        codevector_dim=256,
        proj_codevector_dim=256,
        mask_time_prob=0.65,
    )
    return Wav2Vec2ForPreTraining(config)
