"""The benchmark page shows what the CSVs hold and says what nobody measured."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

COLUMNS = (
    "op,case,name,device,threads,hardware,versions,commit,median_ms,p10_ms,p90_ms,ratio,peak_mb"
)


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "a.csv", tmp_path / "b.csv"
    about = "cpu,1,Some CPU,torch 2.11.0,abc1234"
    old.write_text(f"{COLUMNS}\nfbank,16 x 10 s,stk,{about},99,98,97,,6.5\n")
    new.write_text(
        f"{COLUMNS}\nfbank,16 x 10 s,stk,{about},12.3,12,13,,7.5\n"
        f"fbank,16 x 10 s,torchaudio,{about},61.5,60,64,5.00,24\n"
        f"mt_train,base,stk,{about},10,9,11,,1\nmt_train,base,Marian,{about},12,11,13,1.20,1\n"
    )
    rates = tmp_path / "rates.csv"
    harness = runpy.run_path(str(Path(__file__).with_name("harness.py")), run_name="__main__")
    machine = ("Some CPU", "torch 2.11.0", "abc1234")
    for op, numbers in (("WAV segments, fbank", (1700, 1600, 1800)), ("FLAC", (2700, 2600, 2800))):
        row = (op, "speech", *machine, *map(str, numbers))
        harness["append"](rates, harness["RATE_COLUMNS"], [row])
    output = tmp_path / "page.md"
    script = Path(__file__).with_name("table.py")
    monkeypatch.setattr(
        "sys.argv", ["table.py", "--output", str(output), *map(str, (old, new, rates))]
    )
    runpy.run_path(str(script), run_name="__main__")
    lines = output.read_text().splitlines()
    assert "| fbank | torchaudio | cpu | 2x | 16 x 10 s | 5.00x | 12.3 ms | 7.5 MB |" in lines
    short = [line for line in lines if line.startswith("* ")]
    assert len(short) == 1 and short[0].startswith("* mt_train, cpu: 1.20x, not 1.3x. Matrix")
    assert "| fbank | torchaudio | cuda | 10x |" + 4 * " not measured |" in lines
    assert "### Some CPU, torch 2.11.0, commit abc1234" in lines
    assert "| fbank | 16 x 10 s | stk | 1 | 12.3 | 12 to 13 | - | 7.5 |" in lines
    assert not any(" 99 " in line for line in lines)
    where = "Some CPU, torch 2.11.0, commit abc1234"
    measured = f"1,500x | 1700x | 1600x to 1800x | {where}"
    assert f"| WAV segments, fbank | speech | {measured} |" in lines
    assert f"| FLAC | speech | - | 2700x | 2600x to 2800x | {where} |" in lines
    assert "| FLAC, fbank | not measured | 1,000x |" + 3 * " not measured |" in lines
