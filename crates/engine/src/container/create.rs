//! `create`: a request becomes a container that can be started. What fails half way leaves nothing.
use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path, sync::Arc};

use corten_api::types::{
    container::{ContainerConfig, HostConfig},
    platform::Platform,
};
use jiff::Timestamp;

use crate::{
    container::{
        binds, etc, links, merge,
        mount_request::Asked,
        namespaces, networking,
        record::{MountPoint, Record},
        state::State,
        supervised,
        table::Table,
        user_namespace, validate,
        view::CreateOptions,
        volumes_from,
    },
    context::{Context, blocking},
    error::{Error, Result},
    host::Host,
    image::{platform, service::ImageService, view::ImageView},
    log::{facts::Facts, options as log_options},
    names,
    task::{mounts::DEFAULT_SHM_BYTES, spec},
    volume::{
        copy_up,
        options::{Device, bytes},
        service::check_driver,
        volumes::{Claim, Wish},
    },
};

/// What a container stands on: an image, or what a test puts in its place.
#[derive(Debug, Clone, Default)]
pub struct Base {
    pub image_id: String,
    /// diffIDs, lowest first.
    pub layers: Vec<String>,
    pub defaults: ContainerConfig,
    pub platform: Platform,
}

impl Base {
    pub fn of(image: &ImageView) -> Result<Base> {
        Ok(Base {
            image_id: image.id.clone(),
            layers: image.layers.clone(),
            defaults: merge::defaults(&image.raw)?,
            platform: platform::of(&image.configuration),
        })
    }
}

/// What can be said without knowing the image: a client that hears "No such image" goes and fetches it first.
pub fn check(options: &CreateOptions, host: &Host) -> Result<()> {
    validate::check(&mut options.clone(), host).map(drop)
}

/// Makes everything but the supervisor. The name is taken in the table when this succeeds.
pub async fn create(
    context: &Arc<Context>,
    table: &Arc<Table>,
    images: &ImageService,
    base: Base,
    mut options: CreateOptions,
) -> Result<New> {
    let mut warnings = validate::check(&mut options, &context.host)?;
    warnings.extend(check_platform(context, &base, &options)?);
    merge::merge(&mut options.config, base.defaults.clone());
    validate::check_config(&options.config)?;
    complete(context, &mut options)?;
    networking::complete(&mut options, &context.network_records, table)?;
    namespaces::complete(&mut options.host_config, table)?;

    user_namespace::check(context, &options.host_config)?;
    let asked = asked_mounts(context, table, images, &options)?;
    let id = names::random_id();
    let record = Record {
        name: String::new(),
        created: Timestamp::now(),
        image_id: base.image_id,
        platform: "linux".to_owned(),
        config: with_host_name(options.config, &options.host_config, &id)?,
        annotations: options.host_config.annotations.clone().unwrap_or_default(),
        host_config: options.host_config,
        networking: options.networking,
        mounts: Vec::new(),
        layers: base.layers,
        links: Vec::new(),
        id,
    };
    if record.argv().is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    etc::check(&record)?;

    let name = take_name(table, options.name, &record.id)?;
    let mut record = Record {
        name: name.clone(),
        ..record
    };
    match links::resolve(&record, table) {
        Ok(links) => record.links = links,
        Err(error) => {
            table.release(&name, &record.id);
            return Err(error);
        }
    }
    let (made, id) = (Arc::clone(context), record.id.clone());
    match blocking(move || make(&made, record, asked)).await {
        Ok((record, claims)) => Ok(New {
            record,
            warnings,
            claims,
        }),
        Err(error) => {
            table.release(&name, &id);
            Err(error)
        }
    }
}

/// A container that nobody knows of yet.
pub struct New {
    pub record: Record,
    pub warnings: Vec<String>,
    /// Until it is in the table, its volumes are held by these.
    pub claims: Vec<Claim>,
}

