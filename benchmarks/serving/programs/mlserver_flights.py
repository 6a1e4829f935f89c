"""MLServer's own way for code of one's own: a custom runtime; its scikit-learn runtime takes no mixed columns."""

import os

import joblib
import pandas as pd
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceResponse


class Flights(MLModel):
    async def load(self):
        self.model = joblib.load(os.environ["BENCH_MODEL"])
        return True

    async def predict(self, payload):
        frame: pd.DataFrame = PandasCodec.decode_request(payload)
        said = self.model.predict_proba(frame)[:, 1]
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("probability", said.reshape(-1, 1))]
        )
