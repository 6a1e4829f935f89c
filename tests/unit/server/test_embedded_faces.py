"""What a client in the same process asks is answered by the face that a server would have answer it."""

from __future__ import annotations

from everline.loader import load
from everline.server.app import FACES, declared_routes
from everline.server.embedded import REST_FACES


def test_every_rest_route_is_found_by_its_first_word() -> None:
    lost = []
    for name in FACES:
        package, _, face = name.rpartition(".")
        if package != "everline.server.rest":
            continue
        for route in load(name).routes.all:
            words = route.path.split("/")
            if words[1:3] == ["api", "v1"] and face not in REST_FACES.get(words[3], ()):
                lost.append(route.path)
    assert not lost


def test_no_word_names_a_face_that_does_not_answer_it() -> None:
    answered = {route.path.split("/")[3] for route in declared_routes() if route.path.startswith("/api/v1/")}
    assert set(REST_FACES) <= answered
