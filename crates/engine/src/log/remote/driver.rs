//! Which remote driver a container has, with its way to the remote: the choice.
use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use crate::{
    error::{Error, Result},
    log::{
        facts::Facts,
        remote::{
            address::Address,
            fluentd::{self, Fluentd},
            gelf::{self, Gelf},
            journald::{self, Journald},
            message::{Batch, Encoder},
            syslog::{self, Syslog},
            wire::Wire,
        },
    },
};

/// Between two attempts, at first and at last.
const WAIT: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The way to a remote. What it is given is sent whole, or again.
pub struct Sender {
    addresses: Vec<Address>,
    options: BTreeMap<String, String>,
    wire: Option<Wire>,
    /// Before the second attempt.
    pub wait: Duration,
    /// After so many attempts a batch is dropped; by default never.
    pub attempts_max: Option<u64>,
}

/// How a driver writes, and where to.
pub struct Driver {
    pub encoder: Box<dyn Encoder>,
    pub sender: Sender,
    /// May the container start while nobody answers?
    pub patient: bool,
}

impl Driver {
    /// The options were checked at create; what they name may have changed since.
    pub fn of(driver: &str, facts: &Facts) -> Result<Driver> {
        let options = &facts.options;
        let mut patient = false;
        let (mut wait, mut attempts_max) = (WAIT, None);
        let (encoder, addresses): (Box<dyn Encoder>, _) = match driver {
            "syslog" => (Box::new(Syslog::new(facts)?), syslog::addresses(options)?),
            "gelf" => {
                let delay = options
                    .get("gelf-tcp-reconnect-delay")
                    .and_then(|delay| delay.parse::<u64>().ok());
                wait = delay.map_or(WAIT, Duration::from_secs);
                (Box::new(Gelf::new(facts)?), vec![gelf::address(options)?])
            }
            "journald" => {
                let address = Address::UnixDatagram(PathBuf::from(journald::SOCKET));
                (Box::new(Journald::new(facts)), vec![address])
            }
            "fluentd" => {
                patient = fluentd::is_async(options);
                (wait, attempts_max) = fluentd::patience(options);
                (Box::new(Fluentd::new(facts)), vec![fluentd::address(options)?])
            }
            other => {
                return Err(Error::invalid(format!(
                    "logger: no log driver named '{other}' is registered"
                )));
            }
        };
        Ok(Driver {
            encoder,
            sender: Sender {
                addresses,
                options: options.clone(),
                wire: None,
                wait,
                attempts_max,
            },
            patient,
        })
    }

    /// Before a container starts: is there somebody? In the words that Docker has for each driver.
    pub async fn probe(&mut self, driver: &str) -> Result<()> {
        if self.patient {
            return Ok(());
        }
        let Err(error) = self.sender.connect().await else {
            return Ok(());
        };
        let reason = match driver {
            "journald" => "journald is not enabled on this host".to_owned(),
            "syslog" if self.sender.addresses.len() > 2 => "Unix syslog delivery error".to_owned(),
            "gelf" => {
                let place = self.sender.addresses.first().map(Address::place).unwrap_or_default();
                format!("gelf: cannot connect to GELF endpoint: {place} {error}")
            }
            _ => error.to_string(),
        };
        Err(Error::system(format!(
            "failed to create task for container: failed to initialize logging driver: {reason}"
        )))
    }
}

impl Sender {
    pub async fn connect(&mut self) -> io::Result<()> {
        if self.wire.is_none() {
            self.wire = Some(Wire::connect(&self.addresses, &self.options).await?);
        }
        Ok(())
    }

    pub async fn send(&mut self, batch: &Batch) -> io::Result<()> {
        let wire = match &mut self.wire {
            Some(wire) => wire,
            none => none.insert(Wire::connect(&self.addresses, &self.options).await?),
        };
        let sent = wire.send(batch).await;
        if sent.is_err() {
            self.wire = None;
        }
        sent
    }

    /// How long to wait after so many attempts in vain.
    pub fn wait_after(&self, attempts: u64) -> Duration {
        let factor = 1u32 << attempts.saturating_sub(1).min(16);
        self.wait.saturating_mul(factor).min(WAIT_MAX.max(self.wait))
    }
}
