//! The endpoints as calls: one method for each, with the documents it takes and gives.
//!
//! What a caller only forwards (an inspection that is printed again) comes as bytes: a document read into our types and
//! written again would lose members that a newer daemon adds.
use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderMap, StatusCode};

use crate::client::{Call, Client, Error, Hijacked, Streaming, escape, escape_path};
use crate::filters::{self, Filters};
use crate::types::container::{CreateRequest, CreateResponse};
use crate::types::container_answers::{
    ContainerInspect, ContainerSummary, ContainersPruneResponse, TopResponse, UpdateResponse,
};
use crate::types::exec::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecStartRequest};
use crate::types::files::{Change, PATH_STAT_HEADER, PathStatDocument};
use crate::types::image::{DeleteItem, HistoryItem, ImageSummary, ImagesPruneResponse};
use crate::types::network::{
    Network, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest,
    NetworksPruneResponse,
};
use crate::types::platform::Platform;
use crate::types::system::{DiskUsage, Info, Version};
use crate::types::volume::{Volume, VolumeCreateRequest, VolumeListResponse, VolumesPruneResponse};
use crate::upload::Upload;

/// A tar archive on its way to the daemon.
pub type Archive = BoxStream<'static, io::Result<Bytes>>;

/// What `GET /containers/json` may be asked.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    pub all: bool,
    pub limit: Option<i64>,
    pub size: bool,
    pub filters: Filters,
}

/// What `POST /containers/{name}/attach` may be asked.
#[derive(Debug, Clone, Default)]
pub struct AttachQuery {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub logs: bool,
    pub detach_keys: Option<String>,
}

/// What `GET /containers/{name}/logs` may be asked. Times are `seconds.nanoseconds`.
#[derive(Debug, Clone, Default)]
pub struct LogsQuery {
    pub follow: bool,
    pub timestamps: bool,
    pub details: bool,
    pub since: Option<String>,
    pub until: Option<String>,
    pub tail: Option<String>,
}

/// What `POST /images/create?fromSrc=` may be asked.
#[derive(Debug, Clone, Default)]
pub struct ImportQuery {
    /// `-` for the body, else a URL that the daemon fetches.
    pub source: String,
    pub repository: String,
    pub message: String,
    pub platform: String,
    pub changes: Vec<String>,
}

/// What `POST /commit` may be asked.
#[derive(Debug, Clone, Default)]
pub struct CommitQuery {
    pub container: String,
    pub repository: String,
    pub tag: String,
    pub author: String,
    pub comment: String,
    pub pause: bool,
    pub changes: Vec<String>,
}

fn container(name: &str, verb: &str) -> String {
    format!("/containers/{}/{verb}", escape(name))
}

fn write_path(name: &str, path: &str, copy_owner: bool) -> Call {
    let call = Call::put(container(name, "archive")).query("path", path);
    let call = call.query("noOverwriteDirNonDir", "true");
    call.maybe("copyUIDGID", copy_owner.then_some("true"))
}

fn exec(id: &str, verb: &str) -> String {
    format!("/exec/{}/{verb}", escape(id))
}

fn image(name: &str, verb: &str) -> String {
    format!("/images/{}/{verb}", escape_path(name))
}

fn network(name: &str, verb: &str) -> String {
    format!("/networks/{}/{verb}", escape(name))
}

fn with_filters(call: Call, filters: &Filters) -> Call {
    if filters.is_empty() {
        call
    } else {
        call.query("filters", &filters::encode(filters))
    }
}

