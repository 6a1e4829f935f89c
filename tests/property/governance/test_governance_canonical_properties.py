"""The quick way to canonical JSON writes the bytes of RFC 8785, or is not taken."""

from __future__ import annotations

from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from everline.canonical import canonical_json
from everline.errors import InvalidInputError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)


@given(values)
def test_canonical_json_is_that_of_the_standard(value: Any) -> None:
    try:
        expected = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        expected = None
    try:
        assert canonical_json(value) == expected
    except InvalidInputError:
        assert expected is None
