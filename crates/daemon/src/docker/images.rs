//! The verbs on images.
//!
//! A name may contain slashes and colons, so one wildcard takes the rest of the path, and its last part says what is
//! wanted: `/images/library/busybox:1/json`.
use std::io::Read;

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use corten_api::{
    filters,
    messages::{Message, ProgressDetail},
    types::{image::ImagesPruneResponse, platform::Platform},
};
use corten_engine::{
    container::view::ListOptions,
    error::Error,
    image::view::{ImportOptions, Progress},
};
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use crate::{
    docker::{
        body,
        convert::image,
        door::{Door, ok, stream},
        fetch,
        proxy::Proxies,
        query::Parameters,
        version::{ApiVersion, v},
        versions,
    },
    error::ApiError,
};

type Answer = Result<Response, ApiError>;

const LIST_FILTERS: [&str; 7] = ["dangling", "label", "label!", "before", "since", "reference", "until"];
const PRUNE_FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];
/// Lines of progress that may wait for a slow client before the work waits too.
const PROGRESS_BACKLOG: usize = 64;

/// `GET /images/json`.
pub async fn list(State(door): State<Door>, version: ApiVersion, query: Parameters) -> Answer {
    let mut filters = query.filters()?;
    if version < v(25)
        && let Some(pattern) = query.text("filter")
    {
        filters
            .entry("reference".to_owned())
            .or_default()
            .push(pattern.to_owned());
    }
    filters::check(&filters, &LIST_FILTERS)?;
    let views = door.engine().images().list(query.flag("all"), &filters).await?;
    let containers = match version >= v(51) {
        true => {
            door.engine()
                .containers()
                .list(ListOptions {
                    all: true,
                    ..ListOptions::default()
                })
                .await?
        }
        false => Vec::new(),
    };
    let shares = (version >= v(42) && query.flag("shared-size")).then(|| image::Shares::of(&views));
    let documents = views.iter().map(|view| {
        let mut summary = image::summary(view, &containers);
        if let Some(shares) = &shares {
            summary.shared_size = shares.shared(view);
        }
        versions::image_summary(version, &mut summary);
        summary
    });
    Ok(ok(&documents.collect::<Vec<_>>()))
}

/// `GET /images/{name}/{json|history|get}`.
pub async fn get(State(door): State<Door>, version: ApiVersion, Path(rest): Path<String>, query: Parameters) -> Answer {
    let images = door.engine().images();
    if let Some(name) = rest.strip_suffix("/json") {
        let platform = platform(version, v(49), &query)?;
        if platform.is_some() && version >= v(48) && query.flag("manifests") {
            return Err(ApiError::invalid(
                "conflicting options: manifests and platform options cannot both be set",
            ));
        }
        let document = image::inspect(&images.inspect_for(name, platform.as_ref())?);
        return Ok(match version < v(50) {
            true => ok(&versions::image_inspect(version, document)),
            false => ok(&document),
        });
    }
    if let Some(name) = rest.strip_suffix("/history") {
        let platform = platform(version, v(48), &query)?;
        let lines = images.history(name, platform.as_ref()).await?;
        return Ok(ok(&lines.iter().map(image::history).collect::<Vec<_>>()));
    }
    if let Some(name) = rest.strip_suffix("/get") {
        return save(&door, &[name.to_owned()], platform(version, v(48), &query)?).await;
    }
    Err(ApiError::not_found("page not found"))
}

/// The platform that is asked for, since a version of the API. One at a time, for images here have one.
fn platform(version: ApiVersion, since: ApiVersion, query: &Parameters) -> Result<Option<Platform>, ApiError> {
    let given = query.all("platform");
    let mut given = given.iter().filter(|text| !text.is_empty() && version >= since);
    let parsed = given.next().map(|text| Platform::from_json(text)).transpose();
    match given.next() {
        Some(_) => Err(ApiError::invalid("multiple platform parameters not supported")),
        None => parsed.map_err(|error| ApiError::invalid(error.to_string())),
    }
}

