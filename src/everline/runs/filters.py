"""The search language of runs, experiments and models: text in, checked clauses out.

It is MLflow's: conditions joined by AND, written as in SQL, for example

    metrics.auc >= 0.7 AND params.`max depth` = '6' AND attributes.run_id IN ('a', 'b') AND tags.team IS NULL

This module knows no table. A `Grammar` says which entities, attributes and comparisons one kind of search
allows; `parse_filter` and `parse_order` refuse everything else, so that whoever builds SQL only sees
clauses that are whole, typed and allowed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from everline.errors import InvalidInputError

FILTER_CHARACTERS_MAX = 20_000
CLAUSES_MAX = 100
ORDERS_MAX = 32
LIST_ITEMS_MAX = 1_000
PATTERN_CHARACTERS_MAX = 8_000
"""Longest LIKE pattern: as long as the longest value, and far below what SQLite takes."""

_NUMERIC = frozenset({">", ">=", "!=", "=", "<", "<="})
_TEXT = frozenset({"!=", "=", "LIKE", "ILIKE"})
_LIST = frozenset({"IN", "NOT IN"})
_PATTERN = frozenset({"LIKE", "ILIKE"})
_PRESENCE = frozenset({"IS NULL", "IS NOT NULL"})

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<name>(?:`[^`]*`|"[^"]*"|[A-Za-z_]\w*)(?:\.(?:`[^`]*`|"[^"]*"|\w+))*)
  | (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<string>'(?:''|\\'|[^'])*')
  | (?P<operator><=|>=|!=|<>|==|=|<|>)
  | (?P<punctuation>[(),])
    """,
    re.VERBOSE,
)


class Clause(NamedTuple):
    """One condition.

    Attributes:
        entity: `metric`, `parameter`, `tag`, `attribute` or `dataset`.
        key: the metric's, parameter's or tag's name, or the attribute.
        comparator: upper case; one that the grammar allows for this entity and key.
        value: a number for metrics and numeric attributes, a tuple of texts for IN and NOT IN, None for
            IS NULL and IS NOT NULL, else a text.
    """

    entity: str
    key: str
    comparator: str
    value: float | int | str | tuple[str, ...] | None


class Order(NamedTuple):
    """One sort key."""

    entity: str
    key: str
    ascending: bool


class Grammar(NamedTuple):
    """What one kind of search allows.

    Attributes:
        entities: every accepted spelling of an entity, to the entity.
        text_attributes, numeric_attributes: attributes that a filter may name.
        order_attributes: attributes that an order may name.
        order_entities: entities that an order may name.
        aliases: other spellings of attributes, to the attribute.
        list_attributes: attributes that may stand before IN and NOT IN.
        presence: entities that may stand before IS NULL and IS NOT NULL.
        list_entities: entities that may stand before IN and NOT IN.
        bare_values: whether a text may stand without quotes.
    """

    entities: Mapping[str, str]
    text_attributes: frozenset[str]
    numeric_attributes: frozenset[str]
    order_attributes: frozenset[str]
    order_entities: frozenset[str] = frozenset({"attribute"})
    aliases: Mapping[str, str] = {}
    list_attributes: frozenset[str] = frozenset()
    presence: frozenset[str] = frozenset()
    list_entities: frozenset[str] = frozenset({"dataset"})
    bare_values: bool = False

    @property
    def attributes(self) -> frozenset[str]:
        """Every attribute that a filter may name, under its own or another spelling."""
        return self.text_attributes | self.numeric_attributes | frozenset(self.aliases)


_ATTRIBUTE = {"attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute"}
_TAG = {"tag": "tag", "tags": "tag"}

