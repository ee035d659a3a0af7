//! What every handler needs: the engine, and facts about it that do not change while the daemon runs.
use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use corten_engine::{engine::Engine, system::SystemView};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    docker::{
        convert::{container::Host, container_network::Networks},
        rows::Rows,
    },
    error::ApiError,
};

/// Clones are the same door.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    host: Host,
    /// About the doors, for `/info`.
    warnings: Vec<String>,
    transfers: Arc<Semaphore>,
    rows: Rows,
}

/// Archives that may come or go at the same time. Each keeps a thread busy, of which there are some hundreds: clients
/// that stop in the middle must not have them all.
const TRANSFERS_MAX: usize = 64;
/// How long a transfer waits for its turn.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(60);

impl Door {
    pub fn new(engine: Engine, system: &SystemView, warnings: Vec<String>) -> Door {
        let host = Host {
            cgroup_version_2: system.cgroup_version == "2",
            log_driver: system.log_driver.clone(),
            log_options: engine.config().log_options.clone(),
            default_network: match engine.config().network.no_default_bridge {
                true => "none",
                false => "bridge",
            }
            .to_owned(),
        };
        Door {
            shared: Arc::new(Shared {
                engine,
                host,
                warnings,
                transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)),
                rows: Rows::default(),
            }),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    pub fn warnings(&self) -> &[String] {
        &self.shared.warnings
    }

    /// The right to send or receive an archive, until it is dropped.
    pub async fn transfer(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = Arc::clone(&self.shared.transfers).acquire_owned();
        match timeout(TRANSFER_PATIENCE, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{TRANSFERS_MAX} archives are being sent or received: try again later"),
            )),
        }
    }

    pub fn host(&self) -> &Host {
        &self.shared.host
    }

    /// Names and ids of all networks, for documents that mention them.
    pub fn networks(&self) -> Networks {
        Networks::new(&self.engine().networks().records())
    }

    pub fn rows(&self) -> &Rows {
        &self.shared.rows
    }
}

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A document, ended by a newline as dockerd ends its own.
pub fn json(status: StatusCode, document: &impl Serialize) -> Response {
    let mut bytes = serde_json::to_vec(document).expect("the API's documents always serialize");
    bytes.push(b'\n');
    written(status, bytes)
}

/// A document that is written already.
pub fn written(status: StatusCode, bytes: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, APPLICATION_JSON)], bytes).into_response()
}

/// 200 and a document.
pub fn ok(document: &impl Serialize) -> Response {
    json(StatusCode::OK, document)
}

/// 200 and a body that comes bit by bit; the headers leave at once.
pub fn stream(content_type: &'static str, body: Body) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response()
}

/// The mark of an answer that goes on until something happens or the client leaves: a daemon that ends does not wait
/// for it.
#[derive(Debug, Clone, Copy)]
pub struct Endless;

/// As [`stream`], for an answer that does not end by itself.
pub fn endless(content_type: &'static str, body: Body) -> Response {
    let mut response = stream(content_type, body);
    response.extensions_mut().insert(Endless);
    response
}
