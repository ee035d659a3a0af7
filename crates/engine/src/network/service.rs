//! The verbs on networks.
//!
//! A network's record is written before the kernel has anything of it and deleted after the kernel has nothing left: a
//! crash in between leaves a record, and the next daemon makes the network from it.
use std::{collections::BTreeMap, sync::Arc};

use corten_api::types::network::EndpointSettings;
use corten_network::{error as network, model::Network};
use jiff::Timestamp;

use crate::{
    container::{endpoints, handle::Command, prune::moment, table::Table, view::Filters},
    context::{Context, blocking},
    error::{Error, Kind, Result},
    filter, names,
    network::{
        configuration,
        open::{self, KIND, PREDEFINED, in_words},
        record::{CreateNetwork, NetworkEndpoint, NetworkRecord, NetworkView},
    },
};

const LIST_KEYS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNE_KEYS: [&str; 3] = ["label", "label!", "until"];

/// References are names, ids, or unique beginnings of ids, in this order.
pub struct NetworkService {
    context: Arc<Context>,
    table: Arc<Table>,
}

/// Docker takes nearly everything as a network's name, blanks within it too.
fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("network name cannot be empty"));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "Invalid network name ({name:?}), control characters are not allowed"
        )));
    }
    Ok(())
}

impl NetworkService {
    pub fn new(context: Arc<Context>, table: Arc<Table>) -> NetworkService {
        NetworkService { context, table }
    }

    /// The new network's id.
    pub async fn create(&self, asked: CreateNetwork) -> Result<String> {
        if PREDEFINED.contains(&asked.request.name.as_str()) {
            return Err(Error::new(
                Kind::Forbidden,
                format!(
                    "operation is not permitted on predefined {} network",
                    asked.request.name
                ),
            ));
        }
        check_name(&asked.request.name)?;
        let context = Arc::clone(&self.context);
        let record = blocking(move || {
            if asked.config_only {
                return configuration::keep(&context, asked);
            }
            make(&context, configuration::apply(&context, asked)?)
        })
        .await?;
        self.tell("create", &record);
        Ok(record.network.id.clone())
    }

    pub fn inspect(&self, reference: &str) -> Result<NetworkView> {
        let record = self.context.network_records.find(reference)?;
        let mut views = self.views(vec![record]);
        Ok(views.remove(0))
    }

    /// All of them, without who is on them.
    pub fn records(&self) -> Vec<Arc<NetworkRecord>> {
        self.context.network_records.all()
    }

    /// By name. Filters: `dangling`, `driver`, `id`, `label`, `name`, `scope`, `type`.
    pub fn list(&self, filters: &Filters) -> Result<Vec<NetworkView>> {
        filter::check_keys(filters, &LIST_KEYS)?;
        let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        let one_of = |key: &str, own: &str| values(key).is_empty() || values(key).iter().any(|text| text == own);
        for kind in values("type") {
            if !matches!(kind.as_str(), "custom" | "builtin") {
                return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
            }
        }
        let dangling =
            corten_api::filters::switch(filters, "dangling").map_err(|error| Error::invalid(error.to_string()))?;
        let mut views = self.views(self.context.network_records.all());
        views.retain(|view| {
            let model = &view.record.network;
            let builtin = is_predefined(model);
            let kind = if builtin { "builtin" } else { "custom" };
            one_of("driver", model.driver.name())
                && one_of("scope", "local")
                && one_of("type", kind)
                && (values("id").is_empty() || values("id").iter().any(|text| model.id.starts_with(text)))
                && filter::any_name_matches(values("name"), &model.name)
                && filter::labels_match(values("label"), &view.record.labels)
                && dangling.is_none_or(|dangling| (view.endpoints.is_empty() && !builtin) == dangling)
        });
        views.sort_by(|one, other| one.record.network.name.cmp(&other.record.network.name));
        Ok(views)
    }

    pub async fn remove(&self, reference: &str) -> Result<()> {
        let record = self.context.network_records.find(reference)?;
        if is_predefined(&record.network) {
            return Err(Error::new(
                Kind::Forbidden,
                format!("{} is a pre-defined network and cannot be removed", record.network.name),
            ));
        }
        self.refuse_members(&record)?;
        configuration::refuse_used(&self.context, &record)?;
        let (context, id) = (Arc::clone(&self.context), record.network.id.clone());
        blocking(move || {
            match context.networks.remove(&id) {
                // What could not be made at the daemon's start can be forgotten all the same.
                Err(error) if error.kind() == network::Kind::NotFound => {}
                removed => removed.map_err(in_words)?,
            }
            open::forget(&context, &id)
        })
        .await?;
        self.tell("destroy", &record);
        Ok(())
    }

    /// By name, so that a user knows whom to stop. The controller refuses those that start at this moment.
    fn refuse_members(&self, record: &Arc<NetworkRecord>) -> Result<()> {
        let views = self.views(vec![Arc::clone(record)]);
        let member = |end: &NetworkEndpoint| format!("name:\"{}\" id:\"{}\"", end.name, names::short(&end.container));
        let members: Vec<String> = views.iter().flat_map(|view| &view.endpoints).map(member).collect();
        let model = &record.network;
        match members.is_empty() {
            true => Ok(()),
            false => Err(Error::new(
                Kind::Forbidden,
                format!(
                    "error while removing network: network {} id {} has active endpoints ({})",
                    model.name,
                    model.id,
                    members.join(", ")
                ),
            )),
        }
    }