RUNS = Grammar(
    entities={
        "metric": "metric",
        "metrics": "metric",
        "parameter": "parameter",
        "parameters": "parameter",
        "param": "parameter",
        "params": "parameter",
        "dataset": "dataset",
        "datasets": "dataset",
        **_TAG,
        **_ATTRIBUTE,
    },
    text_attributes=frozenset({"artifact_uri", "run_id", "run_name", "status", "user_id"}),
    numeric_attributes=frozenset({"start_time", "end_time"}),
    order_attributes=frozenset({"artifact_uri", "run_id", "run_name", "status", "user_id", "start_time", "end_time"}),
    order_entities=frozenset({"attribute", "metric", "parameter", "tag"}),
    aliases={
        "created": "start_time",
        "Created": "start_time",
        "run name": "run_name",
        "Run name": "run_name",
        "Run Name": "run_name",
    },
    list_attributes=frozenset({"run_id"}),
    presence=frozenset({"tag", "parameter"}),
)
EXPERIMENTS = Grammar(
    entities={"attribute": "attribute", "attributes": "attribute", **_TAG},
    text_attributes=frozenset({"name", "experiment_id"}),
    numeric_attributes=frozenset({"creation_time", "last_update_time"}),
    order_attributes=frozenset({"name", "experiment_id", "creation_time", "last_update_time"}),
    list_attributes=frozenset({"experiment_id"}),
    presence=frozenset({"tag"}),
)
MODELS = Grammar(
    entities={"attribute": "attribute", **_TAG},
    text_attributes=frozenset({"name"}),
    numeric_attributes=frozenset(),
    order_attributes=frozenset({"name", "creation_timestamp", "last_updated_timestamp"}),
    aliases={"timestamp": "last_updated_timestamp"},
    list_attributes=frozenset({"name"}),
)
MODEL_VERSIONS = Grammar(
    entities={"attribute": "attribute", **_TAG},
    text_attributes=frozenset({"name", "run_id", "source_path"}),
    numeric_attributes=frozenset({"version_number"}),
    order_attributes=frozenset({"name", "version_number", "creation_timestamp", "last_updated_timestamp"}),
    list_attributes=frozenset({"name", "run_id"}),
)

DATASET_KEYS = frozenset({"name", "digest", "context"})


def parse_filter(text: str | None, grammar: Grammar) -> list[Clause]:
    """Parse a filter; an empty or missing one means "everything".

    Raises:
        InvalidInputError: the text does not follow the language, names something that the grammar does not
            know, compares with a value of the wrong type, or is too long.
    """
    if not text:
        return []
    if len(text) > FILTER_CHARACTERS_MAX:
        raise InvalidInputError(
            f"The filter has {len(text)} characters; at most {FILTER_CHARACTERS_MAX} are allowed.", field="filter"
        )
    if "\x00" in text:
        raise InvalidInputError("The filter contains a NUL character.", field="filter")
    return _Parser(text, grammar).clauses()


def fault_place(text: str, grammar: Grammar) -> int | None:
    """Where a filter stops making sense, as an offset in its characters; None for one that `parse_filter` takes."""
    _, end = _scan(text)
    if end < len(text):
        return end
    parser = None
    try:
        parser = _Parser(text, grammar)
        parser.clauses()
    except InvalidInputError:
        return 0 if parser is None else parser.place
    return None


def parse_order(items: Sequence[str] | None, grammar: Grammar) -> list[Order]:
    """Parse sort keys such as `metrics.auc DESC`; ascending is the default.

    Raises:
        InvalidInputError: a key does not follow the language, is unknown, or is given twice.
    """
    if len(items or ()) > ORDERS_MAX:
        raise InvalidInputError(f"`order_by` has more than {ORDERS_MAX} keys.", field="order_by")
    orders: list[Order] = []
    for item in items or ():
        order = _parse_one_order(item, grammar)
        if any((order.entity, order.key) == (seen.entity, seen.key) for seen in orders):
            raise InvalidInputError(f"`order_by` contains duplicate fields: {list(items or ())}", field="order_by")
        orders.append(order)
    return orders


