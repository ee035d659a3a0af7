//! The database: every record, in one file, through one connection.
//!
//! WAL with `synchronous=NORMAL` does no fsync per transaction: a crash of the daemon loses nothing, a power cut may lose
//! the last transactions but never tears one.
use std::{
    path::Path,
    sync::{Mutex, MutexGuard},
};

use rusqlite::{Connection, OptionalExtension, params};

use crate::{error::Error, reserve::Reserve};

/// Each entry takes the schema from the version of its index to the next.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE records (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        name TEXT,
        document TEXT NOT NULL,
        PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX record_names ON records (kind, name) WHERE name IS NOT NULL;

    -- A layer exists when its row does. `boot` is the boot during which its files were written, until they are known
    -- to be on disk.
    CREATE TABLE layers (
        id TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        tar_size INTEGER NOT NULL,
        boot TEXT
    ) WITHOUT ROWID;

    -- Compressed forms that a layer is known under.
    CREATE TABLE sources (
        digest TEXT PRIMARY KEY,
        layer TEXT NOT NULL REFERENCES layers (id) ON DELETE CASCADE,
        size INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX source_layers ON sources (layer);

    -- `id` is the hexadecimal digest of the configuration, whose bytes are a blob.
    CREATE TABLE images (
        id TEXT PRIMARY KEY,
        tagged_nanoseconds INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE image_layers (
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        layer TEXT NOT NULL REFERENCES layers (id),
        PRIMARY KEY (image, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layer_layers ON image_layers (layer);
    CREATE TABLE image_names (
        name TEXT PRIMARY KEY,
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX image_name_images ON image_names (image);

    -- Layers under the writable layers of containers.
    CREATE TABLE active_layers (
        container TEXT NOT NULL,
        layer TEXT NOT NULL,
        PRIMARY KEY (container, layer)
    ) WITHOUT ROWID;
    CREATE INDEX active_layer_layers ON active_layers (layer);
"];

#[derive(Debug)]
pub struct Database {
    connection: Mutex<Connection>,
    reserve: Reserve,
}

impl Database {
    pub fn open(path: &Path) -> Result<Database, Error> {
        let connection = Connection::open(path).map_err(Error::database("open records"))?;
        configure(&connection)?;
        migrate(&connection, path)?;
        Ok(Database {
            connection: Mutex::new(connection),
            reserve: Reserve::open(path.with_extension("reserve")),
        })
    }

    /// A change that must be possible on a full disk, because it is how a disk gets emptier.
    pub(crate) fn with_reserve<T>(&self, change: impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let connection = self.lock();
        let result = match change(&connection) {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) && self.reserve.spend() => {
                change(&connection)
            }
            result => result,
        };
        if result.is_ok() {
            self.reserve.replenish();
        }
        result
    }

    /// The connection, for the files of this crate that own tables.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Inserts or replaces; a name belongs to one id of its kind.
    pub fn put_record(&self, kind: &str, id: &str, name: Option<&str>, document: &str) -> Result<(), Error> {
        let connection = self.lock();
        let result = connection
            .prepare_cached(
                "INSERT INTO records (kind, id, name, document) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, document = excluded.document",
            )
            .and_then(|mut statement| statement.execute(params![kind, id, name, document]));
        let (Err(error), Some(name)) = (&result, name) else {
            return result.map(drop).map_err(Error::database("write a record"));
        };
        if error.sqlite_error_code() != Some(rusqlite::ErrorCode::ConstraintViolation) {
            return result.map(drop).map_err(Error::database("write a record"));
        }
        let holder = connection
            .query_row(
                "SELECT id FROM records WHERE kind = ?1 AND name = ?2",
                params![kind, name],
                |row| row.get(0),
            )
            .optional()
            .map_err(Error::database("read a record"))?
            .unwrap_or_default();
        Err(Error::NameTaken {
            name: name.to_owned(),
            holder,
        })
    }

    pub fn delete_record(&self, kind: &str, id: &str) -> Result<(), Error> {
        let change = |connection: &Connection| {
            let mut statement = connection.prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?;
            statement.execute(params![kind, id])
        };
        self.with_reserve(change)
            .map(drop)
            .map_err(Error::database("delete a record"))
    }

    /// The same, with what the object holds of layers.
    pub fn delete_container(&self, kind: &str, id: &str) -> Result<(), Error> {
        let change = |connection: &Connection| {
            let transaction = connection.unchecked_transaction()?;
            transaction
                .prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?
                .execute(params![kind, id])?;
            transaction
                .prepare_cached("DELETE FROM active_layers WHERE container = ?1")?
                .execute([id])?;
            transaction.commit()
        };
        self.with_reserve(change).map_err(Error::database("delete a container"))
    }

    /// Ids and documents of one kind, by id.
    pub fn records(&self, kind: &str) -> Result<Vec<(String, String)>, Error> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT id, document FROM records WHERE kind = ?1 ORDER BY id")
            .map_err(Error::database("read records"))?;
        let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.and_then(Iterator::collect)
            .map_err(Error::database("read records"))
    }
}

fn configure(connection: &Connection) -> Result<(), Error> {
    let configured = connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;",
    );
    connection.set_prepared_statement_cache_capacity(64);
    configured.map_err(Error::database("set the journal mode"))
}

fn migrate(connection: &Connection, path: &Path) -> Result<(), Error> {
    let version: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(Error::database("read the schema's version"))?;
    let version = version as usize;
    if version > MIGRATIONS.len() {
        return Err(Error::Newer {
            path: path.to_owned(),
            found: version.to_string(),
        });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let next = index + 1;
        connection
            .execute_batch(&format!("BEGIN; {migration} PRAGMA user_version = {next}; COMMIT;"))
            .map_err(Error::database("bring the schema up to date"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_one_record_of_its_kind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let database = Database::open(&path).unwrap();
        database.put_record("container", "1", Some("web"), "{}").unwrap();
        database.put_record("volume", "9", Some("web"), "{}").unwrap();
        let taken = database.put_record("container", "2", Some("web"), "{}").unwrap_err();
        assert!(matches!(taken, Error::NameTaken { holder, .. } if holder == "1"));
        database.put_record("container", "1", Some("www"), "{\"a\":1}").unwrap();
        database.put_record("container", "2", Some("web"), "{}").unwrap();
        database.put_record("container", "3", None, "{}").unwrap();
        database.put_record("container", "4", None, "{}").unwrap();
        database.delete_record("container", "3").unwrap();
        drop(database);
        let records = Database::open(&path).unwrap().records("container").unwrap();
        let expected = [("1", "{\"a\":1}"), ("2", "{}"), ("4", "{}")];
        assert_eq!(
            records,
            expected.map(|(id, document)| (id.to_owned(), document.to_owned()))
        );
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        drop(Database::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(matches!(Database::open(&path), Err(Error::Newer { .. })));
    }
}