/// Containers.
impl Client {
    pub async fn create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: &CreateRequest,
    ) -> Result<CreateResponse, Error> {
        let call = Call::post("/containers/create")
            .maybe("name", name)
            .maybe("platform", platform)
            .json(request);
        self.document(call).await
    }

    /// Starts a container; one that runs already is no error.
    pub async fn start(&self, name: &str, checkpoint: Option<&str>) -> Result<(), Error> {
        let call = Call::post(container(name, "start")).maybe("checkpoint", checkpoint);
        self.bytes(call).await.map(drop)
    }

    pub async fn attach(&self, name: &str, query: &AttachQuery) -> Result<Hijacked, Error> {
        let call = Call::post(container(name, "attach"))
            .maybe("detachKeys", query.detach_keys.as_deref())
            .flag("stream", true)
            .flag("stdin", query.stdin)
            .flag("stdout", query.stdout)
            .flag("stderr", query.stderr)
            .flag("logs", query.logs);
        self.hijack(call).await
    }

    /// Registers a wait; the answer's body, a [`crate::types::container_answers::WaitResponse`], comes with the exit.
    pub async fn wait(&self, name: &str, condition: Option<&str>) -> Result<Streaming, Error> {
        self.streaming(Call::post(container(name, "wait")).maybe("condition", condition))
            .await
    }

    pub async fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let call = Call::post(container(name, "resize"))
            .query("h", &rows.to_string())
            .query("w", &columns.to_string());
        self.bytes(call).await.map(drop)
    }

    pub async fn containers(&self, query: &ListQuery) -> Result<Vec<ContainerSummary>, Error> {
        let limit = query.limit.map(|limit| limit.to_string());
        let call = Call::get("/containers/json")
            .flag("all", query.all)
            .flag("size", query.size);
        self.document(with_filters(call.maybe("limit", limit.as_deref()), &query.filters))
            .await
    }

    pub async fn inspect_container(&self, name: &str) -> Result<ContainerInspect, Error> {
        self.document(Call::get(container(name, "json"))).await
    }

    pub async fn inspect_container_raw(&self, name: &str, size: bool) -> Result<Bytes, Error> {
        self.bytes(Call::get(container(name, "json")).flag("size", size)).await
    }

    pub async fn stop(&self, name: &str, signal: Option<&str>, seconds: Option<&str>) -> Result<(), Error> {
        self.bytes(
            Call::post(container(name, "stop"))
                .maybe("signal", signal)
                .maybe("t", seconds),
        )
        .await
        .map(drop)
    }

    pub async fn restart(&self, name: &str, signal: Option<&str>, seconds: Option<&str>) -> Result<(), Error> {
        self.bytes(
            Call::post(container(name, "restart"))
                .maybe("signal", signal)
                .maybe("t", seconds),
        )
        .await
        .map(drop)
    }

    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<(), Error> {
        self.bytes(Call::post(container(name, "kill")).maybe("signal", signal))
            .await
            .map(drop)
    }

    pub async fn pause(&self, name: &str) -> Result<(), Error> {
        self.bytes(Call::post(container(name, "pause"))).await.map(drop)
    }

    pub async fn unpause(&self, name: &str) -> Result<(), Error> {
        self.bytes(Call::post(container(name, "unpause"))).await.map(drop)
    }

    pub async fn rename(&self, name: &str, new_name: &str) -> Result<(), Error> {
        self.bytes(Call::post(container(name, "rename")).query("name", new_name))
            .await
            .map(drop)
    }

    /// Changes limits and restart policy; what is absent in `request` stays.
    pub async fn update(&self, name: &str, request: &serde_json::Value) -> Result<UpdateResponse, Error> {
        self.document(Call::post(container(name, "update")).json(request)).await
    }

    pub async fn remove(&self, name: &str, force: bool, volumes: bool, link: bool) -> Result<(), Error> {
        let call = Call::delete(format!("/containers/{}", escape(name)));
        self.bytes(call.flag("force", force).flag("v", volumes).flag("link", link))
            .await
            .map(drop)
    }

    pub async fn top(&self, name: &str, ps_arguments: Option<&str>) -> Result<TopResponse, Error> {
        self.document(Call::get(container(name, "top")).maybe("ps_args", ps_arguments))
            .await
    }

    pub async fn logs(&self, name: &str, query: &LogsQuery) -> Result<Streaming, Error> {
        let call = Call::get(container(name, "logs"))
            .flag("stdout", true)
            .flag("stderr", true)
            .flag("follow", query.follow)
            .flag("timestamps", query.timestamps)
            .flag("details", query.details)
            .maybe("since", query.since.as_deref())
            .maybe("until", query.until.as_deref())
            .maybe("tail", query.tail.as_deref());
        self.streaming(call).await
    }

    /// One document of [`crate::types::stats::Stats`], or one after another for ever.
    pub async fn stats(&self, name: &str, stream: bool) -> Result<Streaming, Error> {
        let call = Call::get(container(name, "stats")).query("stream", if stream { "1" } else { "0" });
        self.streaming(call).await
    }

    pub async fn create_exec(&self, name: &str, request: &ExecCreateRequest) -> Result<ExecCreateResponse, Error> {
        self.document(Call::post(container(name, "exec")).json(request)).await
    }

    /// Starts an exec and becomes its streams.
    pub async fn start_exec(&self, id: &str, request: &ExecStartRequest) -> Result<Hijacked, Error> {
        self.hijack(Call::post(exec(id, "start")).json(request)).await
    }

    /// Starts an exec that goes on by itself.
    pub async fn start_exec_detached(&self, id: &str, request: &ExecStartRequest) -> Result<(), Error> {
        self.bytes(Call::post(exec(id, "start")).json(request)).await.map(drop)
    }

    pub async fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let call = Call::post(exec(id, "resize"))
            .query("h", &rows.to_string())
            .query("w", &columns.to_string());
        self.bytes(call).await.map(drop)
    }

    pub async fn inspect_exec(&self, id: &str) -> Result<ExecInspect, Error> {
        self.document(Call::get(exec(id, "json"))).await
    }

    /// Lists of [`crate::types::stats::Stats`], each on a line: one, or one a second for ever. Of the containers named, or of
    /// all that run, or (with `all`) of all. An engine that is not Corten does not know this.
    pub async fn stats_of_many(&self, names: &[String], all: bool, stream: bool) -> Result<Streaming, Error> {
        let call = Call::get("/corten/stats").flag("all", all).flag("stream", stream);
        let call = names.iter().fold(call, |call, name| call.query("container", name));
        self.streaming(call).await
    }

    pub async fn prune_containers(&self, filters: &Filters) -> Result<ContainersPruneResponse, Error> {
        self.document(with_filters(Call::post("/containers/prune"), filters))
            .await
    }
}

