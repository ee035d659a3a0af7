//! Collection: what nothing refers to is deleted, and what a crash tore is mended.
//!
//! A layer lives as long as an image lists it, a container's writable layer stands on it, or a lease holds it. Rows go
//! first, in one transaction, then files: a crash between leaves files without a row, which `repair` takes away.
use std::{collections::HashSet, fs, io, path::Path};

use rusqlite::{Params, Row, params};
use rustix::fs::syncfs;

use crate::{error::Error, store::Store, unpack::Layer};

impl Store {
    /// Deletes layers that nobody needs; returns the bytes of their files. Deleting goes on in the background.
    pub fn collect(&self) -> Result<u64, Error> {
        let gate = self.leases.gate();
        let mut layers = self.layers_where(
            "id NOT IN (SELECT layer FROM image_layers) AND id NOT IN (SELECT layer FROM active_layers)",
        )?;
        layers.retain(|layer| !gate.is_held(&layer.id));
        self.transaction("delete layers", |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM layers WHERE id = ?1")?;
            layers
                .iter()
                .try_for_each(|layer| delete.execute([&layer.id]).map(drop))
        })?;
        for layer in &layers {
            self.discard_layer(&layer.id)?;
        }
        Ok(layers.iter().map(|layer| layer.size).sum())
    }

    /// Writes all layers to the disk, so that they need not be made again after a power cut. Takes long; meant for a
    /// thread in the background after a load.
    pub fn settle(&self) -> Result<(), Error> {
        let layers = self.layers_where("boot IS NOT NULL")?;
        if layers.is_empty() {
            return Ok(());
        }
        let path = self.layout.layers();
        let directory = fs::File::open(&path).map_err(Error::io("open", &path))?;
        syncfs(&directory).map_err(Error::errno("write to disk what is in", &path))?;
        self.transaction("settle layers", |transaction| {
            let mut update = transaction.prepare_cached("UPDATE layers SET boot = NULL WHERE id = ?1")?;
            layers
                .iter()
                .try_for_each(|layer| update.execute([&layer.id]).map(drop))
        })
    }

    /// Makes records and files agree. Runs before anything else has the store.
    pub(crate) fn repair(&self) -> Result<(), Error> {
        self.forget_missing_actives()?;
        for layer in self.unsettled_layers()? {
            // The machine went down before these files were known to be on the disk.
            if let Err(error) = self.unpack_again(&layer) {
                tracing::error!("layer sha256:{} is damaged and no longer here: {error}", layer.id);
                self.delete_damaged(&layer.id)?;
            }
        }
        let layers: HashSet<String> = self.layers_where("TRUE")?.into_iter().map(|layer| layer.id).collect();
        self.discard_strangers(&self.layout.layers(), |name| name == "empty" || layers.contains(name))?;
        let images: HashSet<String> = self.rows("SELECT id FROM images", [], |row| row.get(0))?;
        self.discard_strangers(&self.layout.blobs(), |name| {
            layers.contains(name) || images.contains(name)
        })
    }

    fn layers_where(&self, condition: &str) -> Result<Vec<Layer>, Error> {
        let query = format!("SELECT id, size, tar_size FROM layers WHERE {condition}");
        self.rows(&query, [], |row| {
            Ok(Layer {
                id: row.get(0)?,
                size: row.get::<_, i64>(1)? as u64,
                tar_size: row.get::<_, i64>(2)? as u64,
            })
        })
    }

    fn unsettled_layers(&self) -> Result<Vec<Layer>, Error> {
        let query = "SELECT id FROM layers WHERE boot = ?1";
        let here: HashSet<String> = self.rows(query, [&self.boot], |row| row.get(0))?;
        let mut layers = self.layers_where("boot IS NOT NULL")?;
        layers.retain(|layer| !here.contains(&layer.id));
        Ok(layers)
    }

    fn rows<T, C: FromIterator<T>>(
        &self,
        query: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<C, Error> {
        let connection = self.database.lock();
        let mut statement = connection
            .prepare_cached(query)
            .map_err(Error::database("read layers"))?;
        let rows = statement.query_map(parameters, read);
        rows.and_then(Iterator::collect).map_err(Error::database("read layers"))
    }

    /// With everything that stands on it.
    fn delete_damaged(&self, layer: &str) -> Result<(), Error> {
        self.transaction("delete a damaged layer", |transaction| {
            let images = "DELETE FROM images WHERE id IN (SELECT image FROM image_layers WHERE layer = ?1)";
            transaction.execute(images, [layer])?;
            transaction.execute("DELETE FROM active_layers WHERE layer = ?1", [layer])?;
            transaction.execute("DELETE FROM layers WHERE id = ?1", [layer])?;
            Ok(())
        })
    }

    fn forget_missing_actives(&self) -> Result<(), Error> {
        let there: HashSet<String> = self.actives()?.into_iter().collect();
        self.transaction("release layers", |transaction| {
            let mut statement = transaction.prepare("SELECT DISTINCT container FROM active_layers")?;
            let known: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            for container in known.iter().filter(|container| !there.contains(*container)) {
                transaction.execute("DELETE FROM active_layers WHERE container = ?1", params![container])?;
            }
            Ok(())
        })
    }

    fn discard_layer(&self, id: &str) -> Result<(), Error> {
        self.sweeper.discard(&self.layout.layer(id))?;
        self.sweeper.discard(&self.layout.blob(id))
    }

    fn discard_strangers(&self, directory: &Path, known: impl Fn(&str) -> bool) -> Result<(), Error> {
        let entries = fs::read_dir(directory).map_err(Error::io("read", directory))?;
        let paths: Vec<_> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()
            .map_err(Error::io("read", directory))?;
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(&known) {
                self.sweeper.discard(&path)?;
            }
        }
        Ok(())
    }
}
