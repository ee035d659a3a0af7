"""What schemathesis is told about the daemon beyond docs/openapi.json.

Names and ids of things that exist stand in for random ones most of the time, as a request for nothing tests little; answers that
would go on for ever are asked for with an end; and a failure is an answer that says that the daemon failed (500, 502, 504), or none.
"""

import hashlib
import io
import tarfile

import schemathesis

MEMBERS = ["manifest.json", "index.json", "oci-layout", "a/b", "../../up", "/absolute", "link", "", "etc/passwd", "a" * 300]
KINDS = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"?"]
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
    "/corten/stats": {"stream": "0"},
}


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
def before_call(context, case, kwargs):
    """Nobody waits for what never ends."""
    path = case.operation.path
    if path in ENDS:
        case.query = dict(case.query or {}) | ENDS[path]
    if path.endswith(("/stop", "/restart")):
        case.query = dict(case.query or {}) | {"t": "0"}
    if "/attach" in path:
        case.query = dict(case.query or {}) | {"stream": "0"}
    if path.endswith("/wait"):
        waits = case.query and case.query.get("condition") in ("next-exit", "removed")
        case.path_parameters["name"] = "nothing" if waits else "stopped"


@schemathesis.hook
def map_body(context, body):
    """Containers are made of the image that is there, and hold nothing of the host."""
    if context.operation.path == "/containers/create" and isinstance(body, dict):
        if pick(("image", sorted(map(str, body))), ["yes"]):
            body["Image"] = "busybox"
    return body


@schemathesis.serializer("application/x-tar")
def archive(context, value):
    """Random bytes as they are, or an archive of odd members."""
    if not isinstance(value, bytes):
        value = repr(value).encode()
    if pick(value, ["archive"]) is None:
        return {"data": value}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for number, name in enumerate(MEMBERS):
            if (len(value) + number) % 3:
                member = tarfile.TarInfo(name)
                member.type = KINDS[(len(value) + number) % len(KINDS)]
                member.linkname = "../../../../etc/passwd"
                member.size = len(value) if member.isreg() else 0
                tar.addfile(member, io.BytesIO(value))
    return {"data": stream.getvalue()[: -(len(value) % 700) or None]}


@schemathesis.check
def the_daemon_does_not_fail(context, response, case):
    assert response.status_code not in (500, 502, 504), f"{response.status_code}: {response.text[:300]}"


@schemathesis.check
def errors_are_messages(context, response, case):
    if response.status_code >= 400 and case.method != "HEAD":
        assert isinstance(response.json().get("message"), str), response.text[:300]
