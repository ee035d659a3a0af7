//! All containers, by id and by name. Names are taken before anything is made, so that two cannot get the same.
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::RwLock,
};

use crate::{
    container::handle::{Handle, Snapshot},
    error::{Error, Result},
    image::service::ImageUsers,
};

#[derive(Debug, Default)]
pub struct Table {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Sorted, for prefixes.
    by_id: BTreeMap<String, Handle>,
    /// Names to ids, of containers that are about to exist too.
    names: HashMap<String, String>,
    /// Ids of containers that others were made with links to. Looked at at every start; nobody is ever taken out.
    linked: HashSet<String>,
}

impl Table {
    /// Takes a name for a container.
    pub fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut inner = self.inner.write().expect("no panic while locked");
        if let Some(holder) = inner.names.get(name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            )));
        }
        inner.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Gives a name back, when it is this container's.
    pub fn release(&self, name: &str, id: &str) {
        let mut inner = self.inner.write().expect("no panic while locked");
        if inner.names.get(name).is_some_and(|holder| holder == id) {
            inner.names.remove(name);
        }
    }

    pub fn insert(&self, handle: Handle) {
        let mut inner = self.inner.write().expect("no panic while locked");
        let record = handle.record();
        inner
            .linked
            .extend(record.links.iter().map(|link| link.container.clone()));
        inner.by_id.insert(handle.id.to_string(), handle);
    }

    /// Running containers that have a link to this one.
    pub fn linking_to(&self, id: &str) -> Vec<Handle> {
        let inner = self.inner.read().expect("no panic while locked");
        if !inner.linked.contains(id) {
            return Vec::new();
        }
        let links_here = |handle: &&Handle| {
            let snapshot = handle.watch.borrow();
            snapshot.state.phase.is_running() && snapshot.record.links.iter().any(|link| link.container == id)
        };
        inner.by_id.values().filter(links_here).cloned().collect()
    }

    /// Forgets a container and its name.
    pub fn remove(&self, id: &str) {
        let mut inner = self.inner.write().expect("no panic while locked");
        inner.by_id.remove(id);
        inner.names.retain(|_, holder| holder != id);
    }

    /// By id, name (with or without slash) or the unique beginning of an id, in this order.
    pub fn find(&self, reference: &str) -> Result<Handle> {
        let inner = self.inner.read().expect("no panic while locked");
        let name = reference.strip_prefix('/').unwrap_or(reference);
        let exact = inner
            .by_id
            .get(reference)
            .or_else(|| inner.by_id.get(inner.names.get(name)?));
        if let Some(handle) = exact {
            return Ok(handle.clone());
        }
        let unknown = || Error::not_found(format!("No such container: {reference}"));
        if reference.is_empty() {
            return Err(unknown());
        }
        let mut matches = inner
            .by_id
            .range::<str, _>((std::ops::Bound::Included(reference), std::ops::Bound::Unbounded))
            .take_while(|(id, _)| id.starts_with(reference));
        match (matches.next(), matches.next()) {
            (Some((_, handle)), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {reference}"
            ))),
            (None, _) => Err(unknown()),
        }
    }

    /// Newest first.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let inner = self.inner.read().expect("no panic while locked");
        let mut all: Vec<Snapshot> = inner.by_id.values().map(Handle::snapshot).collect();
        drop(inner);
        all.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.record.created));
        all
    }

    pub fn handles(&self) -> Vec<Handle> {
        let inner = self.inner.read().expect("no panic while locked");
        inner.by_id.values().cloned().collect()
    }
}

impl ImageUsers for Table {
    fn containers_of(&self, image_id: &str) -> Vec<(String, bool)> {
        let user = |handle: Handle| {
            let snapshot = handle.watch.borrow();
            (snapshot.record.image_id == image_id).then(|| (snapshot.record.id.clone(), snapshot.state.phase.is_up()))
        };
        self.handles().into_iter().filter_map(user).collect()
    }
}
