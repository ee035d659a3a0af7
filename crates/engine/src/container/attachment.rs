//! A running container's attachment to networks: made before its program runs, released when it ended.
//!
//! It is also written into the task's directory before the program runs: a daemon that is killed between the start and
//! the saving of the state must not let the next one give the same addresses and ports to somebody else.
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::IpAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use corten_network::{
    error as network,
    model::{Attachment, LinkedPort},
};

use crate::{
    container::{
        endpoints,
        etc::{self, Facts, LinkTarget},
        links,
        mode::NetworkMode,
        namespaces::join,
        record::Record,
        signals::is_restarting,
        state::Phase,
        supervised::Supervised,
        table::Table,
    },
    context::{Context, blocking},
    error::{Error, Kind, Result},
    names,
    task::{launch::SharedNetwork, mounts::EtcFiles},
};

const FILE: &str = "network";
/// From this many ports on, reserving and releasing takes longer than a thread that serves everybody should be away.
const MANY_PORTS: usize = 16;

impl Supervised {
    /// Addresses and host ports for a start. Absent for a container without interfaces of its own.
    pub async fn reserve(&self) -> Result<Option<Attachment>> {
        let Some(request) = endpoints::attach_request(&self.record, &self.context)? else {
            return Ok(None);
        };
        let name = self.record.name.clone();
        let many = request.ports.len() + request.publish_all.len() > MANY_PORTS;
        let context = Arc::clone(&self.context);
        let reserve = move || {
            let reserved = context.networks.reserve(&request);
            reserved.map(Some).map_err(|error| named(error, &name))
        };
        if many { blocking(reserve).await } else { reserve() }
    }

    /// After a start that failed: nobody heard of the attachment.
    pub fn release_quietly(&mut self) {
        if self.state.attachment.take().is_some() {
            self.context.networks.release(&self.record.id);
        }
    }

    /// The container's files that depend on its addresses. One that joins another's network has that one's.
    pub fn write_etc(&self) -> Result<()> {
        if matches!(self.network_mode(), NetworkMode::Container(_)) {
            return Ok(());
        }
        let gateways = host_gateways(&self.context);
        let none = Attachment::default();
        let attachment = self.state.attachment.as_ref().unwrap_or(&none);
        let links = self.links.as_deref().unwrap_or_default();
        etc::write(&self.facts(attachment, &gateways, links), &self.etc_files())
    }

    /// While it runs: it had `attachment` and `links` before. What was changed inside the container stays.
    pub fn update_etc(&self, attachment: Option<&Attachment>, links: &[LinkTarget]) {
        let gateways = host_gateways(&self.context);
        let none = Attachment::default();
        let before = self.facts(attachment.unwrap_or(&none), &gateways, links);
        let after = self.facts(
            self.state.attachment.as_ref().unwrap_or(&none),
            &gateways,
            self.links.as_deref().unwrap_or_default(),
        );
        if let Err(error) = etc::update(&before, &after, &self.etc_files()) {
            tracing::error!(container = %self.record.id, %error, "cannot update a container's hosts");
        }
    }

    /// A container that this one has a link to has started, perhaps with another address.
    pub fn refresh_links(&mut self) {
        let links = links::targets(&self.record, &self.table);
        // A new daemon does not know what the file says; it asks before anybody can have started.
        let before = self.links.replace(links).or_else(|| self.links.clone());
        if self.state.phase.is_running() {
            self.update_etc(self.state.attachment.as_ref(), before.as_deref().unwrap_or_default());
            if let Err(error) = self.context.networks.link(&self.record.id, self.reach()) {
                tracing::error!(container = %self.record.id, %error, "a container does not reach those that it is linked to");
            }
        }
    }

    /// What it reaches by its links.
    pub fn reach(&self) -> Vec<LinkedPort> {
        let attachment = self.state.attachment.as_ref();
        links::reach(&self.record, attachment, links::running(&self.table))
    }

