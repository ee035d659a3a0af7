//! `SIGHUP`: the configuration file is read again, and what may change while the daemon runs does.
//!
//! A file that is no good changes nothing. The whole file counts: a key that is not in it any more is at its default.
use std::{collections::BTreeMap, sync::Arc};

use corten_engine::engine::Engine;
use serde_json::Value;
use tokio::signal::unix::Signal;

use crate::{
    config::{file, flags::Flags, load::Config, tls::TlsFiles},
    daemon::chain,
    listen::tls::Tls,
    log, notify,
};

/// What a reload needs to know of the one before.
pub struct Reload {
    flags: Flags,
    given: BTreeMap<String, Value>,
    /// Where certificates are; other paths need a new start.
    files: Option<TlsFiles>,
    tls: Option<Arc<Tls>>,
    engine: Engine,
}

impl Reload {
    pub fn new(flags: Flags, config: Config, engine: Engine, tls: Option<Arc<Tls>>) -> Reload {
        Reload {
            flags,
            given: config.given,
            files: config.doors.tls,
            tls,
            engine,
        }
    }

    /// Reloads whenever it is told to; never returns.
    pub async fn serve(&mut self, hang_up: &mut Signal) {
        loop {
            if hang_up.recv().await.is_none() {
                return std::future::pending().await;
            }
            notify::reloading();
            if let Err(error) = self.reload() {
                tracing::error!(
                    "cannot reload the configuration, the old one stays in force: {}",
                    chain(&*error)
                );
            }
            notify::ready();
        }
    }

    fn reload(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let config = Config::load(&self.flags)?;
        if let (Some(tls), Some(files)) = (&self.tls, &self.files) {
            tls.reload(files)?;
        }
        let changed = file::need_restart(&self.given, &config.given);
        if !changed.is_empty() {
            tracing::warn!("a new start is needed for changes of {}", changed.join(", "));
        }
        log::set_level(config.log.level);
        self.engine.reload(config.engine.live)?;
        self.given.retain(|key, _| changed.contains(key));
        let others = config.given.into_iter().filter(|(key, _)| !changed.contains(key));
        self.given.extend(others);
        tracing::info!("reloaded the configuration");
        Ok(())
    }
}