/// Files of containers.
impl Client {
    pub async fn stat_path(&self, name: &str, path: &str) -> Result<PathStatDocument, Error> {
        let call = Call::head(container(name, "archive")).query("path", path);
        path_stat(&self.headers(call).await?)
    }

    /// A tar archive of what stands at a path.
    pub async fn read_path(&self, name: &str, path: &str) -> Result<(Streaming, PathStatDocument), Error> {
        let call = Call::get(container(name, "archive")).query("path", path);
        let body = self.streaming(call).await?;
        let stat = path_stat(&body.headers)?;
        Ok((body, stat))
    }

    /// Extracts a tar archive into a directory. Directories take no other things' places, nor the other way round.
    pub async fn write_path(&self, name: &str, path: &str, copy_owner: bool, archive: Archive) -> Result<(), Error> {
        let call = write_path(name, path, copy_owner);
        self.bytes(call.archive(archive)).await.map(drop)
    }

    /// The same for an archive that the caller writes onto the connection, where that can be.
    pub async fn upload_path(&self, name: &str, path: &str, copy_owner: bool) -> Result<Option<Upload>, Error> {
        self.upload(write_path(name, path, copy_owner)).await
    }

    /// A tar archive of the whole root file system.
    pub async fn export(&self, name: &str) -> Result<Streaming, Error> {
        self.streaming(Call::get(container(name, "export"))).await
    }

