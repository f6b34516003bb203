"""Makes the recipes' own modules importable, as run.sh does, and those that tests share."""

from __future__ import annotations

import sys
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
for part in ("common", "demo/local", "tuxpaint/local", "must_c/local", "covost2/local"):
    sys.path.append(str(RECIPES / part))
sys.path.append(str(Path(__file__).parent))
