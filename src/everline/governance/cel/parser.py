"""Reads tokens into a syntax tree.

Source: the CEL language definition, section "Syntax": the same precedences and macros. Left out are message
construction, bytes, unsigned numbers and the leading dot, which facts in JSON have no use for.
"""

from __future__ import annotations

from typing import Literal as Choice
from typing import cast

from everline.governance.cel.lexer import INT_MAX, RESERVED, Token, tokenize
from everline.governance.cel.syntax import (
    DEPTH_MAX,
    NESTING_MAX,
    Binary,
    Call,
    CelError,
    Conditional,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    Macro,
    MapOf,
    Name,
    Node,
    Select,
    Span,
    Unary,
)

MACROS = {"all": 2, "exists": 2, "exists_one": 2, "filter": 2, "map": 2}
_LEVELS: dict[str, int] = {
    "<": 1, "<=": 1, ">": 1, ">=": 1, "==": 1, "!=": 1, "in": 1,
    "+": 2, "-": 2,
    "*": 3, "/": 3, "%": 3,
}  # fmt: skip
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def parse(source: str) -> Node:
    """Read an expression.

    Raises:
        CelError: it is no expression of the language, is too long, or is nested too deeply.
    """
    parser = _Parser(source)
    node = parser.expression()
    parser.expect_end()
    return node


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokenize(source)
        self.position = 0
        self.nesting = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def advance(self) -> Token:
        token = self.token
        self.position += token.kind != "end"
        return token

    def at(self, *texts: str) -> bool:
        return self.token.kind in {"sign", "name"} and self.token.text in texts

    def take(self, text: str) -> bool:
        found = self.at(text)
        self.position += found
        return found

    def expect(self, text: str) -> Token:
        if not self.at(text):
            raise self.error(f"Here {text!r} is expected{self.instead()}.", self.token.span)
        return self.advance()

    def expect_end(self) -> None:
        if self.token.kind != "end":
            raise self.error(f"The expression should end here, but goes on with {self.token.text!r}.", self.token.span)

    def instead(self) -> str:
        return ", not the end" if self.token.kind == "end" else f", not {self.token.text!r}"

    def error(self, why: str, span: Span, *, hint: str | None = None) -> CelError:
        return CelError(why, source=self.source, span=span, hint=hint)

    def depth(self, start: int, *children: Node) -> int:
        """The depth of a node over these children; refuses one that is too deep to evaluate."""
        depth = 1 + max((child.depth for child in children), default=0)
        if depth > DEPTH_MAX:
            raise self.error(f"The expression is nested more than {DEPTH_MAX} deep.", Span(start, start + 1))
        return depth

    def end(self) -> int:
        return self.tokens[self.position - 1].span.end

    def expression(self) -> Node:
        self.nesting += 1
        start = self.token.span.start
        if self.nesting > NESTING_MAX:
            raise self.error(f"The expression is nested more than {NESTING_MAX} deep.", self.token.span)
        node = self.logic("||")
        if self.take("?"):
            yes = self.logic("||")
            self.expect(":")
            no = self.expression()
            depth = self.depth(start, node, yes, no)
            node = Conditional(span=Span(start, self.end()), depth=depth, test=node, yes=yes, no=no)
        self.nesting -= 1
        return node

    def logic(self, operator: Choice["&&", "||"]) -> Node:
        start = self.token.span.start
        parts = [self.logic_part(operator)]
        while self.take(operator):
            parts.append(self.logic_part(operator))
        if len(parts) == 1:
            return parts[0]
        depth = self.depth(start, *parts)
        return Logic(span=Span(start, self.end()), depth=depth, operator=operator, parts=tuple(parts))

    def logic_part(self, operator: Choice["&&", "||"]) -> Node:
        return self.logic("&&") if operator == "||" else self.binary(1)

    def binary(self, level: int) -> Node:
        """Precedence climbing over relations, sums and products; all associate to the left."""
        start = self.token.span.start
        left = self.unary()
        while self.token.kind in {"sign", "name"} and _LEVELS.get(self.token.text, 0) >= level:
            operator = self.advance()
            right = self.binary(_LEVELS[operator.text] + 1)
            left = Binary(
                span=Span(start, self.end()),
                depth=self.depth(start, left, right),
                operator=operator.text,
                operator_span=operator.span,
                left=left,
                right=right,
            )
        return left

    def unary(self) -> Node:
        signs: list[Token] = []
        while self.at("!", "-"):
            if len(signs) >= NESTING_MAX:
                raise self.error(f"The expression is nested more than {NESTING_MAX} deep.", self.token.span)
            signs.append(self.advance())
        if signs and signs[-1].text == "-" and self.token.kind in {"int", "float"}:
            minus = signs.pop()
            number = self.advance()
            literal = Literal(span=Span(minus.span.start, number.span.end), value=-cast("int | float", number.value))
            node = self.member(literal, minus.span.start)
        else:
            start = self.token.span.start
            node = self.member(self.primary(), start)
        for sign in reversed(signs):
            operator = cast("Choice['!', '-']", sign.text)
            depth = self.depth(sign.span.start, node)
            node = Unary(span=Span(sign.span.start, self.end()), depth=depth, operator=operator, operand=node)
        return node

    def member(self, node: Node, start: int) -> Node:
        while True:
            if self.take("."):
                node = self.field(node, start)
            elif self.take("["):
                index = self.expression()
                self.expect("]")
                depth = self.depth(start, node, index)
                node = Index(span=Span(start, self.end()), depth=depth, operand=node, index=index)
            else:
                return node

    def field(self, operand: Node, start: int) -> Node:
        name = self.token
        if name.kind != "name":
            raise self.error(f"A field's name is expected after the dot{self.instead()}.", name.span)
        self.advance()
        if not self.at("("):
            depth = self.depth(start, operand)
            span = Span(start, self.end())
            return Select(span=span, depth=depth, operand=operand, field=name.text, field_span=name.span)
        if name.text in MACROS:
            return self.macro(operand, name, start)
        args = self.arguments(")")
        depth = self.depth(start, operand, *args)
        return Call(
            span=Span(start, self.end()),
            depth=depth,
            function=name.text,
            function_span=name.span,
            args=(operand, *args),
            method=True,
        )

    def macro(self, target: Node, name: Token, start: int) -> Node:
        args = self.arguments(")")
        if len(args) != 2 and not (name.text == "map" and len(args) == 3):
            raise self.error(f"{name.text}() takes a variable and an expression.", name.span)
        variable = args[0]
        if not isinstance(variable, Name):
            raise self.error(f"The first argument of {name.text}() is the name of a variable.", variable.span)
        depth = self.depth(start, target, *args[1:])
        return Macro(
            span=Span(start, self.end()),
            depth=depth,
            macro=name.text,
            target=target,
            variable=variable.name,
            body=args[1],
            transform=args[2] if len(args) == 3 else None,
        )

    def arguments(self, closing: str) -> list[Node]:
        self.advance()
        args: list[Node] = []
        while not self.take(closing):
            args.append(self.expression())
            if not self.at(closing):
                self.expect(",")
        return args

    def primary(self) -> Node:
        token = self.token
        if token.kind in {"int", "float", "string"}:
            self.advance()
            if token.kind == "int" and cast("int", token.value) > INT_MAX:
                raise self.error("This number has more than 64 bits.", token.span)
            return Literal(span=token.span, value=token.value)
        if token.kind == "name":
            return self.name()
        if self.take("("):
            node = self.expression()
            self.expect(")")
            return node
        if self.at("["):
            items = self.arguments("]")
            depth = self.depth(token.span.start, *items)
            return ListOf(span=Span(token.span.start, self.end()), depth=depth, items=tuple(items))
        if self.at("{"):
            return self.map()
        raise self.error(f"A value is expected{self.instead() or ' here'}.", token.span)

    def name(self) -> Node:
        token = self.advance()
        if token.text in _CONSTANTS:
            return Literal(span=token.span, value=_CONSTANTS[token.text])
        if token.text in RESERVED or token.text == "in":
            raise self.error(f"{token.text!r} is a word of the language and cannot be a name.", token.span)
        if not self.at("("):
            return Name(span=token.span, name=token.text)
        args = self.arguments(")")
        span = Span(token.span.start, self.end())
        if token.text == "has":
            if len(args) != 1 or not isinstance(args[0], Select):
                raise self.error("has() takes one field, such as has(evaluation.metrics).", span)
            return Has(span=span, depth=self.depth(span.start, *args), select=args[0])
        depth = self.depth(span.start, *args)
        return Call(
            span=span, depth=depth, function=token.text, function_span=token.span, args=tuple(args), method=False
        )

    def map(self) -> Node:
        start = self.advance().span.start
        entries: list[tuple[Node, Node]] = []
        while not self.take("}"):
            key = self.expression()
            self.expect(":")
            entries.append((key, self.expression()))
            if not self.at("}"):
                self.expect(",")
        depth = self.depth(start, *(node for entry in entries for node in entry))
        return MapOf(span=Span(start, self.end()), depth=depth, entries=tuple(entries))