def page_token(offset: int) -> str:
    """Return the opaque token of the page that starts at `offset`."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def page_offset(token: str | None) -> int:
    """Return where the page of a token starts, 0 without a token.

    Raises:
        InvalidInputError: the token was not made by `page_token`.
    """
    if not token:
        return 0
    why = "could not base64-decode"
    try:
        decoded = base64.b64decode(token)
        why = f"decoded value={decoded[:80]!r}"
        parsed = json.loads(decoded)
        why = f"parsed value={str(parsed)[:80]}"
        offset = int(parsed["offset"])
    except (ValueError, LookupError, TypeError, RecursionError):
        offset = -1
    if not 0 <= offset < 2**53:
        hint = "Send the next_page_token of the previous answer unchanged."
        raise InvalidInputError(f"Invalid page token, {why}", field="page_token", hint=hint)
    return offset


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """Reads one filter from left to right; every method consumes what it names or refuses."""

    def __init__(self, text: str, grammar: Grammar) -> None:
        self._grammar = grammar
        self._text = text
        self._tokens = _tokenise(text)
        self._next = 0
        self._ended = False

    @property
    def done(self) -> bool:
        return self._next >= len(self._tokens)

    @property
    def place(self) -> int:
        """Where the token that was looked at last begins; the end of the text once there are no more."""
        return len(self._text) if self._ended else self._tokens[max(0, self._next - 1)].at

    def clauses(self) -> list[Clause]:
        clauses: list[Clause] = []
        while True:
            # An AND too many says nothing wrong, and programs that join conditions write it.
            while not self.done and self._tokens[self._next].text.upper() == "AND":
                self._take()
            if self.done and clauses:
                return clauses
            clauses.append(self.clause())
            if not self.done:
                self.keyword("AND")
            if len(clauses) > CLAUSES_MAX:
                raise InvalidInputError(f"The filter has more than {CLAUSES_MAX} conditions.", field="filter")

    def clause(self) -> Clause:
        entity, key = self._identifier()
        comparator = self._comparator()
        if comparator in _PRESENCE:
            if entity not in self._grammar.presence:
                allowed = " and ".join(sorted(self._grammar.presence)) or "nothing"
                raise _refused(f"{comparator} is only supported for {allowed}, not for {entity} '{key}'.")
            return Clause(entity, key, comparator, None)
        numeric = entity == "metric" or (entity == "attribute" and key in self._grammar.numeric_attributes)
        self._check_comparator(comparator, numeric=numeric, entity=entity, key=key)
        if comparator in _LIST:
            return Clause(entity, key, comparator, self._list())
        if numeric:
            return Clause(entity, key, comparator, self._number(entity, key))
        text = self._string(entity)
        if comparator in _PATTERN and len(text) > PATTERN_CHARACTERS_MAX:
            raise _refused(f"The pattern has {len(text)} characters; at most {PATTERN_CHARACTERS_MAX} are allowed.")
        return Clause(entity, key, comparator, text)

    def keyword(self, word: str) -> None:
        token = self._take()
        if token.kind != "name" or token.text.upper() != word:
            raise _refused(f"Invalid clause(s) in filter string: '{token.text}' stands where {word} is expected.")

    def _check_comparator(self, comparator: str, *, numeric: bool, entity: str, key: str) -> None:
        if numeric:
            allowed = _NUMERIC
        elif entity in self._grammar.list_entities or (entity == "attribute" and key in self._grammar.list_attributes):
            allowed = _TEXT | _LIST
        else:
            allowed = _TEXT
        if comparator in _LIST and comparator not in allowed and entity == "attribute" and not numeric:
            raise _refused(
                f"Only {sorted(self._grammar.list_attributes)} attributes support comparison "
                "with a list of quoted string values."
            )
        if comparator not in allowed:
            raise _refused(f"Invalid comparator '{comparator}' for {entity} '{key}', not one of {sorted(allowed)}.")

    def _identifier(self) -> tuple[str, str]:
        token = self._take()
        if token.kind != "name":
            raise _refused(
                f"Invalid comparison clause. Expected 'Identifier' found '{token.text}' "
                "(a column such as metrics.auc, params.depth, tags.team or attributes.status)."
            )
        return _resolve(token.text, self._grammar, attributes=self._grammar.attributes, field="filter")

    def _comparator(self) -> str:
        token = self._take()
        if token.kind == "operator":
            return token.text
        word = token.text.upper()
        if token.kind == "name" and word in ("LIKE", "ILIKE", "IN"):
            return word
        if token.kind == "name" and word == "NOT":
            self.keyword("IN")
            return "NOT IN"
        if token.kind == "name" and word == "IS":
            after = self._take()
            if after.text.upper() == "NULL":
                return "IS NULL"
            if after.text.upper() == "NOT":
                self.keyword("NULL")
                return "IS NOT NULL"
        raise _refused(f"Invalid comparison clause. Expected comparison found '{token.text}'.")

    def _number(self, entity: str, key: str) -> int | float:
        token = self._take()
        if token.kind != "number":
            what = "metric" if entity == "metric" else f"numeric attribute: {key}"
            raise _refused(f"Expected numeric value type for {what}. Found {token.text}")
        if entity == "metric":
            return float(token.text)
        if re.fullmatch(r"-?\d+", token.text):
            return _within_64_bits(int(token.text))
        return float(token.text)

    def _string(self, entity: str) -> str:
        token = self._take()
        if token.kind == "string":
            return _unquote(token.text)
        if token.kind == "name" and len(token.text) > 1 and token.text[0] == '"' and token.text[-1] == '"':
            return token.text[1:-1]
        if self._grammar.bare_values and token.kind in ("number", "name"):
            return token.text
        raise _refused(f"Expected a quoted string value for {entity} (e.g. 'my-value'). Got value {token.text}")

    def _list(self) -> tuple[str, ...]:
        opening = self._take()
        if opening.text != "(":
            raise _refused(f"Expected a list of quoted string values such as ('a', 'b'). Got value {opening.text}")
        items: list[str] = []
        while True:
            token = self._take()
            if token.text == ")" and token.kind == "punctuation" and not items:
                raise _refused("While parsing a list in the query, expected a non-empty list of string values.")
            if token.kind == "string":
                items.append(_unquote(token.text))
            elif token.kind == "name" and token.text[0] == token.text[-1] == '"' and len(token.text) > 1:
                items.append(token.text[1:-1])
            else:
                raise _refused(f"While parsing a list in the query, expected a quoted string, got {token.text}.")
            if len(items) > LIST_ITEMS_MAX:
                raise _refused(f"A list in the query has more than {LIST_ITEMS_MAX} values.")
            after = self._take()
            if after.text == ",":
                if self._peek() == ")":
                    self._take()
                    return tuple(items)
                continue
            if after.text == ")":
                return tuple(items)
            raise _refused(f"While parsing a list in the query, expected ',' or ')', got {after.text}.")

    def _peek(self) -> str:
        return "" if self.done else self._tokens[self._next].text

    def _take(self) -> _Token:
        if self.done:
            self._ended = True
            raise _refused(f"Invalid filter '{_short(self._text)}': it ends where a condition is not complete.")
        token = self._tokens[self._next]
        self._next += 1
        return token


def _scan(text: str) -> tuple[list[_Token], int]:
    """The tokens of a text, and how far they reach: up to what cannot be read, or to the end."""
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            break
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(_Token(kind, match.group(), position))
        position = match.end()
    return tokens, position


def _tokenise(text: str) -> list[_Token]:
    tokens, end = _scan(text)
    if end < len(text):
        raise _refused(f"Invalid clause(s) in filter string: '{_short(text[end:])}' could not be parsed.")
    if not tokens:
        raise _refused(f"Invalid filter '{_short(text)}'. Could not be parsed.")
    return tokens


def _resolve(text: str, grammar: Grammar, *, attributes: frozenset[str], field: str) -> tuple[str, str]:
    """Split `entity.key` and check both; a bare key is an attribute."""
    head, dot, rest = _split_entity(text)
    if dot:
        spelled = _strip(head)
        if spelled not in grammar.entities:
            known = sorted(set(grammar.entities.values()))
            raise InvalidInputError(f"Invalid entity type '{spelled}'. Valid values are {known}", field=field)
        entity, key = grammar.entities[spelled], _strip(rest)
    else:
        entity, key = "attribute", _strip(head)
    if entity == "attribute":
        if key not in attributes:
            raise InvalidInputError(
                f"Invalid attribute key '{key}' specified. Valid keys are '{sorted(attributes)}'", field=field
            )
        key = grammar.aliases.get(key, key)
    elif entity == "dataset" and key not in DATASET_KEYS:
        raise InvalidInputError(
            f"Invalid dataset key '{key}' specified. Valid keys are '{sorted(DATASET_KEYS)}'", field=field
        )
    elif not key:
        raise InvalidInputError(f"A {entity} needs a name, for example {entity}.name.", field=field)
    return entity, key


def _split_entity(text: str) -> tuple[str, str, str]:
    quote = text[0] if text[:1] in '`"' else ""
    end = text.find(quote, 1) + 1 if quote else 0
    head, dot, rest = text[end:].partition(".")
    return text[:end] + head, dot, rest


def _strip(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "`\"'":
        return text[1:-1]
    return text


def _unquote(text: str) -> str:
    return text[1:-1].replace("''", "'").replace("\\'", "'")


def _within_64_bits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise _refused(f"The number {value} is outside of 64 bits.")
    return value


_ORDER = re.compile(r"^\s*(?P<key>.*?)(?:\s+(?P<direction>asc|desc))?\s*$", re.IGNORECASE | re.DOTALL)
_ORDER_KEY = re.compile(r"""^(?:`[^`]*`|"[^"]*"|[A-Za-z_]\w*)(?:\.(?:`[^`]*`|"[^"]*"|[\w.]+))?$""")


def _parse_one_order(item: str, grammar: Grammar) -> Order:
    match = _ORDER.match(item) if len(item) <= FILTER_CHARACTERS_MAX else None
    if match is None or not _ORDER_KEY.match(match["key"]):
        raise InvalidInputError(f"Invalid order_by clause '{_short(item)}'. Could not be parsed.", field="order_by")
    attributes = grammar.order_attributes | frozenset(grammar.aliases)
    entity, key = _resolve(match["key"], grammar, attributes=attributes, field="order_by")
    if entity not in grammar.order_entities:
        raise InvalidInputError(f"Invalid order_by entity: {entity}", field="order_by")
    return Order(entity, key, (match["direction"] or "asc").lower() == "asc")


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."


def _refused(message: str) -> InvalidInputError:
    return InvalidInputError(
        message,
        field="filter",
        hint="Write conditions joined by AND, for example: metrics.auc > 0.7 AND params.depth = '6'.",
    )
