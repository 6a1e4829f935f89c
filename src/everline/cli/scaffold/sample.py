"""Customers that nobody ever was: the same rows on every machine and Python."""

from __future__ import annotations

from random import Random

MONTHS = [f"2025-{month:02d}" for month in range(1, 13)] + [f"2026-{month:02d}" for month in range(1, 7)]
ROWS_A_MONTH = 134
HEADER = "month,contract,tenure_months,monthly_fee,support_calls,left"
_CONTRACTS = ("monthly", "yearly", "two-years")
_PULL = {"monthly": 0.9, "yearly": -0.4, "two-years": -1.2}


def customers_csv() -> str:
    """The sample: who pays much, calls often and is new leaves more often, on a monthly contract most of all."""
    # Only `random()`, whose sequence for a seed Python promises to keep, and operations that IEEE 754 rounds exactly.
    draw = Random(2025).random
    lines = [HEADER]
    for month in MONTHS:
        for _ in range(ROWS_A_MONTH):
            first, second, third = draw(), draw(), draw()
            contract = _CONTRACTS[int(first * 1.2 * (0.6 + 0.4 * first) * 2.49)]
            tenure = int(72 * second * second) + 1
            fee = round(15 + 70 * draw(), 2)
            calls = int(6 * third * third * third)
            pull = -1.3 + _PULL[contract] - 0.03 * tenure + 0.025 * (fee - 50) + 0.6 * calls
            left = int(draw() < 0.5 + 0.5 * pull / (1 + abs(pull)))
            lines.append(f"{month},{contract},{tenure},{fee:.2f},{calls},{left}")
    return "\n".join(lines) + "\n"
