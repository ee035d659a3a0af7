//! Every verb on volumes, for every door.
//!
//! A volume is in use while a container's record mentions it, whether that container runs or not.
use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    container::{
        handle::Handle,
        table::Table,
        view::{Filters, Pruned},
    },
    context::{Context, blocking},
    error::{Error, Kind, Result},
    filter, names,
    volume::{
        measure::tree_bytes,
        volumes::{Volume, Wish},
    },
};

const LIST_KEYS: [&str; 4] = ["dangling", "driver", "label", "name"];
const PRUNE_KEYS: [&str; 3] = ["all", "label", "label!"];

/// A volume as a door sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeView {
    pub volume: Volume,
    /// The directory with its files.
    pub path: String,
    /// Containers that mention it.
    pub users: Vec<String>,
}

pub struct VolumeService {
    context: Arc<Context>,
    table: Arc<Table>,
}

impl VolumeService {
    pub(crate) fn new(context: Arc<Context>, table: Arc<Table>) -> VolumeService {
        VolumeService { context, table }
    }

    /// By name.
    pub fn list(&self, filters: &Filters) -> Result<Vec<VolumeView>> {
        filter::check_keys(filters, &LIST_KEYS)?;
        let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        let dangling = switch(filters, "dangling")?;
        let drivers = values("driver");
        let mut views = self.all();
        views.retain(|view| {
            dangling.is_none_or(|dangling| view.users.is_empty() == dangling)
                && (drivers.is_empty() || drivers.iter().any(|driver| driver == "local"))
                && filter::labels_match(values("label"), &view.volume.labels)
                && filter::any_name_matches(values("name"), &view.volume.name)
        });
        Ok(views)
    }

    fn all(&self) -> Vec<VolumeView> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for snapshot in self.table.snapshots() {
            let mentioned = snapshot.record.mounts.iter().filter_map(|mount| mount.name.as_ref());
            for name in mentioned {
                users.entry(name.clone()).or_default().push(snapshot.record.id.clone());
            }
        }
        let view = |volume: Volume| VolumeView {
            path: self.context.volumes.path(&volume.name),
            users: users.remove(&volume.name).unwrap_or_default(),
            volume,
        };
        self.context.volumes.all().into_iter().map(view).collect()
    }

    pub fn inspect(&self, name: &str) -> Result<VolumeView> {
        let found = self.context.volumes.get(name);
        let volume = found.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?;
        Ok(self.view(volume))
    }

    /// Makes a volume, or finds the one that has this name already. `driver` is empty or `local`: there is no other.
    pub fn create(&self, driver: &str, wish: Wish) -> Result<VolumeView> {
        let name = wish.name.clone().unwrap_or_else(names::random_id);
        check_driver(driver).map_err(|error| Error::new(error.kind(), format!("create {name}: {error}")))?;
        if let Some(name) = &wish.name {
            check_name(name)?;
        }
        let volume = self.context.volumes.create(wish)?;
        Ok(self.view(volume))
    }

    fn view(&self, volume: Volume) -> VolumeView {
        VolumeView {
            path: self.context.volumes.path(&volume.name),
            users: users_of(&self.table, &volume.name),
            volume,
        }
    }

    /// Refused while a container mentions it. `force` makes the absence of the volume no failure.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let (context, table) = (Arc::clone(&self.context), Arc::clone(&self.table));
        let owned = name.to_owned();
        let removed = blocking(move || context.volumes.remove(&owned, || users_of(&table, &owned))).await;
        match removed {
            Err(error) if force && error.kind() == Kind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes volumes that no container mentions: anonymous ones, or with `all=true` every one.
    pub async fn prune(&self, filters: &Filters) -> Result<Pruned> {
        filter::check_keys(filters, &PRUNE_KEYS)?;
        let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        let all = switch(filters, "all")?.unwrap_or_default();
        let mut pruned = Pruned::default();
        for view in self.all() {
            let labels = &view.volume.labels;
            let spared = values("label!")
                .iter()
                .any(|label| filter::labels_match(std::slice::from_ref(label), labels));
            let wanted = (all || view.volume.anonymous) && filter::labels_match(values("label"), labels) && !spared;
            if !wanted || !view.users.is_empty() {
                continue;
            }
            let path = view.path.clone();
            let size = blocking(move || Ok(tree_bytes(Path::new(&path)).unwrap_or_default())).await?;
            // One that found a user meanwhile stays.
            if self.remove(&view.volume.name, false).await.is_ok() {
                pruned.deleted.push(view.volume.name);
                pruned.space_reclaimed += size;
            }
        }
        self.context.finish_deletions().await?;
        let reclaimed = [("reclaimed".to_owned(), pruned.space_reclaimed.to_string())];
        self.context.events.publish("volume", "prune", "", reclaimed.into());
        Ok(pruned)
    }

    /// Bytes on disk.
    pub async fn size(&self, view: &VolumeView) -> Result<u64> {
        let path = view.path.clone();
        blocking(move || {
            let failed = |error| Error::system(format!("cannot measure {path}")).because(error);
            tree_bytes(Path::new(&path)).map_err(failed)
        })
        .await
    }
}

/// Containers that mention a volume.
pub fn users_of(table: &Table, name: &str) -> Vec<String> {
    let mentions = |handle: &Handle| {
        let record = handle.record();
        record.mounts.iter().any(|mount| mount.name.as_deref() == Some(name))
    };
    let users = table.handles().into_iter().filter(mentions);
    users.map(|handle| handle.id.to_string()).collect()
}

/// In the words of an engine that has plugins, and not this one.
pub fn check_driver(driver: &str) -> Result<()> {
    if matches!(driver, "" | "local") {
        return Ok(());
    }
    Err(Error::not_found(format!(
        "error looking up volume plugin {driver}: plugin {driver:?} not found"
    )))
}

/// The grammar of volume names.
pub fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    names::check("volume", name).map_err(|_| {
        Error::invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        ))
    })
}

fn switch(filters: &Filters, key: &str) -> Result<Option<bool>> {
    corten_api::filters::switch(filters, key).map_err(|error| Error::invalid(error.to_string()))
}
