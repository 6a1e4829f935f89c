"""Why a model answered as it did: what each input contributed, by SHAP's definitions."""
