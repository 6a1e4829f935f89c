"""Will a flight arrive more than 15 minutes late? Asked before departure, trained on real flights.

    everline run flight_delay:flight_delay --param train_to=2013-04-01 --param evaluate_to=2013-05-01

Only what is known before the aircraft leaves the gate may be used: the schedule, and the weather of the
scheduled hour. Departure delay, air time and everything after push-back would give the answer away.
Everything here is an ordinary function: call one in a test, and it runs as it stands.
"""

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

import everline as el
from everline.loader import load

CATEGORIES = ("carrier", "origin")
WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
NUMBERS = ("sched_hour", "sched_minute_of_day", "weekday", "scheduled_minutes", "distance", *WEATHER)
FEATURES = CATEGORIES + NUMBERS
TARGET = "late"
LATE_MINUTES = 15
CARD = {
    "intended_use": "Tell passengers and gate staff before departure how likely a flight from New York is late.",
    "out_of_scope_use": "Crew rostering, compensation claims, and flights from other airports.",
    "limitations": "Knows the schedule and weather at the origin only: no aircraft, no congestion, no weather at the "
    "destination. Trained on 2013; carriers differ in how often they fly late routes, which is not their doing alone.",
    "licence": "Apache-2.0",
    "owners": ["maya"],
}
"""What only people know about the model; the rest of its card is filled from the records."""
HELD_OUT_DAYS = 2
NEEDED = ("year", "month", "day", "sched_dep_time", "sched_arr_time", "arr_delay", "carrier", "flight", "origin",
          "dest", "distance", "hour", "minute", "time_hour")  # fmt: skip


@el.step
def validate(flights: el.Table, weather: el.Table) -> el.Table:
    """Refuse data that the model was not made for; return the flights that have an outcome."""
    missing = [name for name in NEEDED if name not in flights.column_names]
    if missing:
        raise ValueError(f"the flights lack the columns {', '.join(missing)}")
    for name in ("origin", "dest", "carrier", "time_hour", "distance"):
        if flights[name].null_count:
            raise ValueError(f"{flights[name].null_count} flights have no {name}")
    if pc.min(flights["distance"]).as_py() <= 0:
        raise ValueError("a distance is not positive")
    unknown = set(flights["origin"].unique().to_pylist()) - set(weather["origin"].unique().to_pylist())
    if unknown:
        raise ValueError(f"there is no weather for {', '.join(sorted(unknown))}")
    return flights.filter(pc.is_valid(flights["arr_delay"]))  # cancelled and diverted flights have no outcome


@el.step
def join(flights: el.Table, weather: el.Table) -> el.Table:
    """Put the weather at the origin beside each flight, and the schedule into numbers."""
    return joined(flights, weather)


@el.step
def split(table: el.Table, train_from: str, train_to: str, evaluate_to: str) -> tuple[el.Table, el.Table]:
    """Split by time, never at random: the past to learn from, what came after it to be judged by."""
    day = table["day"]
    start, middle, end = (date.fromisoformat(text) for text in (train_from, train_to, evaluate_to))
    past = table.filter(pc.and_(pc.greater_equal(day, start), pc.less(day, middle)))
    later = table.filter(pc.and_(pc.greater_equal(day, middle), pc.less(day, end)))
    if min(past.num_rows, later.num_rows) < 1000:
        raise ValueError(f"{past.num_rows} flights to train on and {later.num_rows} to evaluate on are too few")
    return past, later


@el.step
def train(table: el.Table, seed: int, max_iter: int) -> el.Model:
    """Fit gradient-boosted trees; unknown carriers and airports count as missing."""
    ensemble, compose = load("sklearn.ensemble"), load("sklearn.compose")  # late: cached runs never need them
    preprocessing, pipeline = load("sklearn.preprocessing"), load("sklearn.pipeline")
    codes = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    columns = compose.ColumnTransformer(
        [("codes", codes, list(CATEGORIES)), ("numbers", "passthrough", list(NUMBERS))],
        verbose_feature_names_out=False,
    )
    trees = ensemble.HistGradientBoostingClassifier(
        categorical_features=list(range(len(CATEGORIES))), max_iter=max_iter, learning_rate=0.05, max_leaf_nodes=15,
        min_samples_leaf=200, l2_regularization=10.0, early_stopping=False, random_state=seed,
    )  # fmt: skip
    model = pipeline.Pipeline([("columns", columns), ("trees", trees)])
    model.fit(table.select(FEATURES).to_pandas(), table[TARGET].to_numpy())
    return el.Model(
        estimator=model,
        features=FEATURES,
        target=TARGET,
        metadata={"seed": seed, "max_iter": max_iter, "rows": table.num_rows},
    )


