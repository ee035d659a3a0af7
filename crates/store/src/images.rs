//! Images: a configuration, the layers that it lists, and the names that point at it.
//!
//! Read from memory, written through a transaction first. Names are whatever the caller uses as canonical; the bytes of a
//! configuration are kept as they came, as their digest is the image's id.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use oci_spec::image::ImageConfiguration;
use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

use crate::{
    content::{digest, sha256_hex},
    error::Error,
    store::Store,
    unpack::Layer,
};

#[derive(Debug, Clone)]
pub struct Image {
    /// The hexadecimal digest of `raw`.
    pub id: String,
    pub raw: Arc<[u8]>,
    pub configuration: Arc<ImageConfiguration>,
    /// Lowest first.
    pub layers: Vec<Layer>,
    pub names: BTreeSet<String>,
    /// When a name was last set, in nanoseconds since the epoch.
    pub tagged_nanoseconds: Option<i64>,
}

/// All images, by id and by name.
#[derive(Debug, Default)]
pub struct Images {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    images: HashMap<String, Arc<Image>>,
    names: BTreeMap<String, String>,
}

impl Images {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Table {
    /// Replaces an image by a changed copy of itself; who has the old one keeps it.
    fn change(&mut self, id: &str, change: impl FnOnce(&mut Image)) {
        if let Some(image) = self.images.get_mut(id) {
            change(Arc::make_mut(image));
        }
    }

    /// Returns whose the name was.
    fn set_name(&mut self, name: &str, id: &str, now_nanoseconds: i64) -> Option<String> {
        let previous = self.names.insert(name.to_owned(), id.to_owned());
        if let Some(previous) = &previous {
            self.change(previous, |image| {
                image.names.remove(name);
            });
        }
        self.change(id, |image| {
            image.names.insert(name.to_owned());
            image.tagged_nanoseconds = Some(now_nanoseconds);
        });
        previous
    }
}

fn insert(transaction: &Transaction<'_>, id: &str, layers: &[Layer]) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO images (id) VALUES (?1)")?
        .execute([id])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO image_layers (image, position, layer) VALUES (?1, ?2, ?3)")?;
    for (position, layer) in layers.iter().enumerate() {
        insert.execute(params![id, position as i64, layer.id])?;
    }
    Ok(())
}

fn set_name(transaction: &Transaction<'_>, name: &str, id: &str, now_nanoseconds: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO image_names (name, image) VALUES (?1, ?2)")?
        .execute([name, id])?;
    transaction
        .prepare_cached("UPDATE images SET tagged_nanoseconds = ?2 WHERE id = ?1")?
        .execute(params![id, now_nanoseconds])
        .map(drop)
}

impl Store {
    /// Keeps an image whose layers are all here, held by a lease of the caller's. The same image again is fine.
    pub fn put_image(&self, raw: &[u8]) -> Result<Arc<Image>, Error> {
        self.insert_image(raw, None)
    }

    /// The same, with a name that it has from its first moment on.
    pub fn put_named_image(&self, raw: &[u8], name: &str, now_nanoseconds: i64) -> Result<Arc<Image>, Error> {
        self.insert_image(raw, Some((name, now_nanoseconds)))
    }

    /// Record and name in one transaction: nobody ever sees one without the other.
    fn insert_image(&self, raw: &[u8], name: Option<(&str, i64)>) -> Result<Arc<Image>, Error> {
        let configuration = parse_configuration(raw).map_err(Error::Configuration)?;
        let layers = self.layers_of(&configuration)?;
        let mut table = self.images.lock();
        let id = digest(raw);
        let known = table.images.contains_key(&id);
        if !known {
            self.content.put(raw)?;
        }
        self.transaction("write an image", |transaction| {
            if !known {
                insert(transaction, &id, &layers)?;
            }
            name.map_or(Ok(()), |(name, now)| set_name(transaction, name, &id, now))
        })?;
        if !known {
            let image = Image {
                id: id.clone(),
                raw: raw.into(),
                configuration: Arc::new(configuration),
                layers,
                names: BTreeSet::new(),
                tagged_nanoseconds: None,
            };
            table.images.insert(id.clone(), Arc::new(image));
        }
        if let Some((name, now)) = name {
            table.set_name(name, &id, now);
        }
        Ok(table.images[&id].clone())
    }

    /// In no order.
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.images.lock().images.values().cloned().collect()
    }

    pub fn image(&self, id: &str) -> Option<Arc<Image>> {
        self.images.lock().images.get(id).cloned()
    }

    /// Images whose id begins so, two at most: one is an answer, two are ambiguous.
    pub fn images_beginning(&self, prefix: &str) -> Vec<Arc<Image>> {
        let table = self.images.lock();
        let matching = table.images.values().filter(|image| image.id.starts_with(prefix));
        matching.take(2).cloned().collect()
    }

