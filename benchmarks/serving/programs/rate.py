"""An open load: so many questions a second whatever the answers do, and what became of each.

    python rate.py HOST PORT PATH BODY_FILE RATE SECONDS CONNECTIONS TIMEOUT_MS

Prints one line of JSON: answered and refused, their latencies, what broke.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import httptools


class Client(asyncio.Protocol):
    """One connection that has at most one question under way."""

    def __init__(self, idle, told):
        self.idle = idle
        self.told = told
        self.parser = None
        self.asked_at = 0.0
        self.due_at = 0.0
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.idle.append(self)

    def ask(self, data, due_at):
        self.parser = httptools.HttpResponseParser(self)
        self.due_at = due_at
        self.asked_at = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_message_complete(self):
        status = self.parser.get_status_code()
        self.told(status, time.perf_counter() - self.asked_at)
        self.asked_at = 0.0
        self.idle.append(self)

    def connection_lost(self, exc):
        if self.asked_at:
            self.told(0, 0.0)


async def run(host, port, path, body, rate, seconds, connections, timeout_ms):
    loop = asyncio.get_running_loop()
    idle, seen = [], []
    for _ in range(connections):
        await loop.create_connection(lambda: Client(idle, lambda *one: seen.append(one)), host, port)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\neverline-timeout-ms: {timeout_ms}\r\n\r\n"
    )
    data = head.encode() + body
    began = time.perf_counter()
    asked = late = 0
    while (now := time.perf_counter()) < began + seconds:
        due = int((now - began) * rate)
        while asked < due:
            if idle:
                idle.pop().ask(data, now)
            else:
                late += 1  # every connection waits for an answer
            asked += 1
        await asyncio.sleep(0.001)
    await asyncio.sleep(2 * timeout_ms / 1000)

    def percentile(values, share):
        values = sorted(values)
        return round(1000 * values[min(int(share * len(values)), len(values) - 1)], 2) if values else None

    answered = [s for status, s in seen if status == 200]
    refused = [s for status, s in seen if status in (429, 503)]
    print(
        json.dumps(
            {
                "asked": asked - late,
                "not_asked": late,
                "answered": len(answered),
                "refused": len(refused),
                "other": len(seen) - len(answered) - len(refused),
                "answered_p50_ms": percentile(answered, 0.5),
                "answered_p99_ms": percentile(answered, 0.99),
                "refused_p99_ms": percentile(refused, 0.99),
            }
        )
    )


if __name__ == "__main__":
    host, port, path, file, rate, seconds, connections, timeout_ms = sys.argv[1:]
    body = Path(file).read_bytes().partition(b"\n")[0]
    asyncio.run(run(host, int(port), path, body, float(rate), float(seconds), int(connections), int(timeout_ms)))
