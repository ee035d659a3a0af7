//! Every verb on containers, for every door.
//!
//! A `reference` is an id, the unique beginning of one, or a name with or without its slash.
use std::{collections::BTreeMap, future::Future, io::BufRead, sync::Arc};

use corten_store::{layer::diff::Change, layout::Layout};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    container::{
        attach::{self, Attachment},
        commit,
        copy::{self, Outgoing},
        create::{self, Base},
        diff::{self, Export},
        exec::{Exec, ExecOptions, ExecStartOptions},
        execute,
        handle::{Command, Handle},
        list::{self, ImageNames},
        logs::{self, LogStream},
        prune, remove,
        sampler::Sampler,
        signals,
        state::{Phase, State},
        stats::{Purpose, Reading, StatsSample},
        stop, supervised, supervisor,
        table::Table,
        top, update,
        view::{
            AttachOptions, CommitOptions, ContainerView, CreateOptions, Created, Filters, ListOptions, LogsOptions,
            PathStat, Pruned, RemoveOptions, Top, UpdateOptions, WaitCondition, WaitResult, WriteOptions,
        },
        wait,
    },
    context::{Context, blocking},
    error::{Error, Kind, Result, causes},
    image::service::ImageService,
    names, signal,
};

/// How long the end after a SIGKILL is waited for, as Docker does.
const KILL_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

pub struct ContainerService {
    context: Arc<Context>,
    table: Arc<Table>,
    images: Arc<ImageService>,
    /// Cancelled when the engine closes: supervisors let go of their containers.
    closing: CancellationToken,
    sampler: Sampler,
}

impl ContainerService {
    pub(crate) fn new(
        context: Arc<Context>,
        table: Arc<Table>,
        images: Arc<ImageService>,
        closing: CancellationToken,
    ) -> ContainerService {
        let sampler = Sampler::new(context.host.clone(), closing.clone());
        ContainerService {
            context,
            table,
            images,
            closing,
            sampler,
        }
    }

    /// Makes a container that can be started.
    pub async fn create(&self, options: CreateOptions) -> Result<Created> {
        create::check(&options, &self.context.host)?;
        let base = Base::of(&self.images.inspect(&options.config.image)?)?;
        self.create_on(base, options).await
    }

    /// The same on a base that need not be an image.
    pub async fn create_on(&self, base: Base, options: CreateOptions) -> Result<Created> {
        let create::New {
            record,
            warnings,
            claims,
        } = create::create(&self.context, &self.table, &self.images, base, options).await?;
        let record = Arc::new(record);
        supervisor::supervise(
            Arc::clone(&self.context),
            Arc::clone(&self.table),
            Arc::clone(&record),
            State::default(),
            None,
            self.closing.clone(),
        );
        // From now on the table says what the container uses.
        drop(claims);
        supervised::tell(&self.context, &record, "create", &[]);
        Ok(Created {
            id: record.id.clone(),
            warnings,
        })
    }

