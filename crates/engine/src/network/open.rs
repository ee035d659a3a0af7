//! Networks at the start of a daemon: records first, then what the kernel should have.
//!
//! Between the two the containers that run are found, because their addresses and ports are taken over in the same step
//! in which networks are made again.
use std::collections::BTreeMap;

use corten_network::{
    controller::Restored,
    model::{Driver, Network, NetworkRequest},
};
use jiff::Timestamp;

use crate::{
    context::Context,
    error::{Error, Result},
    names,
    network::record::NetworkRecord,
};

/// Of networks in the store.
pub const KIND: &str = "network";

/// Reads the records, and adds those predefined ones that need nothing of the kernel's.
pub fn load(context: &Context) -> Result<()> {
    let documents = context
        .store
        .records(KIND)
        .map_err(|error| Error::system("cannot read the networks' records").because(error))?;
    for (id, text) in documents {
        match serde_json::from_str::<NetworkRecord>(&text) {
            Ok(record) => drop(context.network_records.insert(record)),
            Err(error) => tracing::error!(network = %id, %error, "cannot read a network's record: it is left alone"),
        }
    }
    for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
        if context.network_records.find(name).is_err() {
            add(context, bare(name, driver))?;
        }
    }
    Ok(())
}

/// Makes the networks be there, with what running containers have on them. What fails is reported and does not keep the
/// rest from working.
pub fn restore(context: &Context, running: &[Restored]) -> Result<()> {
    let records = context.network_records.all();
    let networks: Vec<Network> = records.iter().map(|record| record.network.clone()).collect();
    for (what, error) in context.networks.restore(&networks, running) {
        tracing::error!(%what, error = %crate::error::causes(&error), "cannot restore a network or an attachment");
    }
    let config = &context.config.network;
    if !config.no_default_bridge && context.network_records.find("bridge").is_err() {
        let request = NetworkRequest {
            name: "bridge".to_owned(),
            ..config.default_bridge.clone()
        };
        match context.networks.create(&names::random_id(), &request) {
            Ok(network) => add(context, network)?,
            Err(error) => tracing::error!(error = %crate::error::causes(&error), "cannot make the default bridge"),
        }
    }
    Ok(())
}

fn add(context: &Context, network: Network) -> Result<()> {
    let record = NetworkRecord {
        network,
        created: Timestamp::now(),
        attachable: false,
        labels: BTreeMap::new(),
        ipam_driver: "default".to_owned(),
        ipam_options: BTreeMap::new(),
    };
    let document = serde_json::to_string(&record)
        .map_err(|error| Error::system("a network's record cannot be written").because(error))?;
    context
        .store
        .put_record(KIND, &record.network.id, Some(&record.network.name), &document)
        .map_err(|error| Error::system(format!("cannot save network {}", record.network.name)).because(error))?;
    context.network_records.insert(record);
    Ok(())
}

fn bare(name: &str, driver: Driver) -> Network {
    Network {
        id: names::random_id(),
        name: name.to_owned(),
        driver,
        ipv4: true,
        ipv6: false,
        internal: false,
        subnets: Vec::new(),
        options: BTreeMap::new(),
        interface: String::new(),
        default_bridge: false,
    }
}