/// `POST /images/{name}/{tag|push}`.
pub async fn post(State(door): State<Door>, Path(rest): Path<String>, query: Parameters) -> Answer {
    if let Some(name) = rest.strip_suffix("/tag") {
        let repository = query.get("repo").unwrap_or_default();
        door.engine()
            .images()
            .tag(name, repository, query.get("tag").unwrap_or_default())
            .await?;
        return Ok(StatusCode::CREATED.into_response());
    }
    if rest.ends_with("/push") {
        return Err(ApiError::not_implemented("pushing images to registries"));
    }
    Err(ApiError::not_found("page not found"))
}

/// `DELETE /images/{name}`.
pub async fn remove(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    query: Parameters,
) -> Answer {
    // An image has one platform: where others are to go, nothing is there to go.
    for text in query.all("platforms").iter().filter(|_| version >= v(50)) {
        let platform = Platform::from_json(text).map_err(|error| ApiError::invalid(error.to_string()))?;
        door.engine().images().inspect_for(&name, Some(&platform))?;
    }
    let prune_children = !query.flag("noprune");
    let removed = door
        .engine()
        .images()
        .remove(&name, query.flag("force"), prune_children)
        .await?;
    Ok(ok(&removed.into_iter().map(image::removed).collect::<Vec<_>>()))
}

/// `POST /images/prune`.
pub async fn prune(State(door): State<Door>, query: Parameters) -> Answer {
    let filters = query.filters()?;
    filters::check(&filters, &PRUNE_FILTERS)?;
    let (removed, space_reclaimed) = door.engine().images().prune(&filters).await?;
    let images_deleted: Vec<_> = removed.into_iter().map(image::removed).collect();
    let images_deleted = Some(images_deleted).filter(|list| !list.is_empty());
    Ok(ok(&ImagesPruneResponse {
        images_deleted,
        space_reclaimed,
    }))
}

/// `GET /images/get?names=…`.
pub async fn save_many(State(door): State<Door>, version: ApiVersion, query: Parameters) -> Answer {
    save(&door, &query.all("names"), platform(version, v(48), &query)?).await
}

async fn save(door: &Door, names: &[String], platform: Option<Platform>) -> Answer {
    let turn = door.transfer().await?;
    let archive = door.engine().images().save(names, platform).await?;
    let pieces = ReaderStream::with_capacity(archive, 128 * 1024).inspect(move |_| {
        let _ = &turn;
    });
    Ok(stream("application/x-tar", Body::from_stream(pieces)))
}

/// `POST /images/load`. A failure is always a line of the answer, as clients expect it here.
pub async fn load(State(door): State<Door>, version: ApiVersion, query: Parameters, body: Body) -> Answer {
    let platform = platform(version, v(48), &query)?;
    let (sender, receiver) = mpsc::channel(PROGRESS_BACKLOG);
    let archive = body::reader(body, door.transfer().await?);
    let work = async move {
        door.engine()
            .images()
            .load(archive, platform, sender)
            .await
            .map(|()| None)
    };
    match progress(work, receiver).await {
        Err(error) => Ok(stream(
            "application/json",
            Body::from(Message::error(error.message()).to_line()),
        )),
        answer => answer,
    }
}

