"""The pipeline as ONNX, as its converter's documentation has it: a float32 or text input per column.

python convert.py MODEL.joblib TEXT_COLUMNS ALL_COLUMNS OUT.onnx
"""

import json
import sys
from pathlib import Path

import joblib
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

model, texts, names, out = sys.argv[1:]
texts = set(json.loads(texts))
inputs = [
    (name, StringTensorType([None, 1]) if name in texts else FloatTensorType([None, 1])) for name in json.loads(names)
]
converted = convert_sklearn(joblib.load(model), initial_types=inputs, options={"zipmap": False})
Path(out).write_bytes(converted.SerializeToString())
