"""Where the two servers differ on purpose; every line says why. What is not here has to be the same."""

from __future__ import annotations

import re
from typing import NamedTuple

SEARCH = "(runs|experiments)/search "
UNREADABLE = "^400 INVALID_PARAMETER_VALUE: (Invalid value .* Hint: Value was of type|Missing value for required)"


class Known(NamedTuple):
    """A difference that is meant; patterns of the call and of both answers, and why."""

    call: str
    part: str
    theirs: str
    ours: str
    why: str


KNOWN: tuple[Known, ...] = (
    Known("runs/create ", "status", "^400 .*FOREIGN KEY", "^200 ", "no experiment means the default one, as it should"),
    Known("GET experiments/get .*content", "status", "^200 ", "^400 ", "the body of a GET is nobody's to read"),
    Known("log-inputs", "message", "^Invalid value {", "^Invalid value {", "fields keep the order that they came in"),
    Known("/server-info", "body", "SqlStore", "SqlStore", "what our server has"),
    Known(SEARCH + ".*run_id I?LIKE 'a%'", "body", "", "", "uids are random"),
    Known("", "status", "^500 ", "^400 ", "where MLflow's server breaks, ours says what is wrong"),
    Known("", "status", "^500 .*Internal Server Error", "^200 ", "null means absent, which breaks MLflow's server"),
    Known("", "status", "^(404|405) <!doctype", "^(501 NOT_IMPL|405 {)", "an error of MLflow's form, not a page"),
    Known("", "status", "^308 <!doctype", "^501 NOT_IMPLEMENTED", "an address has one spelling"),
    Known("", "kind", "text/html", "application/(problem.)?json", "an error in JSON, not a page"),
    Known("search-datasets ", "status", "^404 <!doctype", "^(200|400) ", "MLflow's path lacks a slash below /api/2.0"),
    Known("OPTIONS", "status", "^204 ", "^405 ", "pages of other origins may not call"),
    Known("/health", "kind", "text/plain", "application/json", "ours says more than OK"),
    Known("/version", "kind", "text/html", "text/plain", "a version is no page"),
    # What cannot be read.
    Known("runs/|metrics/|" + SEARCH, "status", "^200 ", UNREADABLE, "refused, where MLflow keeps what it could read"),
    Known(SEARCH, "message", "Invalid value 0 for parameter", "Invalid value .* Hint: Value", "what was sent is named"),
    Known("create ", "message", 'Invalid value ""', "Missing value|Value was of type", "the field is named"),
    Known(
        "content|create ", "message", "^(Missing value|Invalid experiment name)", "^The request body is not", "so it is"
    ),
    Known("get-history ", "status", "^200 ", "Invalid value 2147483648", "a page has a limit"),
    Known("log-(batch|inputs) ", "message", '^Invalid value ""', "^Missing value", "which field is missing"),
    Known("runId", "status", "^400 .*Missing value", "^(200|404) ", "either spelling of a field will do"),
    Known("run_uuid", "message", "Run with id= not", "Run with id=0", "the older spelling is read everywhere"),
    # Creation of experiments and runs.
    Known("create ", "message", "Error: \\(sqlite3", "already exists", "the SQL of a constraint is nobody's business"),
    Known(
        "experiments/update", "code", "UNIQUE constraint", "RESOURCE_ALREADY_EXISTS", "as experiments/create says it"
    ),
    Known("create ", "status", "^400 .*UNIQUE constraint", "^200 ", "of a tag that comes twice the last value counts"),
    Known("runs/create ", "status", "^200 ", "^400 .*(tags.0.)", "tags have the same rules at the start and later"),
    Known("runs/create .*x{30}", "body", "", "", "a tag is cut to its length at the start as well as later"),
    Known("create .*s3://b/xxx", "message", "Invalid artifact path length", "exceeds the maximum length", "no setting"),
    Known("http://example.com", "status", "^400 .*other than the tracking", "^200 ", "our server fetches from nowhere"),
    # Runs.
    Known("log-batch", "message", "Params were already logged", "Param with key='p'", "the parameter is named"),
    Known("log-model", "message", "missing mandatory fields", "missing mandatory fields", "a set has no order"),
    Known("x{37}.*spoilt|x{37}", "status", "maximum length of 36", "^200 ", "digests of our datasets are longer"),
    Known(
        "(get|search) .*(<run 2>|dataset.name)",
        "body",
        "'source': 's'",
        "'source': 'other'",
        "a run keeps the source that it named itself",
    ),
    # Search.
    Known(SEARCH, "message", "", "", "our parser says where a filter or order goes wrong; sets have no order"),
    Known(
        "experiments/search ", "status", "Invalid value 0 for parameter 'max_results'", "^200 ", "a default of 1,000"
    ),
    Known(SEARCH + ".*offset|" + SEARCH + ".*eyJ", "status", "^200 ", "^400 .*page token", "no page before the first"),
    Known(
        SEARCH + ".*order_by",
        "status",
        "^400 .*(could not be parsed|Invalid attribute key)",
        "^200 ",
        "blanks and aliases",
    ),
    Known(
        SEARCH + ".*order_by",
        "status",
        "^200 ",
        "^400 .*(duplicate fields|Could not be parsed)",
        "no metric without name",
    ),
    Known(
        SEARCH + ".*filter",
        "status",
        "^200 .*'names': \\[\\]",
        "^400 ",
        "a key without a name finds nothing, and says so",
    ),
    Known(
        SEARCH + ".*it(''|.{1,4}')s", "body", "'names': \\[\\]", "'names': \\['r5'\\]", "a quote is doubled, as in SQL"
    ),
    Known("experiments/search .*tags.'n'", "status", "^200 ", "^400 ", "quotes are for values"),
    # The registry.
    Known(
        "(registered-models|model-versions)/search .*(filter|order_by)",
        "message",
        "",
        "",
        "what is wrong is said, and how to write it",
    ),
    Known("registered-models/search .*creation_timestamp", "status", "^400 ", "^200 ", "both times sort"),
    Known(
        "registered-models/search .*name..? = 'x'",
        "status",
        "^400 ",
        "^200 ",
        "double quotes around a name, as for runs",
    ),
    Known(
        "registered-models/search ",
        "status",
        "^200 .*next_page_token",
        "^400 .*at least 1",
        "no page has nothing or less",
    ),
    Known(
        "registered-models/search ", "message", "Value was of type", "at least 1 and at most 1000", "the limit is named"
    ),
    Known(
        "registered-models/rename ", "message", "UNIQUE constraint", "already exists", "the SQL is nobody's business"
    ),
    Known(
        "model-versions/(update|get) ",
        "body",
        "'run_id': ''",
        "'description': ''",
        "a description that is taken away is empty",
    ),
    Known("version.: .9{20}", "status", "^500 ", "^404 ", "no version has such a number"),
    # Logged models and webhooks.
    Known(
        "logged-models|webhooks",
        "status",
        "^200 ",
        UNREADABLE + "|^400 .*(maximum length|at most 10000)",
        "refused, where MLflow keeps what it could read",
    ),
    Known(
        "PATCH logged-models|/params ",
        "status",
        "required parameter 'model_id'",
        "^200 ",
        "the address names the model already",
    ),
    Known("PATCH logged-models", "message", "^Missing value .*'status'", '^Invalid value "" .*status', "what was sent"),
    Known(
        "logged-models|runs/outputs|webhooks",
        "status",
        "^400 .*UNIQUE constraint",
        "^200 ",
        "what is said again is no fault: clients repeat calls whose answer they missed",
    ),
    Known(
        "logged-models|runs/outputs",
        "code",
        "UNIQUE constraint",
        "Changing param values|Duplicate parameter|(Missing|Invalid) value",
        "the SQL of a constraint is nobody's business",
    ),
    Known("DELETE .*/tags/of/team", "status", "^404 <!doctype", "^200 ", "a tag that could be set can be taken away"),
    Known("log-metric .*m-0000", "status", "FOREIGN KEY", "^404 ", "the logged model that is not there is named"),
    Known(
        "logged-models/search ",
        "message",
        "^(Invalid (filter|comparison|entity|order by)|`dataset_name`)",
        "^(Invalid|Missing value)",
        "what is wrong is said, and how to write it",
    ),
    Known("logged-models/search .*IN \\(\\)", "status", "^200 ", "^400 ", "a list without values finds nothing"),
    Known(
        "logged-models/search .*params..?.depth..? = '3'", "body", "{}", "", "double quotes around a name, as for runs"
    ),
    Known(
        'logged-models/search .*"dataset_name": "train"}]',
        "body",
        "",
        "",
        "without a digest a dataset has any, which MLflow's client means and its server never finds",
    ),
    Known("POST webhooks ", "message", "must be a non-empty list", "Missing value .*'events'", "the field is named"),
    Known("creation_time = 1.5", "status", "^400 ", "^200 ", "no time is between two milliseconds"),
)


def is_known(call: str, part: str, theirs: object, ours: object) -> bool:
    """Whether a difference is listed."""
    return any(
        item.part == part
        and re.search(item.call, call)
        and re.search(item.theirs, str(theirs), re.DOTALL | re.IGNORECASE)
        and re.search(item.ours, str(ours), re.DOTALL)
        for item in KNOWN
    )
