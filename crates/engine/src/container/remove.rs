//! `rm`: a container goes, with its writable layer, its log, and on request its anonymous volumes.
use crate::{
    container::{
        handle::{Command, Handle, Snapshot},
        state::Phase,
        stop,
        supervised::{KIND, Supervised},
        view::RemoveOptions,
    },
    error::{Error, Kind, Result},
    task::launch,
    volume::service::users_of,
};

impl Supervised {
    /// Everything at once, record first: what a crash leaves after that is litter without a record, which the next
    /// daemon sweeps up.
    pub fn remove(&mut self, volumes: bool) -> Result<()> {
        match self.state.phase {
            Phase::Created | Phase::Exited | Phase::Dead => {}
            Phase::Removing => {
                return Err(Error::conflict(format!(
                    "removal of container {} is already in progress",
                    self.record.id
                )));
            }
            phase => {
                let (status, hint) = match phase {
                    Phase::Paused => ("paused", "container is paused and must be unpaused first"),
                    Phase::Restarting => ("restarting", "stop the container before removing or force remove"),
                    _ => ("running", "stop the container before removing or force remove"),
                };
                return Err(Error::conflict(format!(
                    "cannot remove container \"/{}\": container is {status}: {hint}",
                    self.record.name
                )));
            }
        }
        let id = self.record.id.clone();
        if !volumes {
            self.keep_volumes()?;
        }
        let store = &self.context.store;
        store
            .delete_container(KIND, &id)
            .map_err(|error| Error::system(format!("cannot remove container {}", self.record.name)).because(error))?;
        self.waiting.clear();
        self.context.keeper.let_go(&id);
        for directory in [store.layout().active(&id), store.layout().container(&id)] {
            let removed = store.discard(&directory);
            if let Err(error) = removed {
                tracing::error!(container = %id, %error, "files of a removed container remain");
            }
        }
        launch::discard(&store.layout().task(&id));
        if volumes {
            self.remove_volumes();
        }
        self.table.remove(&id);
        self.context.execs.container_removed(&id);
        self.removed = true;
        self.tell("destroy", &[]);
        self.show();
        Ok(())
    }

    /// Before the record goes: from then on a volume with an owner is litter.
    fn keep_volumes(&self) -> Result<()> {
        let anonymous = self.record.mounts.iter().filter(|mount| mount.anonymous);
        anonymous
            .filter_map(|mount| mount.name.as_deref())
            .try_for_each(|name| self.context.volumes.disown(name))
    }

    /// Anonymous ones that no other container uses (`--volumes-from` shares them); those outlive this one.
    fn remove_volumes(&self) {
        let own = self
            .record
            .mounts
            .iter()
            .filter(|mount| mount.anonymous)
            .filter_map(|mount| mount.name.as_ref());
        for name in own {
            let others = || {
                let mut users = users_of(&self.table, name);
                users.retain(|user| *user != self.record.id);
                users
            };
            let removed = match self.context.volumes.remove(name, others) {
                Err(error) if error.kind() == Kind::Conflict => self.context.volumes.disown(name),
                Err(error) if error.kind() == Kind::NotFound => Ok(()),
                removed => removed,
            };
            if let Err(error) = removed {
                tracing::warn!(volume = %name, %error, "cannot remove a volume");
            }
        }
    }
}

/// How often a removal by force kills what somebody else starts again.
const FORCED_ATTEMPTS: usize = 10;

/// Kills it first where that is asked for.
pub async fn remove(handle: &Handle, options: RemoveOptions) -> Result<()> {
    if !options.force {
        return ask(handle, options).await;
    }
    let mut removed = forced(handle, options).await;
    for _ in 1..FORCED_ATTEMPTS {
        let again = |error: &Error| error.kind() == Kind::Conflict && handle.snapshot().state.phase.is_up();
        if !removed.as_ref().is_err_and(again) {
            break;
        }
        // Another client's start or restart came between the end and the removal.
        removed = forced(handle, options).await;
    }
    removed
}

async fn forced(handle: &Handle, options: RemoveOptions) -> Result<()> {
    let running = handle.snapshot().state.phase.is_up();
    if running {
        let rests = |snapshot: &Snapshot| snapshot.removed || !snapshot.state.phase.is_up();
        stop::kill_all(handle, "cannot remove container", Some(options.volumes), rests).await?;
    }
    match ask(handle, options).await {
        // Its end was its removal.
        Err(error) if error.kind() == Kind::NotFound && running => Ok(()),
        removed => removed,
    }
}

async fn ask(handle: &Handle, options: RemoveOptions) -> Result<()> {
    let volumes = options.volumes;
    handle.ask(|reply| Command::Remove { volumes, reply }).await
}
