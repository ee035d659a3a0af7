//! Networks that are only a configuration (`--config-only`), and those made from one (`--config-from`).
use std::{collections::BTreeMap, sync::Arc};

use corten_network::model::{Driver, Network, Subnet};
use jiff::Timestamp;

use crate::{
    context::Context,
    error::{Error, Kind, Result},
    network::{
        open::{bare, save},
        record::{CreateNetwork, NetworkRecord},
    },
};

/// Writes a configuration down, for others to be made from.
pub fn keep(context: &Context, asked: CreateNetwork) -> Result<Arc<NetworkRecord>> {
    let request = asked.request;
    let subnets = request.subnets.iter().filter_map(|wish| {
        Some(Subnet {
            subnet: wish.subnet?,
            range: wish.range,
            gateway: wish.gateway,
            auxiliary: wish.auxiliary.clone(),
        })
    });
    let record = NetworkRecord {
        network: Network {
            ipv4: request.ipv4 != Some(false),
            ipv6: request.ipv6 == Some(true),
            subnets: subnets.collect(),
            options: request.options.clone(),
            ..bare(&request.name, Driver::Null)
        },
        created: Timestamp::now(),
        attachable: false,
        labels: asked.labels,
        ipam_driver: "default".to_owned(),
        ipam_options: asked.ipam_options,
        configured: Some(request),
        config_only: true,
        config_from: None,
    };
    let record = context.network_records.insert_new(record)?;
    save(context, &record).inspect_err(|_| context.network_records.remove(&record.network.id))?;
    Ok(record)
}

/// What is asked for, with what the configuration says that it names.
pub fn apply(context: &Context, mut asked: CreateNetwork) -> Result<CreateNetwork> {
    let Some(name) = &asked.config_from else {
        return Ok(asked);
    };
    let found = context.network_records.find(name);
    let Ok(configuration) = found.and_then(|record| match record.config_only {
        true => Ok(record),
        false => Err(Error::not_found("it is a network")),
    }) else {
        return Err(Error::not_found(format!("configuration network \"{name}\" not found")));
    };
    let said = configuration.configured.clone().unwrap_or_default();
    let request = &mut asked.request;
    (request.ipv4, request.ipv6) = (said.ipv4, said.ipv6);
    (request.subnets, request.options) = (said.subnets, said.options);
    asked.ipam_options.clone_from(&configuration.ipam_options);
    asked.labels = merged(&configuration.labels, asked.labels);
    asked.config_from = Some(configuration.network.name.clone());
    Ok(asked)
}

fn merged(under: &BTreeMap<String, String>, over: BTreeMap<String, String>) -> BTreeMap<String, String> {
    under.clone().into_iter().chain(over).collect()
}

/// A configuration stays while there are networks made from it.
pub fn refuse_used(context: &Context, record: &NetworkRecord) -> Result<()> {
    let name = &record.network.name;
    let records = context.network_records.all();
    let is_used = || records.iter().any(|other| other.config_from.as_ref() == Some(name));
    match record.config_only && is_used() {
        true => Err(Error::new(
            Kind::Forbidden,
            format!("configuration network \"{name}\" is in use"),
        )),
        false => Ok(()),
    }
}
