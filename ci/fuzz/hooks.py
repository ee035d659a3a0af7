"""What schemathesis is told about the daemon beyond docs/openapi.json.

Names and ids of things that exist stand in for random ones most of the time, as a request for nothing tests little; answers that
would go on for ever are asked for with an end; and a failure is an answer that says that the daemon failed (500, 502, 504), or none.
"""

import hashlib

import requests
import schemathesis

CONTAINERS = ["running", "stopped", "created", "subject", "nothing"]
NAMES = {
    "containers": CONTAINERS,
    "images": ["busybox", "busybox:latest", "nothing:1", "library/busybox"],
    "networks": ["bridge", "host", "none", "mine", "nothing"],
    "volumes": ["data", "used", "nothing"],
}
# Answers that come when something happens, and what makes them end at once.
ENDS = {
    "/events": {"since": "1", "until": "2"},
    "/containers/{name}/logs": {"follow": "0"},
    "/containers/{name}/stats": {"stream": "0", "one-shot": "1"},
}
# Of those it is only known that they began.
MAY_TAKE_TIME = ("/wait", "/attach", "/attach/ws", "/stop", "/restart", "/start", "/export", "/session", "/grpc", "/stats")


def pick(seed, values):
    """One of `values`, or nothing in one case of six: always the same for the same seed."""
    number = hashlib.sha256(repr(seed).encode()).digest()[0]
    return None if number % 6 == 0 else values[number % len(values)]


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if not path_parameters:
        return path_parameters
    room = context.operation.path.split("/")[1]
    for name, value in path_parameters.items():
        chosen = pick((room, name, value), NAMES.get(room, ["nothing"]))
        if chosen is not None:
            path_parameters[name] = chosen
    return path_parameters


@schemathesis.hook
def map_query(context, query):
    fixed = ENDS.get(context.operation.path)
    if fixed:
        query = dict(query or {}) | fixed
    if query and context.operation.path.endswith(("/stop", "/restart")):
        # Nobody waits for what never ends.
        query["t"] = "0"
    return query


@schemathesis.hook
def map_body(context, body):
    """Containers are made of the image that is there, and hold nothing of the host."""
    if context.operation.path == "/containers/create" and isinstance(body, dict):
        if pick(("image", sorted(map(str, body))), ["yes"]):
            body["Image"] = "busybox"
    return body


@schemathesis.check
def the_daemon_does_not_fail(context, response, case):
    assert response.status_code not in (500, 502, 504), f"{response.status_code}: {response.text[:300]}"


@schemathesis.check
def errors_are_messages(context, response, case):
    if response.status_code >= 400 and case.method != "HEAD":
        assert isinstance(response.json().get("message"), str), response.text[:300]
