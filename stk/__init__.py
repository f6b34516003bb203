"""stk: end-to-end speech translation, text NMT, their pre-training, and fused kernels.

``stk.load(DIR).translate("hello.wav")`` translates with a trained model
(:func:`stk.decoding.translator.load`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stk.decoding.translator import Translation, Translator, load

__all__ = ["Translation", "Translator", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import decoding only when it is asked for: ``import stk.ops`` needs torch alone."""
    if name in ("Translation", "Translator", "load"):
        from stk.decoding import translator

        return getattr(translator, name)
    raise AttributeError(f"module 'stk' has no attribute {name!r}")
