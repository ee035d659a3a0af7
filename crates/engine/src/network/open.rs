//! Networks at the start of a daemon: records first, then what the kernel should have.
//!
//! Between the two the containers that run are found, because their addresses and ports are taken over in the same step
//! in which networks are made again.
use std::collections::BTreeMap;

use corten_network::{
    controller::Restored,
    error as network,
    model::{Driver, Network, NetworkRequest},
};
use jiff::Timestamp;

use crate::{
    context::Context,
    error::{Error, Result, causes},
    names,
    network::record::NetworkRecord,
};

/// Of networks in the store.
pub const KIND: &str = "network";
/// Networks that are always there, and cannot be removed.
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

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
            let record = predefined(bare(name, driver), None);
            save(context, &record)?;
            context.network_records.insert(record);
        }
    }
    Ok(())
}

/// Makes the networks be there, with what running containers have on them. What fails is reported and does not keep the
/// rest from working.
pub fn restore(context: &Context, running: &[Restored]) -> Result<()> {
    let records = context.network_records.all();
    let made = records.iter().filter(|record| !record.config_only);
    let networks: Vec<Network> = made.map(|record| record.network.clone()).collect();
    for (what, error) in context.networks.restore(&networks, running) {
        tracing::error!(%what, error = %causes(&error), "cannot restore a network or an attachment");
    }
    // Whoever names a bridge of its own does not mean to go without it.
    context.networks.check_default().map_err(in_words)?;
    // A host on which no default network can be made has containers with other networks, or with none.
    if let Err(error) = settle_default(context, running) {
        tracing::error!(%error, "the default network is not as it is configured");
    }
    Ok(())
}

/// The default network as it is configured now. While containers run on it, it stays as it is.
fn settle_default(context: &Context, running: &[Restored]) -> Result<()> {
    let config = &context.config.network;
    let wanted = (!config.no_default_bridge).then(|| NetworkRequest {
        name: "bridge".to_owned(),
        ..config.default_bridge.clone()
    });
    let mut id = names::random_id();
    if let Ok(record) = context.network_records.find("bridge") {
        let model = &record.network;
        let named_otherwise = model.interface != config.controller.bridge && !names_its_bridge(wanted.as_ref());
        if record.configured == wanted && !named_otherwise {
            return Ok(());
        }
        if running.iter().any(|one| one.attachment.endpoint(&model.id).is_some()) {
            tracing::warn!("the default network keeps its old configuration while containers run on it");
            return Ok(());
        }
        // The same network for whoever knows its id, made anew.
        id.clone_from(&model.id);
        context.networks.remove(&id).map_err(in_words)?;
        forget(context, &id)?;
    }
    let Some(request) = wanted else { return Ok(()) };
    let mut kept = None;
    let keep = |network: &Network| {
        let record = predefined(network.clone(), Some(request.clone()));
        save(context, &record).map_err(|error| network::Error::system(error.to_string()))?;
        kept = Some(record);
        Ok(())
    };
    let made = context.networks.create_default(&id, &request, keep);
    // Recorded even where it could not be made: then it has the same addresses when it can.
    if let Some(record) = kept {
        context.network_records.insert(record);
    }
    made.map(drop).map_err(in_words)
}

/// Has the operator named the default network's bridge by an option of the network?
fn names_its_bridge(request: Option<&NetworkRequest>) -> bool {
    request.is_some_and(|request| request.options.contains_key("com.docker.network.bridge.name"))
}

fn predefined(network: Network, configured: Option<NetworkRequest>) -> NetworkRecord {
    NetworkRecord {
        network,
        created: Timestamp::now(),
        attachable: false,
        labels: BTreeMap::new(),
        ipam_driver: "default".to_owned(),
        ipam_options: BTreeMap::new(),
        configured,
        config_only: false,
        config_from: None,
    }
}

/// Writes a record down.
pub fn save(context: &Context, record: &NetworkRecord) -> Result<()> {
    let failed = || Error::system(format!("cannot save network {}", record.network.name));
    let document = serde_json::to_string(record).map_err(|error| failed().because(error))?;
    let name = Some(record.network.name.as_str());
    let put = context.store.put_record(KIND, &record.network.id, name, &document);
    put.map_err(|error| failed().because(error))
}

/// Takes a record out of the store and out of sight.
pub fn forget(context: &Context, id: &str) -> Result<()> {
    let failed = |error| Error::system(format!("cannot forget network {id}")).because(error);
    context.store.delete_record(KIND, id).map_err(failed)?;
    context.network_records.remove(id);
    Ok(())
}

/// The controller's error as the engine's.
pub fn in_words(error: network::Error) -> Error {
    crate::container::attachment::named(error, "")
}

/// A network of which the kernel knows nothing.
pub fn bare(name: &str, driver: Driver) -> Network {
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
        adopted: false,
        default_bridge: false,
    }
}
