"""The limit of uvicorn: a constant, with no framework and no model."""

BODY = (
    b'{"prediction":"01a209cc-9bd1-72e0-ad55-763d4f513cb5","outputs":{"probability":0.9573381403888708,"label":true}}'
)
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