/// Every mount asked for, by whatever means; of images, what they consist of.
fn asked_mounts(
    context: &Context,
    table: &Table,
    images: &ImageService,
    options: &CreateOptions,
) -> Result<Vec<Asked>> {
    let host = &options.host_config;
    let remapped = user_namespace::maps(context, host).is_some();
    let taken_over = volumes_from::taken_over(host.volumes_from.as_deref().unwrap_or_default(), table)?;
    let mut all = binds::parse(&options.config, host, taken_over)?;
    for asked in &mut all {
        match asked.point.kind.as_str() {
            "image" if asked.point.layers.is_empty() => {
                asked.point.layers = images.inspect(&asked.point.source)?.layers;
            }
            "volume" => check_driver(&host.volume_driver)?,
            "bind" if !remapped && follows_user_namespace(&asked.point) => {
                return Err(Error::invalid(
                    "IDMapping.Source \"userns\" is for containers in a user namespace of their own: this one has none \
                     (the daemon's --userns-remap)",
                ));
            }
            _ => {}
        }
    }
    Ok(all)
}

fn follows_user_namespace(point: &MountPoint) -> bool {
    point.owners.as_ref().is_some_and(|owners| owners.source == "userns")
}

/// Everything on disk, the record last: until it is there, nothing of this counts.
fn make(context: &Context, mut record: Record, asked: Vec<Asked>) -> Result<(Record, Vec<Claim>)> {
    let mut claims = Vec::new();
    let made = make_parts(context, &mut record, asked, &mut claims)
        .and_then(|()| supervised::save(context, &record, &State::default()));
    match made {
        Ok(()) => Ok((record, claims)),
        Err(error) => {
            let store = &context.store;
            let _ = store.remove_active(&record.id);
            let _ = store.discard(&store.layout().container(&record.id));
            drop(claims);
            let names = record.mounts.iter().filter_map(|mount| mount.name.as_deref());
            let own =
                |name: &&str| context.volumes.get(name).and_then(|volume| volume.owner).as_ref() == Some(&record.id);
            for name in names.filter(own) {
                let _ = context.volumes.remove(name, Vec::new);
            }
            Err(error)
        }
    }
}

fn make_parts(context: &Context, record: &mut Record, asked: Vec<Asked>, claims: &mut Vec<Claim>) -> Result<()> {
    let layout = context.store.layout();
    let directory = layout.container(&record.id);
    make_directory(&directory)?;
    make_directory(&directory.join("log"))?;
    context
        .store
        .prepare_active(&record.id, &record.layers)
        .map_err(|error| Error::system("cannot make the container's writable layer").because(error))?;
    let options = record.host_config.storage_opt.iter().flatten();
    let mut sizes = options.filter(|(key, _)| key.eq_ignore_ascii_case("size"));
    // What was asked for was checked before anything was made.
    let own = sizes.next().and_then(|(_, value)| bytes(value));
    if let Some(size) = own.or(context.config.default_size) {
        let limited = context.store.limit_active(&record.id, size);
        limited.map_err(|error| Error::invalid("storage option size").because(error))?;
    }
    for asked in asked {
        make_mount(context, record, asked, claims)?;
    }
    Ok(())
}

/// Makes the source of a mount be there, and writes the mount into the record.
fn make_mount(context: &Context, record: &mut Record, asked: Asked, claims: &mut Vec<Claim>) -> Result<()> {
    let mut point = asked.point;
    match point.kind.as_str() {
        "bind" => {
            point.create_source = asked.create_source;
            check_source(context, &record.host_config, &point.source, asked.create_source)?;
        }
        "image" => context
            .store
            .hold_more(&record.id, &point.layers)
            .map_err(|error| Error::system(format!("cannot hold image {}", point.source)).because(error))?,
        "volume" => {
            let wish = Wish {
                name: point.name.clone(),
                labels: asked.labels,
                options: asked.options,
            };
            let (volume, new, claim) = context.volumes.claim(wish, &record.id)?;
            claims.push(claim);
            point.source = context.volumes.path(&volume.name);
            point.name = Some(volume.name);
            if Device::of(&volume.options).is_some() {
                // It is filled when it is mounted.
                point.copy_up = asked.copy_up;
            } else if asked.copy_up && (new || is_empty(Path::new(&point.source))) {
                let (target, source) = (point.destination.clone(), point.source.clone());
                // In the record first, so that a failure takes it along.
                record.mounts.push(point);
                return copy_up::copy_up(&context.store, &record.layers, &target, Path::new(&source));
            }
        }
        _ => {}
    }
    record.mounts.push(point);
    Ok(())
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn check_source(context: &Context, host: &HostConfig, source: &str, create: bool) -> Result<()> {
    match fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            user_namespace::make_source(context, host, source)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {source}"
        ))),
        Err(error) => Err(Error::invalid(format!("invalid mount config for type \"bind\": {source}")).because(error)),
    }
}