    fn facts<'a>(&'a self, attachment: &'a Attachment, gateways: &'a [IpAddr], links: &'a [LinkTarget]) -> Facts<'a> {
        Facts {
            record: &self.record,
            config: &self.context.config.network,
            attachment,
            gateways: Some(gateways),
            links,
        }
    }

    fn etc_files(&self) -> EtcFiles {
        etc::files(&self.context.store.layout().container(&self.record.id))
    }

    pub fn network_mode(&self) -> NetworkMode<'_> {
        NetworkMode::of(&self.record.config, &self.record.host_config)
    }

    /// What the next daemon must know of a container that runs.
    pub fn write_witness(&self) {
        let directory = self.context.store.layout().task(&self.record.id);
        if let Some(attachment) = &self.state.attachment
            && let Err(error) = write(&directory, attachment)
        {
            tracing::error!(container = %self.record.id, %error, "cannot save a running container's networks");
        }
    }

    /// On users' networks a container answers to its name.
    pub fn rename_endpoints(&mut self) {
        let Some(attachment) = &mut self.state.attachment else {
            return;
        };
        let (record, records) = (&self.record, &self.context.network_records);
        self.context.networks.rename(attachment, |id| {
            let Some(network) = records.get(id).filter(|network| !network.network.default_bridge) else {
                return Vec::new();
            };
            let wishes = &record.networking.endpoints_config;
            let wish = wishes.get(&network.network.name).cloned().flatten();
            endpoints::dns_names(record, &wish.unwrap_or_default())
        });
        self.write_witness();
    }

    pub fn tell_connected(&self) {
        for endpoint in self
            .state
            .attachment
            .iter()
            .flat_map(|attachment| &attachment.endpoints)
        {
            self.tell_network("connect", &endpoint.network, &endpoint.network_name);
        }
    }

    /// The network of another container, where this one joins it: found anew at each start.
    pub fn shared_network(&mut self) -> Result<Option<SharedNetwork>> {
        let NetworkMode::Container(reference) = self.network_mode() else {
            return Ok(None);
        };
        let other = self.table.find(reference)?.snapshot();
        if other.record.id == self.record.id {
            return Err(Error::invalid("cannot join own network"));
        }
        if other.state.phase == Phase::Restarting {
            return Err(is_restarting(&other.record.id));
        }
        if !other.state.phase.is_running() {
            return Err(Error::conflict(format!(
                "cannot join network of a non running container: {}",
                other.record.id
            )));
        }
        let owner = etc_owner(&self.table, &other.record);
        if (&owner.config.hostname, &owner.config.domainname)
            != (&self.record.config.hostname, &self.record.config.domainname)
        {
            let record = Arc::make_mut(&mut self.record);
            record.config.hostname.clone_from(&owner.config.hostname);
            record.config.domainname.clone_from(&owner.config.domainname);
        }
        let directory = self.context.store.layout().container(&owner.id);
        Ok(Some(SharedNetwork {
            namespace: join(&other, "net")?,
            files: etc::files(&directory),
        }))
    }

    /// Gives back what the container had on networks: before anybody hears that it ended, so that whoever hears of it
    /// can have the same port or address.
    pub async fn release(&mut self) {
        let Some(attachment) = self.state.attachment.take() else {
            return;
        };
        let (context, id) = (Arc::clone(&self.context), self.record.id.clone());
        if attachment.ports.len() > MANY_PORTS {
            let released = blocking(move || {
                context.networks.release(&id);
                Ok(())
            });
            let _ = released.await;
        } else {
            context.networks.release(&id);
        }
        for endpoint in &attachment.endpoints {
            self.tell_network("disconnect", &endpoint.network, &endpoint.network_name);
        }
    }

    pub fn tell_network(&self, action: &str, network: &str, name: &str) {
        tell(&self.context, &self.record, action, network, name);
    }
}