/// `POST /images/create`: an import, or a pull.
pub async fn create(State(door): State<Door>, query: Parameters, body: Body) -> Answer {
    if let Some(name) = query.text("fromImage") {
        let image = match query.text("tag") {
            Some(tag) if tag.contains(':') => format!("{name}@{tag}"),
            Some(tag) => format!("{name}:{tag}"),
            None => name.to_owned(),
        };
        return Err(ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "pulling {image} from a registry is not implemented yet: bring it in with \"docker load\" or \"docker \
                 import\""
            ),
        ));
    }
    let source = query.get("fromSrc").unwrap_or_default();
    if source.is_empty() {
        return Err(ApiError::invalid("either fromImage or fromSrc has to be given"));
    }
    let repository = query.text("repo");
    let reference = repository.map(|repository| match query.text("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    });
    let mut options = ImportOptions {
        reference,
        message: query.text("message").map_or_else(
            || format!("Imported from {}", fetch::without_password(source)),
            str::to_owned,
        ),
        total: None,
        changes: query.all("changes"),
        platform: query.text("platform").map(str::to_owned),
    };
    options.check()?;
    let (sender, receiver) = mpsc::channel(PROGRESS_BACKLOG);
    let archive: Box<dyn Read + Send> = if source == "-" {
        Box::new(body::reader(body, door.transfer().await?))
    } else {
        let url = fetch::Url::parse(source)?;
        let turn = door.transfer().await?;
        let fetched = fetch::get(&url, &Proxies::of(&door.engine().config().proxies)).await?;
        // There is room: it is the first line.
        let _ = sender.try_send(Progress::Status(format!("Downloading from {url}")));
        options.total = fetched.length;
        Box::new(body::download(fetched.body, turn))
    };
    let work = async move { door.engine().images().import(archive, options, sender).await.map(Some) };
    progress(work, receiver).await
}

/// Progress as it is made, then the result: an id for imports, an error where there is one.
///
/// What fails before there was any progress fails with a status; afterwards a failure is a line like any other.
async fn progress(
    work: impl Future<Output = Result<Option<String>, Error>> + Send + 'static,
    mut receiver: mpsc::Receiver<Progress>,
) -> Answer {
    let mut work = tokio::spawn(work);
    let first = tokio::select! {
        biased;
        first = receiver.recv() => first,
        result = &mut work => return finished(result, receiver),
    };
    let Some(first) = first else {
        let result = work.await;
        return finished(result, receiver);
    };
    let lines = stream::once(async move { first }).chain(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|progress| (progress, receiver))
    }));
    let last = stream::once(async move { last_line(work.await) }).filter_map(|line| async { line });
    let body = lines
        .map(|progress| Bytes::from(message(progress).to_line()))
        .chain(last);
    Ok(stream("application/json", Body::from_stream(infallible(body))))
}

type Outcome = Result<Result<Option<String>, Error>, tokio::task::JoinError>;

/// The work ended before it said anything, or all it said is in the channel.
fn finished(outcome: Outcome, mut receiver: mpsc::Receiver<Progress>) -> Answer {
    let mut bytes = Vec::new();
    while let Ok(progress) = receiver.try_recv() {
        bytes.extend(message(progress).to_line());
    }
    match outcome {
        Ok(Err(error)) if bytes.is_empty() => return Err(error.into()),
        outcome => bytes.extend(last_line(outcome).unwrap_or_default()),
    }
    Ok(stream("application/json", Body::from(bytes)))
}

fn last_line(outcome: Outcome) -> Option<Bytes> {
    let message = match outcome {
        Ok(Ok(None)) => return None,
        Ok(Ok(Some(id))) => Message::status(id),
        Ok(Err(error)) => Message::error(error.to_string()),
        Err(_) => Message::error("the engine failed; its log says why"),
    };
    Some(Bytes::from(message.to_line()))
}

fn message(progress: Progress) -> Message {
    match progress {
        Progress::Message(text) => Message::stream(format!("{text}\n")),
        Progress::Status(text) => Message::status(text),
        Progress::Layer {
            id,
            status,
            current,
            total,
        } => Message {
            id: Some(id).filter(|id| !id.is_empty()),
            progress_detail: Some(ProgressDetail {
                current: Some(current),
                total,
            }),
            ..Message::status(status)
        },
    }
}

fn infallible<T>(items: impl Stream<Item = T>) -> impl Stream<Item = Result<T, std::convert::Infallible>> {
    items.map(Ok)
}