fn make_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .mode(0o710)
        .create(path)
        .map_err(|error| Error::system(format!("cannot create {}", path.display())).because(error))
}

/// The name asked for, or a generated one that is free.
fn take_name(table: &Table, asked: Option<String>, id: &str) -> Result<String> {
    if let Some(name) = asked {
        table.reserve(&name, id)?;
        return Ok(name);
    }
    for attempt in 0.. {
        let name = names::generate(attempt);
        if table.reserve(&name, id).is_ok() {
            return Ok(name);
        }
    }
    unreachable!("the attempts do not end")
}

/// An image for another machine is refused when a platform was asked for, and warned about when not.
fn check_platform(context: &Context, base: &Base, options: &CreateOptions) -> Result<Option<String>> {
    let image = &base.platform;
    if image.architecture.is_empty() {
        return Ok(None);
    }
    if let Some(asked) = options.platform.as_deref().filter(|platform| !platform.is_empty()) {
        let asked = Platform::parse(asked).map_err(|error| Error::invalid(error.to_string()))?;
        platform::check(&options.config.image, image, Some(&asked))?;
        return Ok(None);
    }
    let host = Platform::new("linux", context.host.architecture, "");
    Ok((!host.has(image)).then(|| {
        format!(
            "The requested image's platform ({image}) does not match the detected host platform ({host}) and no \
             specific platform was requested"
        )
    }))
}

/// What Docker fills in, so that `inspect` tells the same.
fn complete(context: &Context, options: &mut CreateOptions) -> Result<()> {
    let facts = Facts::before_create(&options.config, &options.host_config.log_config);
    let host = &mut options.host_config;
    log_options::check(
        &mut host.log_config,
        &context.config.log_driver,
        &context.config.log_options,
        &facts,
    )?;
    let live = context.live();
    if host.shm_size == 0 {
        host.shm_size = match live.default_shm_size {
            0 => DEFAULT_SHM_BYTES,
            bytes => bytes,
        };
    }
    let default = |mode: &mut String, word: &str| {
        if mode.is_empty() {
            *mode = word.to_owned();
        }
    };
    default(&mut host.ipc_mode, &live.default_ipc_mode);
    default(
        &mut host.cgroupns_mode,
        match (live.default_cgroupns_mode.as_str(), context.host.cgroup_v2) {
            ("", true) => "private",
            ("", false) => "host",
            (chosen, _) => chosen,
        },
    );
    default(&mut host.restart_policy.name, "no");
    for mode in [&mut host.pid_mode, &mut host.uts_mode] {
        if mode == "private" {
            mode.clear();
        }
    }
    if !host.privileged {
        host.masked_paths.get_or_insert_with(spec::masked_paths);
        host.readonly_paths.get_or_insert_with(spec::readonly_paths);
    }
    Ok(())
}

fn with_host_name(mut config: ContainerConfig, host: &HostConfig, id: &str) -> Result<ContainerConfig> {
    let shared = host.uts_mode == "host";
    if shared && !config.hostname.is_empty() {
        return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
    }
    if config.hostname.is_empty() {
        config.hostname = if shared || host.network_mode == "host" {
            etc::host_name().map_err(|error| Error::system("cannot read the host's name").because(error))?
        } else {
            names::short(id).to_owned()
        };
    }
    Ok(config)
}
