//! Volumes: directories that outlive containers.
//!
//! A volume is a record and `volumes/<name>/_data`. It is in use while a container's record mentions it; the caller
//! knows that, this file does not.
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    sync::{Arc, Mutex},
};

use corten_store::store::Store;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    events::EventBus,
    names,
};

const KIND: &str = "volume";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub created: Timestamp,
    /// Made without a name of the user's: `volume prune` takes it first.
    #[serde(default)]
    pub anonymous: bool,
    /// The container that an anonymous volume was made for and goes with; absent once it is to outlive it.
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

pub struct Volumes {
    store: Arc<Store>,
    events: EventBus,
    known: Mutex<BTreeMap<String, Volume>>,
}

impl Volumes {
    /// Reads the records, and makes the directories that a crash kept from being made.
    pub fn open(store: Arc<Store>, events: EventBus) -> Result<Volumes> {
        let mut known = BTreeMap::new();
        let records = store
            .records(KIND)
            .map_err(|error| Error::system("cannot read volumes").because(error))?;
        for (name, document) in records {
            let volume = serde_json::from_str(&document)
                .map_err(|error| Error::system(format!("cannot read volume {name}")).because(error))?;
            make_directories(&store, &name)?;
            known.insert(name, volume);
        }
        Ok(Volumes {
            store,
            events,
            known: Mutex::new(known),
        })
    }

    /// The volume of this name, or a new anonymous one for the container `owner`. True when it is new.
    pub fn get_or_create(&self, name: Option<&str>, owner: &str) -> Result<(Volume, bool)> {
        self.find_or_make(name, name.is_none().then_some(owner), BTreeMap::new())
    }

    /// The volume of this name, or a new one for whoever will mention it; `None` makes an anonymous one.
    pub fn create(&self, name: Option<&str>, labels: BTreeMap<String, String>) -> Result<Volume> {
        Ok(self.find_or_make(name, None, labels)?.0)
    }

    fn find_or_make(
        &self,
        name: Option<&str>,
        owner: Option<&str>,
        labels: BTreeMap<String, String>,
    ) -> Result<(Volume, bool)> {
        let mut known = self.known.lock().expect("no panic while locked");
        if let Some(volume) = name.and_then(|name| known.get(name)) {
            return Ok((volume.clone(), false));
        }
        let volume = Volume {
            name: name.map_or_else(names::random_id, str::to_owned),
            created: Timestamp::now(),
            anonymous: name.is_none(),
            owner: owner.map(str::to_owned),
            labels,
        };
        // The record first: a directory without one would be taken for litter.
        self.save(&volume)?;
        if let Err(error) = make_directories(&self.store, &volume.name) {
            let _ = self.store.delete_record(KIND, &volume.name);
            return Err(error);
        }
        known.insert(volume.name.clone(), volume.clone());
        self.tell("create", &volume.name);
        Ok((volume, true))
    }

    /// Lets a volume outlive the container that it was made for.
    pub fn disown(&self, name: &str) -> Result<()> {
        let mut known = self.known.lock().expect("no panic while locked");
        if let Some(volume) = known.get_mut(name)
            && volume.owner.take().is_some()
        {
            self.save(volume)?;
        }
        Ok(())
    }

    fn save(&self, volume: &Volume) -> Result<()> {
        let document = serde_json::to_string(volume).expect("a volume is plain data");
        self.store
            .put_record(KIND, &volume.name, Some(&volume.name), &document)
            .map_err(|error| Error::system(format!("create {}", volume.name)).because(error))
    }

    /// The caller has made sure that nobody uses it.
    pub fn remove(&self, name: &str) -> Result<()> {
        let mut known = self.known.lock().expect("no panic while locked");
        if !known.contains_key(name) {
            return Err(Error::not_found(format!("get {name}: no such volume")));
        }
        let failed = |error| Error::system(format!("remove {name}")).because(error);
        self.store.delete_record(KIND, name).map_err(failed)?;
        known.remove(name);
        self.store.discard(&self.store.layout().volume(name)).map_err(failed)?;
        self.tell("destroy", name);
        Ok(())
    }

    pub fn all(&self) -> Vec<Volume> {
        self.known
            .lock()
            .expect("no panic while locked")
            .values()
            .cloned()
            .collect()
    }

    /// Where its files are.
    pub fn path(&self, name: &str) -> String {
        self.store.layout().volume_data(name).to_string_lossy().into_owned()
    }

    fn tell(&self, action: &str, name: &str) {
        self.events.publish(
            "volume",
            action,
            name,
            [("driver".to_owned(), "local".to_owned())].into(),
        );
    }
}

fn make_directories(store: &Store, name: &str) -> Result<()> {
    let make = |path: std::path::PathBuf, mode| match fs::DirBuilder::new().mode(mode).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::system(format!("create {name}: cannot create {}", path.display())).because(error))
        }
        _ => Ok(()),
    };
    make(store.layout().volume(name), 0o701)?;
    make(store.layout().volume_data(name), 0o755)
}
