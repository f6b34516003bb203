"""The small corpora that the recipes are proved on have the real ones' layout."""

from __future__ import annotations

from pathlib import Path

import corpora
import soundfile
import yaml


def test_must_c(tmp_path: Path) -> None:
    faults = corpora.write_must_c(tmp_path, ["de", "es"], version=2)
    assert len(faults) == 10 and {fault[2] for fault in faults} == {
        "beyond the end",
        "missing sound",
        "empty line",
        "Windows line end",
        "space in a name",
    }
    for lang in ("de", "es"):
        for name, (count, talks) in corpora.MUST_C_SETS.items():
            folder = tmp_path / f"en-{lang}" / "data" / name
            rows = yaml.safe_load((folder / "txt" / f"{name}.yaml").read_text())
            assert len(rows) == count + 3 * (name == "train")
            assert set(rows[0]) == {"duration", "offset", "speaker_id", "wav"}
            assert len(list((folder / "wav").iterdir())) == talks
            for row in rows[:count]:
                info = soundfile.info(folder / "wav" / row["wav"])
                assert row["offset"] + row["duration"] <= info.duration + 1e-4
            for side in ("en", lang):
                lines = (folder / "txt" / f"{name}.{side}").read_bytes().split(b"\n")
                assert len(lines) == len(rows) + 1


def test_covost2(tmp_path: Path) -> None:
    faults = corpora.write_covost2(tmp_path, ["en_de", "fr_en"])
    assert len(faults) == 12
    table = (tmp_path / "covost2/covost_v2.fr_en.tsv").read_text().splitlines()
    assert table[0].split("\t") == ["path", "translation", "split"]
    validated = (tmp_path / "cv/fr/validated.tsv").read_text().splitlines()
    assert validated[0].split("\t")[:3] == ["client_id", "path", "sentence"]
    clips = sorted((tmp_path / "cv/fr/clips").glob("*.mp3"))
    assert len(clips) == sum(corpora.COVOST_SETS.values()) + 2
    assert soundfile.info(clips[0]).format == "MP3"