    pub async fn changes(&self, name: &str) -> Result<Vec<Change>, Error> {
        let changes: Option<_> = self.document(Call::get(container(name, "changes"))).await?;
        Ok(changes.unwrap_or_default())
    }

    /// Makes an image of a container; the answer is its id.
    pub async fn commit(&self, query: &CommitQuery) -> Result<String, Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            id: String,
        }
        let mut call = Call::post("/commit").query("container", &query.container);
        let texts = [
            ("repo", &query.repository),
            ("tag", &query.tag),
            ("author", &query.author),
            ("comment", &query.comment),
        ];
        for (name, value) in texts {
            call = call.maybe(name, Some(value.as_str()).filter(|value| !value.is_empty()));
        }
        call = query
            .changes
            .iter()
            .fold(call, |call, change| call.query("changes", change));
        let call = call.maybe("pause", (!query.pause).then_some("0"));
        self.document::<Answer>(call).await.map(|answer| answer.id)
    }
}

fn path_stat(headers: &HeaderMap) -> Result<PathStatDocument, Error> {
    let unexpected = || Error::Unexpected {
        what: "it does not tell what stands at the path".to_string(),
    };
    let header = headers.get(PATH_STAT_HEADER).ok_or_else(unexpected)?;
    let json = STANDARD.decode(header.as_bytes()).map_err(|_| unexpected())?;
    serde_json::from_slice(&json).map_err(|_| unexpected())
}

/// Images.
impl Client {
    pub async fn images(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>, Error> {
        self.document(with_filters(Call::get("/images/json").flag("all", all), filters))
            .await
    }

    pub async fn inspect_image_raw(&self, name: &str, platform: Option<&Platform>) -> Result<Bytes, Error> {
        self.bytes(for_platform(Call::get(image(name, "json")), platform)).await
    }

    pub async fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryItem>, Error> {
        self.document(for_platform(Call::get(image(name, "history")), platform))
            .await
    }

    pub async fn tag(&self, name: &str, repository: &str, tag: &str) -> Result<(), Error> {
        self.bytes(
            Call::post(image(name, "tag"))
                .query("repo", repository)
                .query("tag", tag),
        )
        .await
        .map(drop)
    }

    pub async fn remove_image(
        &self,
        name: &str,
        force: bool,
        keep_parents: bool,
        platforms: &[Platform],
    ) -> Result<Vec<DeleteItem>, Error> {
        let call = Call::delete(format!("/images/{}", escape_path(name)));
        let call = platforms
            .iter()
            .fold(call, |call, platform| call.query("platforms", &platform.to_json()));
        self.document(call.flag("force", force).flag("noprune", keep_parents))
            .await
    }

    pub async fn prune_images(&self, filters: &Filters) -> Result<ImagesPruneResponse, Error> {
        self.document(with_filters(Call::post("/images/prune"), filters)).await
    }

    /// The answer is a stream of [`crate::messages::Message`]s.
    pub async fn load(&self, archive: Archive, quiet: bool, platform: Option<&Platform>) -> Result<Streaming, Error> {
        let call = Call::post("/images/load").query("quiet", if quiet { "1" } else { "0" });
        self.streaming(for_platform(call, platform).archive(archive)).await
    }

    /// The answer is a stream of [`crate::messages::Message`]s; the last one's status is the image's id.
    pub async fn import(&self, archive: Option<Archive>, query: &ImportQuery) -> Result<Streaming, Error> {
        let mut call = Call::post("/images/create").query("fromSrc", &query.source);
        let texts = [
            ("repo", &query.repository),
            ("message", &query.message),
            ("platform", &query.platform),
        ];
        for (name, value) in texts {
            call = call.maybe(name, Some(value.as_str()).filter(|value| !value.is_empty()));
        }
        for change in &query.changes {
            call = call.query("changes", change);
        }
        match archive {
            Some(archive) => self.streaming(call.archive(archive)).await,
            None => self.streaming(call).await,
        }
    }

    /// A docker-archive of all the images.
    pub async fn save(&self, names: &[String], platform: Option<&Platform>) -> Result<Streaming, Error> {
        let call = names
            .iter()
            .fold(Call::get("/images/get"), |call, name| call.query("names", name));
        self.streaming(for_platform(call, platform)).await
    }
}

fn for_platform(call: Call, platform: Option<&Platform>) -> Call {
    call.maybe("platform", platform.map(Platform::to_json).as_deref())
}

/// Networks.
impl Client {
    pub async fn create_volume(&self, request: &VolumeCreateRequest) -> Result<Volume, Error> {
        self.document(Call::post("/volumes/create").json(request)).await
    }

