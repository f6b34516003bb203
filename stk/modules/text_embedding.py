"""What text enters a stack as: tokens, positions and languages, at will normalised."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from stk.modules.embedding import TokenEmbedding
from stk.modules.norm import LayerNorm
from stk.modules.positions import positions


@dataclass(frozen=True, kw_only=True)
class EmbeddingShape:
    """How the embedding of a stack is made.

    Attributes:
        positions: ``sinusoidal``, ``sinusoidal_exact`` or ``learned``.
        max_positions: bound of learned positions.
        languages: size of the table of language embeddings (0: none), added to every token
            (Conneau and Lample, 2019).
        scaled: whether token vectors are multiplied by ``sqrt(width)``.
        normalize: whether the sum is normalised (BERT, XLM, BART).
    """

    positions: str = "sinusoidal"
    max_positions: int = 1024
    languages: int = 0
    scaled: bool = True
    normalize: bool = False


class TextEmbedding(nn.Module):
    """Base of modules that read tokens; it adds ``embedding``, ``positions`` and, where the shape
    has them, ``languages`` and ``embedding_norm`` to their parameters.

    Args:
        size: of the vocabulary.
        width: of a vector.
        shape: how the embedding is made.
    """

    def __init__(self, size: int, width: int, shape: EmbeddingShape) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(size, width, scaled=shape.scaled)
        self.positions = positions(shape.positions, width, shape.max_positions)
        self.languages: nn.Embedding | None = None
        if shape.languages:
            self.languages = nn.Embedding(shape.languages, width)
            nn.init.normal_(self.languages.weight, std=width**-0.5)
        self.embedding_norm = LayerNorm(width) if shape.normalize else None

    def embed(
        self,
        tokens: Tensor,
        *,
        start: int = 0,
        repeat: bool = False,
        places: Tensor | None = None,
        languages: Tensor | None = None,
    ) -> Tensor:
        """Vectors ``(B, T, D)`` of ``tokens (B, T)`` int64, without dropout.

        Args:
            tokens: ids.
            start: position of the first token.
            repeat: all tokens of a row stand at ``start`` (hypotheses of a search).
            places: ``(B, T)`` int64, where every token stands; None: one after another.
            languages: ``(B, T)`` or ``(B,)`` int64 rows of the table of languages; read only by
                a module that has one, which requires it.

        Raises:
            ValueError: the module has language embeddings, and no languages are given.
        """
        x = self.embedding(tokens)
        if places is not None:
            x = x + self.positions.at(places).to(x.dtype)
        else:
            x = x + self.positions(1 if repeat else tokens.shape[1], start).to(x.dtype)
        if self.languages is not None:
            if languages is None:
                raise ValueError(
                    "the model has language embeddings; set languages: true in the objective"
                )
            added = self.languages(languages)
            x = x + (added if languages.dim() == 2 else added[:, None]).to(x.dtype)
        return x if self.embedding_norm is None else self.embedding_norm(x)
