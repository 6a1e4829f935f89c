"""`everline predict`: ask an endpoint for predictions."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from everline.cli.output import client_options, emit, table
from everline.errors import InvalidInputError, TooLargeError

if TYPE_CHECKING:
    from everline.sdk.client import Client

_INPUT_BYTES_MAX = 16 << 20


@click.command("predict")
@click.argument("endpoint")
@click.option("--input", "source", required=True, type=click.File("rb"), help="JSON records; - reads standard input.")
@click.option("--serve-url", help="The data plane's address. [$EVERLINE_SERVE_URL, else the control plane knows]")
@client_options
def command(client: Client, *, endpoint: str, source: IO[bytes], serve_url: str | None, as_json: bool) -> int:
    """Ask ENDPOINT for one prediction per record: a JSON object, a list of them, or one a line."""
    answer = client.predictions.predict(endpoint, read_records(source), serve_url=serve_url)
    uids = answer.get("parameters", {}).get("predictions", [])

    def human() -> None:
        pairs = zip(uids or [None] * len(answer["predictions"]), answer["predictions"], strict=False)
        table(((uid, _brief(value)) for uid, value in pairs), headers=("prediction", "answer"), empty="No rows.")

    emit(answer, as_json=as_json, human=human)
    return 0


def read_records(source: IO[bytes]) -> Any:
    """Read a JSON object, a list of objects, or objects one a line.

    Raises:
        InvalidInputError: none of these.
    """
    data = source.read(_INPUT_BYTES_MAX + 1)
    if len(data) > _INPUT_BYTES_MAX:
        raise TooLargeError(f"The input has more than {_INPUT_BYTES_MAX} bytes.", hint="Send it in pieces.")
    try:
        value: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            value = msgspec.json.Decoder().decode_lines(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInputError(
                f"The input is not JSON: {error}.", hint="Give an object, a list, or one object a line.", field="input"
            ) from None
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidInputError(
            "The input has no records.", hint='A record is an object by column: {"distance": 200}.', field="input"
        )
    return value


def _brief(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return " ".join(
        f"{name}={item:.6f}" if isinstance(item, float) else f"{name}={item}" for name, item in value.items()
    )