    pub async fn volumes(&self, filters: &Filters) -> Result<VolumeListResponse, Error> {
        self.document(with_filters(Call::get("/volumes"), filters)).await
    }

    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<(), Error> {
        self.bytes(Call::delete(format!("/volumes/{}", escape(name))).flag("force", force))
            .await
            .map(drop)
    }

    pub async fn prune_volumes(&self, filters: &Filters) -> Result<VolumesPruneResponse, Error> {
        self.document(with_filters(Call::post("/volumes/prune"), filters)).await
    }

    pub async fn create_network(&self, request: &NetworkCreateRequest) -> Result<NetworkCreateResponse, Error> {
        self.document(Call::post("/networks/create").json(request)).await
    }

    pub async fn networks(&self, filters: &Filters) -> Result<Vec<Network>, Error> {
        self.document(with_filters(Call::get("/networks"), filters)).await
    }

    pub async fn inspect_network_raw(&self, name: &str, verbose: bool) -> Result<Bytes, Error> {
        let call = Call::get(format!("/networks/{}", escape(name)));
        self.bytes(call.maybe("verbose", verbose.then_some("true"))).await
    }

    pub async fn connect_network(&self, name: &str, request: &NetworkConnectRequest) -> Result<(), Error> {
        self.bytes(Call::post(network(name, "connect")).json(request))
            .await
            .map(drop)
    }

    pub async fn disconnect_network(&self, name: &str, request: &NetworkDisconnectRequest) -> Result<(), Error> {
        self.bytes(Call::post(network(name, "disconnect")).json(request))
            .await
            .map(drop)
    }

    pub async fn remove_network(&self, name: &str) -> Result<(), Error> {
        self.bytes(Call::delete(format!("/networks/{}", escape(name))))
            .await
            .map(drop)
    }

    pub async fn prune_networks(&self, filters: &Filters) -> Result<NetworksPruneResponse, Error> {
        self.document(with_filters(Call::post("/networks/prune"), filters))
            .await
    }
}

/// The engine.
impl Client {
    pub async fn server_version(&self) -> Result<Version, Error> {
        self.document(Call::get("/version")).await
    }

    pub async fn info(&self) -> Result<Info, Error> {
        self.document(Call::get("/info")).await
    }

    pub async fn info_raw(&self) -> Result<Bytes, Error> {
        self.bytes(Call::get("/info")).await
    }

    pub async fn disk_usage(&self) -> Result<DiskUsage, Error> {
        self.document(Call::get("/system/df")).await
    }

    /// A stream of [`crate::types::system::EventMessage`]s. Times are `seconds.nanoseconds`.
    pub async fn events(
        &self,
        since: Option<&str>,
        until: Option<&str>,
        filters: &Filters,
    ) -> Result<Streaming, Error> {
        let call = Call::get("/events").maybe("since", since).maybe("until", until);
        self.streaming(with_filters(call, filters)).await
    }

    /// Whether a daemon answers at all.
    pub async fn ping(&self) -> Result<StatusCode, Error> {
        self.exchange(Call::get("/_ping")).await.map(|(status, _)| status)
    }
}
