//! `network`: which networks there are, who is on them, and the verbs that change that.
//!
//! What a network is asked to be is put together in `flags/network_request`.
use corten_api::client::{Client, Error};
use corten_api::types::network::{Network, NetworkConnectRequest, NetworkDisconnectRequest};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome, integer};
use crate::command::{confirm, filter, ps};
use crate::failure::Failure;
use crate::flags::{environment, network, network_request};
use crate::order::natural;
use crate::session::Session;
use crate::table::{self, Listing};
use crate::template::value::Value;
use crate::units;

pub static CREATE: Command = Command {
    name: "create",
    usage: "[OPTIONS] NETWORK",
    about: "Create a network",
    aliases: &["network create"],
    flags: &[&[
        Flag::switch("attachable", "Let containers join by hand (of a swarm)"),
        Flag::list("aux-address", "map", "Addresses that others have (name=address)"),
        Flag::single("config-from", "string", "Network to copy the configuration from"),
        Flag::switch("config-only", "Only keep configuration for other networks"),
        Flag::single(
            "driver",
            "string",
            "Driver of the network: bridge, macvlan, ipvlan (default \"bridge\")",
        )
        .short('d'),
        Flag::list("gateway", "strings", "Gateway of a subnet").check(network_request::check_list),
        Flag::switch("ingress", "Make the routing mesh of a swarm"),
        Flag::switch("internal", "No way out and none in"),
        Flag::list("ip-range", "strings", "Part of a subnet that addresses come from")
            .check(network_request::check_list),
        Flag::single("ipam-driver", "string", "Driver of addresses (default \"default\")"),
        Flag::list("ipam-opt", "map", "Options of the driver of addresses"),
        Flag::switch_on("ipv4", "Give IPv4 addresses"),
        Flag::switch("ipv6", "Give IPv6 addresses"),
        Flag::list("label", "list", "Set a label").check(environment::check_label),
        Flag::list("opt", "map", "Option of the driver").short('o'),
        Flag::single("scope", "string", "How far the network reaches"),
        Flag::list("subnet", "strings", "Subnet (10.1.0.0/16)").check(network_request::check_list),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(create(session, matches)),
};
use crate::{errln, out, outln};

async fn create(session: Session, matches: Matches) -> Outcome {
    let request = network_request::create(&matches)?;
    let created = session.client().await?.create_network(&request).await?;
    if !created.warning.is_empty() {
        errln!("WARNING: {}", created.warning);
    }
    outln!("{}", created.id);
    Ok(0)
}

pub static LS: Command = Command {
    name: "ls",
    usage: "[OPTIONS]",
    about: "List networks",
    aliases: &["network ls", "network list"],
    flags: &[&[
        Flag::list(
            "filter",
            "filter",
            "Show only what meets the condition (\"driver=bridge\")",
        )
        .short('f')
        .check(filter::check),
        Flag::single("format", "string", ps::FORMAT_HELP),
        Flag::switch("no-trunc", "Do not shorten texts"),
        Flag::switch("quiet", "Show ids only").short('q'),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(ls(session, matches)),
};

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

async fn ls(session: Session, matches: Matches) -> Outcome {
    let filters = filter::collect(matches.list("filter"));
    let mut networks = session.client().await?.networks(&filters).await?;
    networks.sort_by(|a, b| natural(&a.name, &b.name));
    let full = matches.on("no-trunc");
    let rows: Vec<Value> = networks.iter().map(|network| row(network, full)).collect();
    let listing = Listing {
        columns: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
        headings: HEADINGS,
        quiet: "{{.ID}}",
    };
    out!("{}", listing.show(matches.some("format"), matches.on("quiet"), &rows)?);
    Ok(0)
}

fn row(network: &Network, full: bool) -> Value {
    let labels: Vec<String> = network
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let id = match full {
        true => network.id.clone(),
        false => table::short_id(&network.id),
    };
    let row = Value::map([
        ("CreatedAt", units::go_time(&network.created)),
        ("Driver", network.driver.clone()),
        ("ID", id),
        ("IPv4", network.enable_ipv4.to_string()),
        ("IPv6", network.enable_ipv6.to_string()),
        ("Internal", network.internal.to_string()),
        ("Labels", labels.join(",")),
        ("Name", network.name.clone()),
        ("Scope", network.scope.clone()),
    ]);
    row.with_method("Label", Value::map(network.labels.clone()))
}

pub static RM: Command = Command {
    name: "rm",
    usage: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    aliases: &["network rm", "network remove"],
    flags: &[&[Flag::switch("force", "A network that is not there is no error").short('f')]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(rm(session, matches)),
};

async fn rm(session: Session, matches: Matches) -> Outcome {
    let client = session.client().await?;
    let mut status = 0;
    for name in &matches.arguments {
        match client.remove_network(name).await {
            Ok(()) => outln!("{name}"),
            Err(error) if matches.on("force") && error.is_not_found() => {}
            Err(error) => {
                errln!("{error}");
                status = 1;
            }
        }
    }
    match status {
        0 => Ok(0),
        status => Err(Failure::new(format!("exit status {status}")).with_status(status)),
    }
}

pub static PRUNE: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove all unused networks",
    aliases: &["network prune"],
    flags: &[&[
        Flag::list(
            "filter",
            "filter",
            "Only those that meet the condition (\"until=<time>\")",
        )
        .check(filter::check),
        Flag::switch("force", "Do not ask").short('f'),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(prune(session, matches)),
};

async fn prune(session: Session, matches: Matches) -> Outcome {
    let warning = "WARNING! This will remove all custom networks not used by at least one container.";
    if !matches.on("force") && !confirm::ask(warning) {
        return Ok(0);
    }
    prune_now(&*session.client().await?, &matches).await?;
    Ok(0)
}

/// Removes networks that nobody uses, and names them.
pub async fn prune_now(client: &Client, matches: &Matches) -> Result<(), Error> {
    let pruned = client.prune_networks(&filter::collect(matches.list("filter"))).await?;
    let deleted = pruned.networks_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        outln!("Deleted Networks:\n{}\n", deleted.join("\n"));
    }
    Ok(())
}

pub static CONNECT: Command = Command {
    name: "connect",
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    aliases: &["network connect"],
    flags: &[&[
        Flag::list("alias", "strings", "Another name in the network").check(network_request::check_list),
        Flag::list("driver-opt", "strings", "Option of the driver").check(network_request::check_list),
        Flag::single(
            "gw-priority",
            "int",
            "The network with the highest one has the default route",
        )
        .check(integer),
        Flag::single("ip", "string", "IPv4 address (172.30.100.104)"),
        Flag::single("ip6", "string", "IPv6 address (2001:db8::33)"),
        Flag::list("link", "list", "Link to another container").check(network::link),
        Flag::list("link-local-ip", "strings", "Link-local address").check(network_request::check_list),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |session, matches| Box::pin(connect(session, matches)),
};

async fn connect(session: Session, matches: Matches) -> Outcome {
    let request = NetworkConnectRequest {
        container: matches.argument(1).to_string(),
        endpoint_config: network_request::endpoint(&matches)?,
    };
    let client = session.client().await?;
    client.connect_network(matches.argument(0), &request).await?;
    Ok(0)
}

pub static DISCONNECT: Command = Command {
    name: "disconnect",
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    aliases: &["network disconnect"],
    flags: &[&[Flag::switch("force", "Even where the container is gone").short('f')]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |session, matches| Box::pin(disconnect(session, matches)),
};

async fn disconnect(session: Session, matches: Matches) -> Outcome {
    let request = NetworkDisconnectRequest {
        container: matches.argument(1).to_string(),
        force: matches.on("force"),
    };
    let client = session.client().await?;
    client.disconnect_network(matches.argument(0), &request).await?;
    Ok(0)
}