    pub fn image_named(&self, name: &str) -> Option<Arc<Image>> {
        let table = self.images.lock();
        let id = table.names.get(name)?;
        table.images.get(id).cloned()
    }

    /// Points a name at an image; says which other image had it.
    pub fn name_image(&self, name: &str, id: &str, now_nanoseconds: i64) -> Result<Option<String>, Error> {
        let mut table = self.images.lock();
        if !table.images.contains_key(id) {
            return Err(Error::NoSuchImage { id: id.to_owned() });
        }
        self.transaction("name an image", |transaction| {
            set_name(transaction, name, id, now_nanoseconds)
        })?;
        let previous = table.set_name(name, id, now_nanoseconds);
        Ok(previous.filter(|previous| previous != id))
    }

    /// Takes a name away; the image stays. No such name is fine.
    pub fn forget_name(&self, name: &str) -> Result<(), Error> {
        let mut table = self.images.lock();
        self.transaction("remove a name of an image", |transaction| {
            transaction
                .prepare_cached("DELETE FROM image_names WHERE name = ?1")?
                .execute([name])
                .map(drop)
        })?;
        if let Some(id) = table.names.remove(name) {
            table.change(&id, |image| {
                image.names.remove(name);
            });
        }
        Ok(())
    }

    /// Removes an image with its names. Its layers stay until they are collected. No such image is fine.
    pub fn delete_image(&self, id: &str) -> Result<(), Error> {
        let mut table = self.images.lock();
        self.transaction("delete an image", |transaction| {
            transaction
                .prepare_cached("DELETE FROM images WHERE id = ?1")?
                .execute([id])
                .map(drop)
        })?;
        table.images.remove(id);
        table.names.retain(|_, image| image != id);
        self.sweeper.discard(&self.layout.blob(id))
    }

    /// Fills the memory from the database. An image that is damaged is named, and lost.
    pub(crate) fn read_images(&self) -> Result<(), Error> {
        let rows = read_rows(&self.database.lock()).map_err(Error::database("read images"))?;
        let mut damaged = Vec::new();
        let mut table = self.images.lock();
        for (id, tagged_nanoseconds, names) in rows {
            let read = self.read_image(&id, tagged_nanoseconds, names);
            match read {
                Ok(image) => {
                    let names = image.names.iter().map(|name| (name.clone(), id.clone()));
                    table.names.extend(names);
                    table.images.insert(id, Arc::new(image));
                }
                Err(error) => {
                    tracing::error!("image sha256:{id} is damaged and no longer here: {error}");
                    damaged.push(id);
                }
            }
        }
        drop(table);
        damaged.iter().try_for_each(|id| self.delete_image(id))
    }

    fn read_image(&self, id: &str, tagged_nanoseconds: Option<i64>, names: BTreeSet<String>) -> Result<Image, Error> {
        let raw = self.content.read(id)?;
        let found = digest(&raw);
        if found != id {
            let expected = id.to_owned();
            return Err(Error::Digest { expected, found });
        }
        let configuration = parse_configuration(&raw).map_err(Error::Configuration)?;
        Ok(Image {
            id: id.to_owned(),
            layers: self.layers_of(&configuration)?,
            raw: raw.into(),
            configuration: Arc::new(configuration),
            names,
            tagged_nanoseconds,
        })
    }

    fn layers_of(&self, configuration: &ImageConfiguration) -> Result<Vec<Layer>, Error> {
        let layers = configuration.rootfs().diff_ids().iter().map(|diff_id| {
            let missing = || Error::NoSuchLayer { id: diff_id.clone() };
            let id = sha256_hex(diff_id).ok_or_else(missing)?;
            self.layer(id)?.ok_or_else(missing)
        });
        layers.collect()
    }

    pub(crate) fn transaction(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), Error> {
        let mut connection = self.database.lock();
        let run = || {
            let transaction = connection.transaction()?;
            work(&transaction)?;
            transaction.commit()
        };
        run().map_err(Error::database(doing))
    }
}

/// Reads a configuration as leniently as Go does: null is as good as absent.
pub fn parse_configuration(raw: &[u8]) -> Result<ImageConfiguration, serde_json::Error> {
    let mut document: Value = serde_json::from_slice(raw)?;
    drop_nulls(&mut document);
    serde_json::from_value(document)
}

/// serde_json's recursion limit has bounded the depth already.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

type Row = (String, Option<i64>, BTreeSet<String>);

fn read_rows(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut names: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut statement = connection.prepare("SELECT image, name FROM image_names")?;
    for row in statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
        let (image, name) = row?;
        names.entry(image).or_default().insert(name);
    }
    let mut statement = connection.prepare("SELECT id, tagged_nanoseconds FROM images")?;
    let rows = statement.query_map([], |row| {
        let id: String = row.get(0)?;
        let names = names.remove(&id).unwrap_or_default();
        Ok((id, row.get(1)?, names))
    })?;
    rows.collect()
}