/// What `host-gateway` means where the operator does not say: the default bridge's own addresses.
pub fn host_gateways(context: &Context) -> Vec<IpAddr> {
    let networks = context.network_records.all();
    let default = networks.iter().find(|record| record.network.default_bridge);
    let subnets = default.map(|record| record.network.subnets.as_slice());
    subnets
        .unwrap_or_default()
        .iter()
        .filter_map(|subnet| subnet.gateway)
        .collect()
}

/// The container whose hosts, hostname and resolv.conf one has that joins another's network.
pub fn etc_owner(table: &Table, record: &Arc<Record>) -> Arc<Record> {
    let mut owner = Arc::clone(record);
    // A chain that leads nowhere, or back, ends with somebody.
    for _ in 0..32 {
        let NetworkMode::Container(reference) = NetworkMode::of(&owner.config, &owner.host_config) else {
            break;
        };
        let Ok(next) = table.find(reference) else { break };
        owner = next.record();
    }
    owner
}

/// `connect`, `disconnect`: an event of the network's.
pub fn tell(context: &Context, record: &Record, action: &str, network: &str, name: &str) {
    let driver = context
        .network_records
        .get(network)
        .map_or("bridge", |record| record.network.driver.name());
    let attributes = [("container", record.id.as_str()), ("name", name), ("type", driver)];
    let attributes: BTreeMap<_, _> = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    context.events.publish("network", action, network, attributes);
}

/// Makes in a new container's namespace what was reserved, and leaves a witness of it.
pub async fn attach(
    context: Arc<Context>,
    attachment: Attachment,
    links: Vec<LinkedPort>,
    pid: i32,
    directory: PathBuf,
) -> Result<()> {
    let many = attachment.ports.len() > MANY_PORTS;
    let attach = move || {
        write(&directory, &attachment)?;
        let namespace = namespace(pid)
            .map_err(|error| Error::system("cannot open the container's network namespace").because(error))?;
        let attached = context.networks.attach(&attachment, namespace.as_fd());
        let linked = attached.and_then(|()| context.networks.link(&attachment.container, links));
        linked.map_err(|error| named(error, ""))
    };
    if many { blocking(attach).await } else { attach() }
}

/// A process's network namespace.
pub fn namespace(pid: i32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/ns/net"))
}

/// Leaves the witness in a task's directory.
pub fn write(directory: &Path, attachment: &Attachment) -> Result<()> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::system("cannot write a task's attachment").because(error)
    };
    let text = serde_json::to_vec(attachment).map_err(|error| failed(error.into()))?;
    let (path, new) = (directory.join(FILE), directory.join("network.new"));
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|error| failed(error.into()))
}

/// What the witness says; absent where there is none.
pub fn read(directory: &Path) -> Option<Attachment> {
    let text = fs::read(directory.join(FILE)).ok()?;
    let attachment = serde_json::from_slice(&text);
    attachment
        .inspect_err(|error| tracing::error!(directory = %directory.display(), %error, "cannot read an attachment"))
        .ok()
}

/// The controller's error as the engine's. A port that somebody else has is said in the frame that clients know.
pub fn named(error: network::Error, container: &str) -> Error {
    let about_ports = error.to_string().starts_with("Bind for ") || error.to_string().contains("bind host port");
    let kind = match error.kind() {
        _ if about_ports => Kind::System,
        network::Kind::Invalid => Kind::Invalid,
        network::Kind::NotFound => Kind::NotFound,
        network::Kind::Conflict => Kind::Conflict,
        network::Kind::Forbidden => Kind::Forbidden,
        network::Kind::Unsupported => Kind::NotImplemented,
        network::Kind::System => Kind::System,
    };
    let mut message = crate::error::causes(&error);
    if about_ports {
        // The endpoint's id was made up for this attempt, and means nothing any more.
        let endpoint = names::random_id();
        message =
            format!("driver failed programming external connectivity on endpoint {container} ({endpoint}): {message}");
    }
    Error::new(kind, message)
}
