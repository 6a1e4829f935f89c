"""Names for runs that nobody named."""

from __future__ import annotations

import secrets

_FIRST = """
    able agile amber ample apt azure bold brave bright brisk calm clean clear clever crisp dapper deep deft
    eager early even fair fast fine firm fleet fond free fresh gentle glad golden grand happy hardy honest keen
    kind late level light lively loyal lucid lucky mellow merry mild neat noble open patient plain polite prime
    proud pure quick quiet ready round sharp silent silver simple sleek smooth solid sound spry stable steady
    still stout strong sunny sure swift tidy trim true upbeat vivid warm wise witty
"""
_SECOND = """
    auk bear bee bison crane crow deer dove duck eagle eel egret elk falcon finch fox frog gull hare hawk heron
    ibis jay kestrel kite koi lark lemur loon lynx magpie marten mink mole moth newt orca oriole osprey otter
    owl perch petrel pike plover puffin quail rail raven robin rook ruff salmon seal shad shrew skate skua snipe
    stoat stork swan swift tern thrush toad trout vole wasp weasel whale wren
"""


def random_name() -> str:
    """Return a name such as `swift-heron-412`; no promise that it is unique."""
    return f"{secrets.choice(_FIRST.split())}-{secrets.choice(_SECOND.split())}-{secrets.randbelow(1000)}"
