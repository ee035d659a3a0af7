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

use corten_store::{quota, store::Store};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    events::EventBus,
    names,
    volume::{mounted::Mounted, options},
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
    /// Of the driver, as given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// What a new volume is asked to be.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Absent makes an anonymous one.
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

pub struct Volumes {
    store: Arc<Store>,
    events: EventBus,
    known: Arc<Mutex<Known>>,
    /// Those that containers have mounted from somewhere.
    pub mounted: Mounted,
}

#[derive(Default)]
struct Known {
    volumes: BTreeMap<String, Volume>,
    /// Volumes that a container is about to mention, and how often.
    claims: BTreeMap<String, usize>,
}

/// Keeps a volume from being removed until a container's record mentions it.
pub struct Claim {
    known: Arc<Mutex<Known>>,
    name: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut known = self.known.lock().expect("no panic while locked");
        if let Some(count) = known.claims.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                known.claims.remove(&self.name);
            }
        }
    }
}

impl Volumes {
    /// Reads the records, and makes the directories that a crash kept from being made.
    pub fn open(store: Arc<Store>, events: EventBus) -> Result<Volumes> {
        let mut known = Known::default();
        let records = store
            .records(KIND)
            .map_err(|error| Error::system("cannot read volumes").because(error))?;
        for (name, document) in records {
            let volume = serde_json::from_str(&document)
                .map_err(|error| Error::system(format!("cannot read volume {name}")).because(error))?;
            make_directories(&store, &name)?;
            known.volumes.insert(name, volume);
        }
        Ok(Volumes {
            store,
            events,
            known: Arc::new(Mutex::new(known)),
            mounted: Mounted::default(),
        })
    }

    /// The volume of this name, or a new one for the container `owner`, which an anonymous one goes with. True when it is
    /// new. It stays at least as long as the claim.
    pub fn claim(&self, wish: Wish, owner: &str) -> Result<(Volume, bool, Claim)> {
        let mut known = self.known.lock().expect("no panic while locked");
        let owner = wish.name.is_none().then_some(owner);
        let (volume, new) = self.find_or_make(&mut known, wish, owner)?;
        *known.claims.entry(volume.name.clone()).or_default() += 1;
        let claim = Claim {
            known: Arc::clone(&self.known),
            name: volume.name.clone(),
        };
        Ok((volume, new, claim))
    }

    /// The volume of this name, or a new one for whoever will mention it.
    pub fn create(&self, wish: Wish) -> Result<Volume> {
        let mut known = self.known.lock().expect("no panic while locked");
        Ok(self.find_or_make(&mut known, wish, None)?.0)
    }

    fn find_or_make(&self, known: &mut Known, wish: Wish, owner: Option<&str>) -> Result<(Volume, bool)> {
        if let Some(volume) = wish.name.as_ref().and_then(|name| known.volumes.get(name)) {
            return Ok((volume.clone(), false));
        }
        let volume = Volume {
            anonymous: wish.name.is_none(),
            name: wish.name.unwrap_or_else(names::random_id),
            created: Timestamp::now(),
            owner: owner.map(str::to_owned),
            labels: wish.labels,
            options: wish.options,
        };
        options::check(&volume.name, &volume.options)?;
        let size = options::size(&volume.name, &volume.options)?;
        // The record first: a directory without one would be taken for litter.
        self.save(&volume)?;
        let made = make_directories(&self.store, &volume.name).and_then(|()| match size {
            Some(bytes) => self.store.limit_volume(&volume.name, bytes).map_err(|error| {
                let what = format!("create {}: quota size requested but no quota support", volume.name);
                Error::invalid(what).because(error)
            }),
            None => Ok(()),
        });
        if let Err(error) = made {
            let _ = self.store.delete_record(KIND, &volume.name);
            let _ = self.store.discard(&self.store.layout().volume(&volume.name));
            return Err(error);
        }
        known.volumes.insert(volume.name.clone(), volume.clone());
        self.tell("create", &volume.name, &[]);
        Ok((volume, true))
    }

    /// Lets a volume outlive the container that it was made for.
    pub fn disown(&self, name: &str) -> Result<()> {
        let mut known = self.known.lock().expect("no panic while locked");
        if let Some(volume) = known.volumes.get_mut(name)
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

    /// Refused while somebody claims it, or `users` names containers that mention it.
    pub fn remove(&self, name: &str, users: impl FnOnce() -> Vec<String>) -> Result<()> {
        let mut known = self.known.lock().expect("no panic while locked");
        if !known.volumes.contains_key(name) {
            return Err(Error::not_found(format!("get {name}: no such volume")));
        }
        let users = users();
        if !users.is_empty() || known.claims.contains_key(name) {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let failed = |error| Error::system(format!("remove {name}")).because(error);
        self.store.delete_record(KIND, name).map_err(failed)?;
        known.volumes.remove(name);
        quota::forget(&self.store.layout().volume_data(name));
        self.store.discard(&self.store.layout().volume(name)).map_err(failed)?;
        self.tell("destroy", name, &[]);
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<Volume> {
        let known = self.known.lock().expect("no panic while locked");
        known.volumes.get(name).cloned()
    }

    pub fn all(&self) -> Vec<Volume> {
        let known = self.known.lock().expect("no panic while locked");
        known.volumes.values().cloned().collect()
    }

    /// Where its files are.
    pub fn path(&self, name: &str) -> String {
        self.store.layout().volume_data(name).to_string_lossy().into_owned()
    }

    /// `driver` and more.
    pub fn tell(&self, action: &str, name: &str, more: &[(&str, String)]) {
        let mut attributes: BTreeMap<String, String> = [("driver".to_owned(), "local".to_owned())].into();
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.events.publish("volume", action, name, attributes);
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