@el.pipeline
def flight_delay(
    train_from: str = "2013-01-01",
    train_to: str = "2013-04-01",
    evaluate_to: str = "2013-05-01",
    seed: int = 7,
    max_iter: int = 80,
) -> el.Candidate:
    """Train on [train_from, train_to), evaluate on [train_to, evaluate_to), register the result.

    An empty `train_to` keeps the last two days for the evaluation: what a trigger asks for, which knows only
    up to when there are data.
    """
    train_to = train_to or str(date.fromisoformat(evaluate_to) - timedelta(days=HELD_OUT_DAYS))
    weather = el.dataset("weather")
    flights = validate(el.dataset("flights", version=months(train_from, evaluate_to)), weather)
    past, later = split(join(flights, weather), train_from, train_to, evaluate_to)
    model = train(past, seed=seed, max_iter=max_iter)
    evaluation = el.evaluate(model, later, slices=["carrier", "origin"])
    return el.candidate("flight-delay", model, evaluation, reference=past, nullable=WEATHER, card=CARD)


def months(start: str, end: str) -> list[str]:
    """The labels of the monthly versions that cover [start, end), such as "2013-01"."""
    day, last = date.fromisoformat(start), date.fromisoformat(end) - timedelta(days=1)
    return [f"{n // 12}-{n % 12 + 1:02d}" for n in range(day.year * 12 + day.month - 1, last.year * 12 + last.month)]


def joined(flights: pa.Table, weather: pa.Table) -> pa.Table:
    """The model's inputs, the outcome and the time of each flight, in the order of the schedule.

    Training and serving both call this function, so that they cannot differ.
    """
    minute = pc.add(pc.multiply(whole(flights["hour"]), 60), whole(flights["minute"]))
    arrival = whole(flights["sched_arr_time"])
    arrival_minute = pc.add(pc.multiply(pc.divide(arrival, 100), 60), remainder(arrival, 100))
    time_hour = flights["time_hour"].cast(pa.timestamp("us", "UTC"))
    scheduled = pc.add(time_hour, pc.multiply(whole(flights["minute"]), 60_000_000).cast(pa.duration("us")))
    day = pc.strptime(
        pc.binary_join_element_wise(*(flights[n].cast(pa.string()) for n in ("year", "month", "day")), "-"),
        format="%Y-%m-%d", unit="s",
    ).cast(pa.date32())  # fmt: skip
    table = pa.table(
        {
            "carrier": flights["carrier"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "sched_hour": whole(flights["hour"]),
            "sched_minute_of_day": minute,
            "weekday": pc.day_of_week(day),
            "scheduled_minutes": remainder(pc.add(pc.subtract(arrival_minute, minute), 1440), 1440),
            "distance": flights["distance"].cast(pa.float64()),
            "late": pc.greater(flights["arr_delay"], LATE_MINUTES),
            "scheduled": scheduled,
            "day": day,
            "flight": flights["flight"],
            "time_hour": time_hour,
        }
    )
    hourly = weather.select(["origin", "time_hour", *WEATHER]).cast(
        pa.schema(
            [table.schema.field("origin"), table.schema.field("time_hour"), *((n, pa.float64()) for n in WEATHER)]
        )
    )
    found = table.join(hourly, ["origin", "time_hour"], join_type="left outer", use_threads=False)
    order = [(name, "ascending") for name in ("scheduled", "carrier", "flight", "origin", "dest")]
    return found.sort_by(order).select([*FEATURES, TARGET, "scheduled", "day", "flight"])


def whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as 64-bit whole numbers, so that sums cannot overflow."""
    return column.cast(pa.int64())


def remainder(column: pa.ChunkedArray, by: int) -> pa.ChunkedArray:
    """What is left of each value after division; Arrow has no such function."""
    return pc.subtract(column, pc.multiply(pc.divide(column, by), by))
