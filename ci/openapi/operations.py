"""Every operation of the Engine API that the daemon answers: what generate writes docs/openapi.json from.

An entry is: method and path, success statuses, query parameters, the body.

Parameters are NAME:TYPE, where a type is a key of generate's TYPES, or values joined by `|`. A body is the name of a Rust type
of crates/api (decoded as JSON), `tar` (an archive), or nothing.
"""

OPERATIONS = {
    "System": """
GET /_ping 200
HEAD /_ping 200
GET /version 200
GET /info 200
GET /events 200 since:time until:time filters:filters
GET /system/df 200 type:container|image|volume|build-cache verbose:bool
POST /auth 200,204 ; AuthConfig
""",
    "Containers": """
GET /containers/json 200 all:bool limit:int size:bool filters:filters
POST /containers/create 201 name:name platform:text ; CreateRequest
GET /containers/{name}/json 200 size:bool
GET /containers/{name}/top 200 ps_args:text
GET /containers/{name}/logs 200 follow:bool stdout:bool stderr:bool since:time until:time timestamps:bool tail:text details:bool
GET /containers/{name}/changes 200
GET /containers/{name}/export 200
GET /containers/{name}/stats 200 stream:bool one-shot:bool
GET /corten/stats 200 stream:bool all:bool container:name
POST /containers/{name}/resize 200 h:int w:int
POST /containers/{name}/start 204,304 detachKeys:text
POST /containers/{name}/stop 204,304 signal:text t:int
POST /containers/{name}/restart 204 signal:text t:int
POST /containers/{name}/kill 204 signal:text
POST /containers/{name}/update 200 ; UpdateRequest
POST /containers/{name}/rename 204 name:name
POST /containers/{name}/pause 204
POST /containers/{name}/unpause 204
POST /containers/{name}/attach 101,200 detachKeys:text logs:bool stream:bool stdin:bool stdout:bool stderr:bool
GET /containers/{name}/attach/ws 101 detachKeys:text logs:bool stream:bool stdin:bool stdout:bool stderr:bool
POST /containers/{name}/wait 200 condition:not-running|next-exit|removed
DELETE /containers/{name} 204 v:bool force:bool link:bool
DELETE /containers/{name}/{alias} 204 v:bool force:bool link:bool
HEAD /containers/{name}/archive 200 path:text!
GET /containers/{name}/archive 200 path:text!
PUT /containers/{name}/archive 200 path:text! noOverwriteDirNonDir:text copyUIDGID:text ; tar
POST /containers/prune 200 filters:filters
GET /containers/{name}/checkpoints 200 dir:text
POST /containers/{name}/checkpoints 201 ; CheckpointRequest
DELETE /containers/{name}/checkpoints/{checkpoint} 204 dir:text
POST /commit 201 container:name repo:text tag:text comment:text author:text pause:bool changes:text ; ContainerConfig
""",
    "Exec": """
POST /containers/{name}/exec 201 ; ExecCreateRequest
POST /exec/{id}/start 101,200 ; ExecStartRequest
POST /exec/{id}/resize 200 h:int w:int
GET /exec/{id}/json 200
""",
    "Images": """
GET /images/json 200 all:bool filters:filters shared-size:bool digests:bool manifests:bool
POST /images/create 200 fromImage:text fromSrc:text repo:text message:text tag:text changes:text platform:text ; tar
GET /images/{name}/json 200 manifests:bool platform:text
GET /images/{name}/history 200 platform:text
POST /images/{name}/push 200 tag:text platform:text
POST /images/{name}/tag 201 repo:text tag:text
DELETE /images/{name} 200 force:bool noprune:bool platforms:text
GET /images/search 200 term:text limit:int filters:filters
POST /images/prune 200 filters:filters
GET /images/get 200 names:text platform:text
GET /images/{name}/get 200 platform:text
POST /images/load 200 quiet:bool platform:text ; tar
POST /build 200 dockerfile:text t:text remote:text q:bool nocache:bool rm:bool target:text ; tar
POST /build/prune 200 all:bool filters:filters
POST /build/cancel 204 id:text
POST /session 101
POST /grpc 101
GET /distribution/{name}/json 200
""",
    "Networks": """
GET /networks 200 filters:filters
GET /networks/ 200 filters:filters
GET /networks/{name} 200 verbose:bool scope:text
POST /networks/create 201 ; NetworkCreateRequest
POST /networks/{name}/connect 200 ; NetworkConnectRequest
POST /networks/{name}/disconnect 200 ; NetworkDisconnectRequest
DELETE /networks/{name} 204
POST /networks/prune 200 filters:filters
""",
    "Volumes": """
GET /volumes 200 filters:filters
POST /volumes/create 201 ; VolumeCreateRequest
GET /volumes/{name} 200
PUT /volumes/{name} 200 version:int
DELETE /volumes/{name} 204 force:bool
POST /volumes/prune 200 filters:filters
""",
    "Swarm": """
GET /swarm 200
POST /swarm/init 200
POST /swarm/join 200
POST /swarm/leave 200 force:bool
POST /swarm/update 200 version:int
GET /swarm/unlockkey 200
POST /swarm/unlock 200
GET /nodes 200 filters:filters
GET /nodes/{id} 200
DELETE /nodes/{id} 200 force:bool
POST /nodes/{id}/update 200 version:int
GET /services 200 filters:filters
POST /services/create 201
GET /services/{id} 200
DELETE /services/{id} 200
POST /services/{id}/update 200 version:int
GET /services/{id}/logs 200
GET /tasks 200 filters:filters
GET /tasks/{id} 200
GET /tasks/{id}/logs 200
GET /secrets 200 filters:filters
POST /secrets/create 201
GET /secrets/{id} 200
DELETE /secrets/{id} 204
POST /secrets/{id}/update 200 version:int
GET /configs 200 filters:filters
POST /configs/create 201
GET /configs/{id} 200
DELETE /configs/{id} 204
POST /configs/{id}/update 200 version:int
""",
    "Plugins": """
GET /plugins 200 filters:filters
GET /plugins/privileges 200 remote:text
POST /plugins/pull 204 remote:text name:text
POST /plugins/create 204 name:text
GET /plugins/{name}/json 200
DELETE /plugins/{name} 200 force:bool
POST /plugins/{name}/enable 200 timeout:int
POST /plugins/{name}/disable 200 force:bool
POST /plugins/{name}/upgrade 204 remote:text
POST /plugins/{name}/push 200
POST /plugins/{name}/set 204
""",
}
