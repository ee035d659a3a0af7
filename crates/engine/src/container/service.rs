//! Every verb on containers, for every door.
//!
//! A `reference` is an id, the unique beginning of one, or a name with or without its slash.
use std::future::Future;

use crate::{
    container::{
        attach::Attachment,
        logs::LogStream,
        stats::StatsSample,
        view::{
            AttachOptions, ContainerView, CreateOptions, Created, Filters, ListOptions, LogsOptions, Pruned,
            RemoveOptions, Top, WaitCondition, WaitResult,
        },
    },
    error::{Error, Result},
    events::EventBus,
};

pub struct ContainerService {
    events: EventBus,
}

impl ContainerService {
    pub(crate) fn new(events: EventBus) -> ContainerService {
        ContainerService { events }
    }

    /// Makes a container that can be started.
    pub async fn create(&self, options: CreateOptions) -> Result<Created> {
        let _ = (&self.events, options);
        Err(Error::not_implemented("create"))
    }

    /// Starts it. Fails with kind `NotModified` when it runs already.
    pub async fn start(&self, reference: &str) -> Result<()> {
        let _ = (&self.events, reference);
        Err(Error::not_implemented("start"))
    }

    /// Stop signal, then SIGKILL after the timeout. Fails with kind `NotModified` when it does not run.
    pub async fn stop(&self, reference: &str, signal: Option<String>, timeout_seconds: Option<i64>) -> Result<()> {
        let _ = (&self.events, reference, signal, timeout_seconds);
        Err(Error::not_implemented("stop"))
    }

    /// Stops it where it runs, and starts it.
    pub async fn restart(&self, reference: &str, signal: Option<String>, timeout_seconds: Option<i64>) -> Result<()> {
        let _ = (&self.events, reference, signal, timeout_seconds);
        Err(Error::not_implemented("restart"))
    }

    /// Sends a signal (SIGKILL when absent) to its first process.
    pub async fn kill(&self, reference: &str, signal: Option<String>) -> Result<()> {
        let _ = (&self.events, reference, signal);
        Err(Error::not_implemented("kill"))
    }

    /// Freezes its processes.
    pub async fn pause(&self, reference: &str) -> Result<()> {
        let _ = (&self.events, reference);
        Err(Error::not_implemented("pause"))
    }

    /// Lets them go on.
    pub async fn unpause(&self, reference: &str) -> Result<()> {
        let _ = (&self.events, reference);
        Err(Error::not_implemented("unpause"))
    }

    /// Gives it another name.
    pub async fn rename(&self, reference: &str, new_name: &str) -> Result<()> {
        let _ = (&self.events, reference, new_name);
        Err(Error::not_implemented("rename"))
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, reference: &str, rows: u16, columns: u16) -> Result<()> {
        let _ = (&self.events, reference, rows, columns);
        Err(Error::not_implemented("resize"))
    }

    /// Removes it, its writable layer, its log, and on request its anonymous volumes.
    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<()> {
        let _ = (&self.events, reference, options);
        Err(Error::not_implemented("remove"))
    }

    /// Removes all that do not run.
    pub async fn prune(&self, filters: &Filters) -> Result<Pruned> {
        let _ = (&self.events, filters);
        Err(Error::not_implemented("prune"))
    }

    /// As `inspect`, with the sizes measured.
    pub async fn inspect_with_size(&self, reference: &str) -> Result<ContainerView> {
        let _ = (&self.events, reference);
        Err(Error::not_implemented("inspect_with_size"))
    }

    /// Newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ContainerView>> {
        let _ = (&self.events, options);
        Err(Error::not_implemented("list"))
    }

    /// Its processes, in ps(1)'s columns.
    pub async fn top(&self, reference: &str, ps_args: &str) -> Result<Top> {
        let _ = (&self.events, reference, ps_args);
        Err(Error::not_implemented("top"))
    }

    /// One sample of what it uses.
    pub async fn stats(&self, reference: &str) -> Result<StatsSample> {
        let _ = (&self.events, reference);
        Err(Error::not_implemented("stats"))
    }

    /// What it printed.
    pub async fn logs(&self, reference: &str, options: LogsOptions) -> Result<LogStream> {
        let _ = (&self.events, reference, options);
        Err(Error::not_implemented("logs"))
    }

    /// A place at its streams; on a container that does not run yet it waits for the start.
    pub async fn attach(&self, reference: &str, options: AttachOptions) -> Result<Attachment> {
        let _ = (&self.events, reference, options);
        Err(Error::not_implemented("attach"))
    }

    /// From memory.
    pub fn inspect(&self, reference: &str) -> Result<ContainerView> {
        let _ = reference;
        Err(Error::not_implemented("inspect"))
    }

    /// Waits for an end of the container. It is registered when this returns; the answer is the future inside.
    pub async fn wait(
        &self,
        reference: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = WaitResult> + Send + 'static> {
        let _ = (reference, condition);
        Err::<std::future::Ready<WaitResult>, _>(Error::not_implemented("wait"))
    }
}
