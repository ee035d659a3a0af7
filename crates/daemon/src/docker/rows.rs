//! Rows of `GET /containers/json`, kept as they are sent until their containers change.
//!
//! Only the sentence about the status goes with the time: a row is kept as what comes before it and what comes after.
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use corten_engine::{
    container::{record::Record, state::State, view::ContainerView},
    names,
};
use jiff::Timestamp;

use crate::docker::{
    convert::{
        container::{self, status},
        container_network::Networks,
    },
    version::ApiVersion,
    versions,
};

pub struct Rows {
    /// Stands where the status will be; nobody can have put it anywhere else.
    mark: String,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// What all rows depend on.
    shape: Option<(ApiVersion, Networks)>,
    rows: HashMap<String, Row>,
}

struct Row {
    record: Arc<Record>,
    state: Arc<State>,
    image_name: String,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Default for Rows {
    fn default() -> Rows {
        Rows {
            mark: names::random_id(),
            kept: Mutex::default(),
        }
    }
}

impl Rows {
    /// The whole list.
    pub fn list(&self, views: &[ContainerView], networks: Networks, version: ApiVersion, now: Timestamp) -> Vec<u8> {
        let mut kept = self.kept.lock().expect("no panic while locked");
        let shape = Some((version, networks));
        if kept.shape != shape {
            *kept = Kept {
                shape,
                rows: HashMap::new(),
            };
        }
        let Kept { shape, rows } = &mut *kept;
        let (_, networks) = shape.as_ref().expect("it was just put there");
        let mut list = Vec::with_capacity(views.len() * 1024 + 2);
        list.push(b'[');
        for view in views {
            if list.len() > 1 {
                list.push(b',');
            }
            let measured = view.size_rw.is_some();
            match rows.get(&view.record.id).filter(|row| !measured && row.shows(view)) {
                Some(row) => row.write(view, now, &mut list),
                None => {
                    let row = self.row(view, networks, version);
                    row.write(view, now, &mut list);
                    if !measured {
                        rows.insert(view.record.id.clone(), row);
                    }
                }
            }
        }
        list.extend_from_slice(b"]\n");
        if rows.len() > 2 * views.len() + 64 {
            let listed: HashSet<&str> = views.iter().map(|view| view.record.id.as_str()).collect();
            rows.retain(|id, _| listed.contains(id.as_str()));
        }
        list
    }

    fn row(&self, view: &ContainerView, networks: &Networks, version: ApiVersion) -> Row {
        let mut summary = container::summary(view, networks, Timestamp::UNIX_EPOCH);
        versions::container_summary(version, &mut summary);
        summary.status.clone_from(&self.mark);
        let text = serde_json::to_string(&summary).expect("the API's documents always serialize");
        let (before, after) = text
            .split_once(&format!("\"{}\"", self.mark))
            .expect("the mark was just written");
        Row {
            record: Arc::clone(&view.record),
            state: Arc::clone(&view.state),
            image_name: view.image_name.clone(),
            before: before.into(),
            after: after.into(),
        }
    }
}

impl Row {
    /// Is the container still as it was when this was written?
    fn shows(&self, view: &ContainerView) -> bool {
        Arc::ptr_eq(&self.record, &view.record)
            && Arc::ptr_eq(&self.state, &view.state)
            && self.image_name == view.image_name
    }

    fn write(&self, view: &ContainerView, now: Timestamp, list: &mut Vec<u8>) {
        list.extend_from_slice(&self.before);
        serde_json::to_writer(&mut *list, &status(&view.state, now)).expect("text always serializes");
        list.extend_from_slice(&self.after);
    }
}
