//! Every network's record, in memory: the store keeps the same.
//!
//! Names are unique. A reference is a name, an id, or the unique beginning of an id, in this order.
use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use crate::{
    error::{Error, Kind, Result},
    network::record::NetworkRecord,
};

#[derive(Debug, Default)]
pub struct Networks {
    /// Sorted by id, for prefixes.
    by_id: RwLock<BTreeMap<String, Arc<NetworkRecord>>>,
}

impl Networks {
    pub fn find(&self, reference: &str) -> Result<Arc<NetworkRecord>> {
        let by_id = self.by_id.read().expect("no panic while locked");
        let named = by_id.values().find(|record| record.network.name == reference);
        if let Some(record) = named.or_else(|| by_id.get(reference)) {
            return Ok(Arc::clone(record));
        }
        let unknown = || Error::not_found(format!("network {reference} not found"));
        if reference.is_empty() {
            return Err(unknown());
        }
        let from = (std::ops::Bound::Included(reference), std::ops::Bound::Unbounded);
        let mut matches = by_id
            .range::<str, _>(from)
            .take_while(|(id, _)| id.starts_with(reference));
        match (matches.next(), matches.next()) {
            (Some((_, record)), None) => Ok(Arc::clone(record)),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "network {reference} is ambiguous ({} matches found based on ID prefix)",
                matches.count() + 2
            ))),
            (None, _) => Err(unknown()),
        }
    }

    pub fn get(&self, id: &str) -> Option<Arc<NetworkRecord>> {
        self.by_id.read().expect("no panic while locked").get(id).cloned()
    }

    /// By id.
    pub fn all(&self) -> Vec<Arc<NetworkRecord>> {
        let by_id = self.by_id.read().expect("no panic while locked");
        by_id.values().cloned().collect()
    }

    /// Adds it, or puts it in place of the one with the same id.
    pub fn insert(&self, record: NetworkRecord) -> Arc<NetworkRecord> {
        let record = Arc::new(record);
        let mut by_id = self.by_id.write().expect("no panic while locked");
        by_id.insert(record.network.id.clone(), Arc::clone(&record));
        record
    }

    /// Adds one whose name nobody has.
    pub fn insert_new(&self, record: NetworkRecord) -> Result<Arc<NetworkRecord>> {
        let mut by_id = self.by_id.write().expect("no panic while locked");
        let name = &record.network.name;
        if by_id.values().any(|other| other.network.name == *name) {
            return Err(Error::new(
                Kind::Conflict,
                format!("network with name {name} already exists"),
            ));
        }
        let record = Arc::new(record);
        by_id.insert(record.network.id.clone(), Arc::clone(&record));
        Ok(record)
    }

    pub fn remove(&self, id: &str) {
        self.by_id.write().expect("no panic while locked").remove(id);
    }
}
