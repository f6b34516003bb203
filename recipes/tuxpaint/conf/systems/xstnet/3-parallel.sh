# Text of another kind with its translation: the catalogues of LibreOffice, short ones, without any
# sentence that development or test speak.
python local/catalogues.py --packages downloads/libreoffice --data "$WORK/data" --out "$OUT/train.jsonl"