    /// How many there are, by Docker's word for what they are at.
    pub fn count_by_status(&self) -> BTreeMap<&'static str, usize> {
        const ALL: [&str; 7] = [
            "created",
            "running",
            "paused",
            "restarting",
            "exited",
            "removing",
            "dead",
        ];
        let mut counts = BTreeMap::from(ALL.map(|status| (status, 0)));
        for handle in self.table.handles() {
            *counts.entry(handle.watch.borrow().state.phase.status()).or_default() += 1;
        }
        counts
    }

    /// Starts it. Fails with kind `NotModified` when it runs already.
    pub async fn start(&self, reference: &str) -> Result<()> {
        self.table.find(reference)?.ask(|reply| Command::Start { reply }).await
    }

    /// Stop signal, then SIGKILL after the timeout. Fails with kind `NotModified` when it does not run.
    pub async fn stop(&self, reference: &str, signal: Option<String>, timeout_seconds: Option<i64>) -> Result<()> {
        stop::stop(&self.table.find(reference)?, signal.as_deref(), timeout_seconds).await
    }

    /// Stops it where it runs, and starts it.
    pub async fn restart(&self, reference: &str, signal: Option<String>, timeout_seconds: Option<i64>) -> Result<()> {
        stop::restart(&self.table.find(reference)?, signal.as_deref(), timeout_seconds).await
    }

    /// Sends a signal (SIGKILL when absent) to its first process. After SIGKILL its end is waited for, ten seconds at most:
    /// clients look for it right away.
    pub async fn kill(&self, reference: &str, signal: Option<String>) -> Result<()> {
        let killed = self.signal(reference, signal).await;
        killed.map_err(|error| Error::new(error.kind(), format!("cannot kill container: {reference}: {error}")))
    }

    async fn signal(&self, reference: &str, signal: Option<String>) -> Result<()> {
        let name = signal.filter(|name| !name.is_empty());
        let number = name.as_deref().map_or(Ok(signal::KILL), signal::parse)?;
        let handle = self.table.find(reference)?;
        let exits = handle.snapshot().exits;
        handle.ask(|reply| Command::Signal { number, reply }).await?;
        if number == signal::KILL {
            let ended = handle.wait_until(|now| now.exits != exits || now.removed || !now.state.phase.is_running());
            let _ = tokio::time::timeout(KILL_PATIENCE, ended).await;
        }
        Ok(())
    }

    /// Freezes its processes.
    pub async fn pause(&self, reference: &str) -> Result<()> {
        self.table.find(reference)?.ask(|reply| Command::Pause { reply }).await
    }

    /// Lets them go on.
    pub async fn unpause(&self, reference: &str) -> Result<()> {
        self.table
            .find(reference)?
            .ask(|reply| Command::Unpause { reply })
            .await
    }

    /// Gives it another name.
    pub async fn rename(&self, reference: &str, new_name: &str) -> Result<()> {
        if reference.is_empty() || new_name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let handle = self.table.find(reference)?;
        let name = new_name.strip_prefix('/').unwrap_or(new_name).to_owned();
        names::check("container", &name)?;
        handle.ask(|reply| Command::Rename { name, reply }).await
    }

    /// Changes limits and restart policy; answers with warnings.
    pub async fn update(&self, reference: &str, mut options: UpdateOptions) -> Result<Vec<String>> {
        let warnings = update::check(&mut options, &self.context.host)?;
        let options = Box::new(options);
        self.table
            .find(reference)?
            .ask(|reply| Command::Update { options, reply })
            .await?;
        Ok(warnings)
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, reference: &str, rows: u16, columns: u16) -> Result<()> {
        self.table
            .find(reference)?
            .ask(|reply| Command::Resize { rows, columns, reply })
            .await
    }

    /// Removes it, its writable layer, its log, and on request its anonymous volumes.
    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<()> {
        remove::remove(&self.table.find(reference)?, options).await
    }

    /// Takes a link away, by the name that its owner has for the other container: `owner/alias`.
    pub async fn remove_link(&self, name: &str) -> Result<()> {
        let Some((owner, alias)) = name.trim_start_matches('/').split_once('/') else {
            self.table.find(name)?;
            return Err(Error::new(
                Kind::Conflict,
                "Conflict, cannot remove the default link name of the container",
            ));
        };
        let unknown = || Error::not_found(format!("No such container: {name}"));
        let handle = self.table.find(owner).map_err(|_| unknown())?;
        if !handle.snapshot().record.links.iter().any(|link| link.alias == alias) {
            return Err(unknown());
        }
        let alias = alias.to_owned();
        handle.ask(|reply| Command::Unlink { alias, reply }).await
    }

    /// Removes all that do not run.
    pub async fn prune(&self, filters: &Filters) -> Result<Pruned> {
        let pruned = prune::prune(&self.context, &self.table, filters).await?;
        let reclaimed = pruned.space_reclaimed.to_string();
        self.context
            .events
            .publish("container", "prune", "", [("reclaimed".to_owned(), reclaimed)].into());
        Ok(pruned)
    }

    /// From memory.
    pub fn inspect(&self, reference: &str) -> Result<ContainerView> {
        let handle = self.table.find(reference)?;
        Ok(list::view(
            &self.context,
            &mut ImageNames::new(&self.images),
            handle.snapshot(),
        ))
    }

    /// As `inspect`, with the sizes measured.
    pub async fn inspect_with_size(&self, reference: &str) -> Result<ContainerView> {
        let view = self.inspect(reference)?;
        self.measure(view).await
    }

    /// Newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ContainerView>> {
        let views = list::list(&self.table, &self.images, &options)?;
        if !options.size {
            return Ok(views);
        }
        let mut measured = Vec::with_capacity(views.len());
        for view in views {
            measured.push(self.measure(view).await?);
        }
        Ok(measured)
    }

    async fn measure(&self, mut view: ContainerView) -> Result<ContainerView> {
        let (context, id) = (Arc::clone(&self.context), view.record.id.clone());
        let size = blocking(move || {
            context
                .store
                .active_size(&id)
                .map_err(|error| Error::system("cannot measure a container").because(error))
        });
        let size = size.await?;
        let image = self.images.inspect(&view.record.image_id).map_or(0, |image| image.size);
        view.size_rw = Some(size);
        view.size_root_fs = Some(size + image);
        Ok(view)
    }

    /// Its processes, in ps(1)'s columns.
    pub async fn top(&self, reference: &str, ps_args: &str) -> Result<Top> {
        let handle = self.running(reference)?;
        let pids = handle.ask(|reply| Command::Cgroup { reply }).await?;
        let ps_args = ps_args.to_owned();
        let found = blocking(move || {
            let pids = pids.pids().map_err(|error| Error::system(causes(&error)))?;
            top::top(&pids, &ps_args)
        });
        let top = found.await?;
        let _ = handle
            .ask(|reply| Command::Tell {
                action: "top".to_owned(),
                reply,
            })
            .await;
        Ok(top)
    }

    /// One sample of what it uses; zeroes when it does not run.
    pub async fn stats(&self, reference: &str) -> Result<StatsSample> {
        let readings = self.stats_of(&[reference], Purpose::OneShot).await?;
        Ok(readings
            .first()
            .map(|reading| reading.sample.clone())
            .unwrap_or_default())
    }

    /// One reading of each.
    pub async fn stats_of(&self, references: &[&str], purpose: Purpose) -> Result<Vec<Arc<Reading>>> {
        let handles = references.iter().map(|reference| self.table.find(reference));
        let handles = handles.collect::<Result<Vec<_>>>()?;
        Ok(self.sampler.once(handles, purpose).await)
    }

    /// The same of all that run, or of all; newest first.
    pub async fn stats_of_all(&self, resting_too: bool, purpose: Purpose) -> Vec<Arc<Reading>> {
        let mut handles = self.table.handles();
        handles.retain(|handle| {
            let snapshot = handle.watch.borrow();
            !snapshot.removed && (resting_too || snapshot.state.phase.is_running())
        });
        handles.sort_by_key(|handle| std::cmp::Reverse(handle.watch.borrow().record.created));
        self.sampler.once(handles, purpose).await
    }

    /// What it uses, now and once a second.
    pub async fn follow_stats(&self, reference: &str) -> Result<watch::Receiver<Arc<Reading>>> {
        Ok(self.sampler.follow(self.table.find(reference)?).await)
    }

    /// Waits for an end of the container. It is registered when this returns; the answer is the future inside.
    pub async fn wait(
        &self,
        reference: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = WaitResult> + Send + 'static + use<>> {
        Ok(wait::wait(self.table.find(reference)?, condition))
    }

    /// What it printed.
    pub async fn logs(&self, reference: &str, options: LogsOptions) -> Result<LogStream> {
        let handle = self.table.find(reference)?;
        let directory = self.layout().container(&handle.id).join("log");
        logs::logs(&self.context, handle, directory, options).await
    }

    /// A place at its streams; on a container that does not run yet it waits for the start.
    pub async fn attach(&self, reference: &str, options: AttachOptions) -> Result<Attachment> {
        let handle = self.table.find(reference)?;
        let past = if options.logs {
            let wanted = LogsOptions {
                stdout: options.stdout,
                stderr: options.stderr,
                ..LogsOptions::default()
            };
            Some(self.logs(reference, wanted).await?)
        } else {
            None
        };
        attach::attach(handle, options, past).await
    }

    /// What stands at a path in it.
    pub async fn stat_path(&self, reference: &str, path: &str) -> Result<PathStat> {
        copy::stat(&self.context, &self.table.find(reference)?, reference, path).await
    }

    /// The files at a path, as a tar archive.
    pub async fn read_path(&self, reference: &str, path: &str) -> Result<Outgoing> {
        copy::read(&self.context, &self.table.find(reference)?, reference, path).await
    }

    /// Extracts a tar archive, compressed or not, into one of its directories.
    pub async fn write_path(
        &self,
        reference: &str,
        options: WriteOptions,
        archive: impl BufRead + Send + 'static,
    ) -> Result<()> {
        copy::write(&self.context, &self.table.find(reference)?, reference, options, archive).await
    }

    /// What it changed in its image's files.
    pub async fn changes(&self, reference: &str) -> Result<Vec<Change>> {
        diff::changes(&self.context, &self.table.find(reference)?).await
    }

    /// Its whole root file system, as a tar archive.
    pub async fn export(&self, reference: &str) -> Result<Export> {
        diff::export(&self.context, &self.table.find(reference)?).await
    }

    /// Makes an image of it; returns the id.
    pub async fn commit(&self, reference: &str, options: CommitOptions) -> Result<String> {
        let handle = self.table.find(reference)?;
        commit::commit(Arc::clone(&self.context), Arc::clone(&self.images), handle, options).await
    }

    /// Describes one more process in a running container; the exec's id.
    pub async fn exec(&self, reference: &str, options: ExecOptions) -> Result<String> {
        execute::create(&self.context, &self.table.find(reference)?, options).await
    }

    /// Starts an exec. Gives its streams, unless it is detached: then it runs when this returns.
    pub async fn start_exec(&self, id: &str, options: ExecStartOptions) -> Result<Option<Attachment>> {
        execute::start(&self.context, &self.table, id, options).await
    }

    /// Sets the size of an exec's terminal.
    pub async fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        execute::resize(&self.context, &self.table, id, rows, columns).await
    }

    /// An exec that runs or is not long over.
    pub fn find_exec(&self, id: &str) -> Result<Arc<Exec>> {
        self.context.execs.find(id)
    }

    fn running(&self, reference: &str) -> Result<Handle> {
        let handle = self.table.find(reference)?;
        match handle.snapshot().state.phase {
            phase if phase.is_running() => return Ok(handle),
            Phase::Restarting => return Err(signals::is_restarting(&handle.id)),
            _ => {}
        }
        Err(Error::conflict(format!("container {} is not running", handle.id)))
    }

    fn layout(&self) -> &Layout {
        self.context.store.layout()
    }
}