    /// Removes user networks without containers; their names. Filters: `label`, `label!`, `until`.
    pub async fn prune(&self, filters: &Filters) -> Result<Vec<String>> {
        filter::check_keys(filters, &PRUNE_KEYS)?;
        let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        let until = values("until")
            .iter()
            .map(|text| moment(text))
            .collect::<Result<Vec<_>>>()?;
        let mut deleted = Vec::new();
        for view in self.views(self.context.network_records.all()) {
            let (record, labels) = (&view.record, &view.record.labels);
            let spared = values("label!")
                .iter()
                .any(|label| filter::labels_match(std::slice::from_ref(label), labels));
            if is_predefined(&record.network)
                || record.config_only
                || !view.endpoints.is_empty()
                || spared
                || !filter::labels_match(values("label"), labels)
                || until.iter().any(|until| record.created >= *until)
            {
                continue;
            }
            // One that found a container meanwhile stays.
            if self.remove(&record.network.id).await.is_ok() {
                deleted.push(record.network.name.clone());
            }
        }
        let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        self.context.events.publish(KIND, "prune", "", attributes);
        Ok(deleted)
    }

    /// Joins a container, running or not, to a network.
    pub async fn connect(&self, reference: &str, container: &str, wish: EndpointSettings) -> Result<()> {
        let handle = self.table.find(container)?;
        let network = self.context.network_records.find(reference)?.network.id.clone();
        let wish = Box::new(wish);
        handle.ask(|reply| Command::Connect { network, wish, reply }).await
    }

    /// Takes a container out of a network, with `force` one that is not connected as well. Of a container that is gone
    /// nothing is left on a network.
    pub async fn disconnect(&self, reference: &str, container: &str, force: bool) -> Result<()> {
        let handle = match self.table.find(container) {
            Err(error) if force && error.kind() == Kind::NotFound => {
                self.context.network_records.find(reference)?;
                return Err(Error::not_found(format!("endpoint {container} not found")));
            }
            found => found?,
        };
        let network = reference.to_owned();
        handle.ask(|reply| Command::Disconnect { network, force, reply }).await
    }

    /// With whoever is on them: found in one walk over all containers.
    fn views(&self, records: Vec<Arc<NetworkRecord>>) -> Vec<NetworkView> {
        let mut views: Vec<NetworkView> = records
            .into_iter()
            .map(|record| NetworkView {
                record,
                endpoints: Vec::new(),
                used: false,
            })
            .collect();
        for snapshot in self.table.snapshots() {
            let running = snapshot.state.phase.is_running();
            for view in &mut views {
                let model = &view.record.network;
                let wished = endpoints::uses(&snapshot.record, &view.record);
                let endpoint = snapshot
                    .state
                    .attachment
                    .as_ref()
                    .and_then(|all| all.endpoint(&model.id));
                view.used |= wished || endpoint.is_some();
                // `host` and `none` have members, but no endpoints.
                if endpoint.is_some() || (running && wished && model.interface.is_empty()) {
                    view.endpoints.push(NetworkEndpoint {
                        container: snapshot.record.id.clone(),
                        name: snapshot.record.name.clone(),
                        endpoint: endpoint.cloned(),
                    });
                }
            }
        }
        views
    }

    fn tell(&self, action: &str, record: &NetworkRecord) {
        let model = &record.network;
        let attributes = [("name", model.name.as_str()), ("type", model.driver.name())];
        let attributes: BTreeMap<_, _> = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        self.context.events.publish(KIND, action, model.id.as_str(), attributes);
    }
}

/// Written down before anything of it exists, and forgotten when it could not be made.
fn make(context: &Context, asked: CreateNetwork) -> Result<Arc<NetworkRecord>> {
    let id = names::random_id();
    let CreateNetwork {
        request,
        attachable,
        labels,
        ipam_driver,
        ipam_options,
        config_from,
        ..
    } = asked;
    let mut kept = None;
    let keep = |model: &Network| {
        let record = NetworkRecord {
            network: model.clone(),
            created: Timestamp::now(),
            attachable,
            labels,
            ipam_driver: match ipam_driver.as_str() {
                "" => "default".to_owned(),
                other => other.to_owned(),
            },
            ipam_options,
            configured: Some(request.clone()),
            config_only: false,
            config_from,
        };
        let taken = |error: Error| network::Error::conflict(error.to_string());
        let record = context.network_records.insert_new(record).map_err(taken)?;
        let record = kept.insert(record);
        open::save(context, record).map_err(|error| network::Error::system(error.to_string()))
    };
    let made = context.networks.create(&id, &request, keep);
    match (made, kept) {
        (Ok(_), Some(record)) => Ok(record),
        (Ok(_), None) => Err(Error::system("a network was made that nobody wrote down")),
        (Err(error), kept) => {
            if kept.is_some() {
                open::forget(context, &id)?;
            }
            Err(in_words(error))
        }
    }
}

fn is_predefined(model: &Network) -> bool {
    PREDEFINED.contains(&model.name.as_str())
}
