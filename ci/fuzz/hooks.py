"""What schemathesis is told about the daemon beyond docs/openapi.json.

Names and ids of things that exist stand in for random ones most of the time, as a request for nothing tests little, and what an
earlier request took away is made anew; answers that would go on for ever are asked for with an end; and a failure is an answer
that says that the daemon failed (500, 502, 504), or none.
"""

import hashlib
import http.client
import io
import json
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
PATHS = ["/etc/passwd", "/tmp", "/bin/../etc/.", "/bin/sh", "/proc/1/root/etc", "/nothing/at/all", "/dev/null", "tmp/"]
LOOP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
# What runs, and the state that it has to be in; that of `subject` is left to chance.
SUBJECTS = {"running": (LOOP, "running"), "subject": (LOOP, None), "stopped": (["true"], "exited"), "created": (["true"], "created")}
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


def ask(method, path, document=None):
    """Status and document of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", 2375, timeout=30)
    connection.request(method, path, json.dumps(document or {}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if body.startswith(b"{") else None


def provide(name):
    """A container of this name, in its state."""
    command, state = SUBJECTS[name]
    status, found = ask("GET", f"/containers/{name}/json")
    if status == 200 and state in (None, found["State"]["Status"]):
        return
    ask("POST", f"/containers/{name}/unpause")
    ask("DELETE", f"/containers/{name}?force=1")
    ask("POST", "/images/demo/tag?repo=busybox")
    ask("POST", f"/containers/create?name={name}", {"Image": "demo", "Cmd": command, "HostConfig": {"NetworkMode": "none"}})
    if state != "created":
        ask("POST", f"/containers/{name}/start")
    if state == "exited":
        ask("POST", f"/containers/{name}/wait")


def give_names(case):
    """Names of what there is, for whichever part of the path is one."""
    room = case.operation.path.split("/")[1]
    for parameter, value in (case.path_parameters or {}).items():
        chosen = pick((room, parameter, value, str(case.query)), NAMES.get(room, ["nothing"]))
        if chosen is not None:
            case.path_parameters[parameter] = chosen


@schemathesis.hook
def before_call(context, case, kwargs):
    """Who is asked for is there, and nobody waits for what never ends."""
    give_names(case)
    path = case.operation.path
    if path.endswith("/archive") and (chosen := pick(("path", str(case.query)), PATHS)):
        case.query = dict(case.query or {}) | {"path": chosen}
    if path in ENDS:
        case.query = dict(case.query or {}) | ENDS[path]
    if path.endswith(("/stop", "/restart")):
        case.query = dict(case.query or {}) | {"t": "0"}
    if "/attach" in path:
        case.query = dict(case.query or {}) | {"stream": "0"}
    if path.endswith("/wait"):
        waits = case.query and case.query.get("condition") in ("next-exit", "removed")
        case.path_parameters["name"] = "nothing" if waits else "stopped"
    if path == "/commit" and pick(("commit", str(case.query)), ["yes"]):
        case.query = dict(case.query or {}) | {"container": "stopped"}
    chosen = (case.path_parameters or {}).get("name")
    if chosen in SUBJECTS:
        provide(chosen)
    if path == "/commit":
        provide("stopped")
    if path.startswith("/exec/") and pick(("exec", str(case.path_parameters)), ["yes"]):
        provide("running")
        wish = {"Cmd": ["echo", "x"], "AttachStdout": True, "Tty": bool(pick(str(case.query), ["yes"]))}
        _, made = ask("POST", "/containers/running/exec", wish)
        case.path_parameters["id"] = made["Id"]
    if path.startswith("/networks/{name}/"):
        ask("POST", "/networks/create", {"Name": "mine"})
        provide("running")
        provide("created")


@schemathesis.hook
def map_body(context, body):
    """Containers are made of the image that is there, and networks are for those that there are."""
    if context.operation.path == "/containers/create" and isinstance(body, dict):
        if pick(("image", sorted(map(str, body))), ["yes"]):
            body["Image"] = "busybox"
    if context.operation.path.startswith("/networks/{name}/") and isinstance(body, dict):
        chosen = pick(("member", sorted(map(str, body))), ["running", "created", "stopped"])
        if chosen:
            body["Container"] = chosen
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
