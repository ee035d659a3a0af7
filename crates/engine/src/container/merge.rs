//! An image's defaults under what the user asked for.
use std::collections::BTreeMap;

use corten_api::types::container::ContainerConfig;
use serde::Deserialize;

use crate::{
    container::health_check,
    error::{Error, Result},
};

/// What of an image's configuration matters to a container, with the fields that OCI's type does not know
/// (`Healthcheck`, `Shell`).
pub fn defaults(raw: &[u8]) -> Result<ContainerConfig> {
    #[derive(Deserialize)]
    struct Document {
        config: Option<ContainerConfig>,
    }
    let document: Document = serde_json::from_slice(raw)
        .map_err(|error| Error::system("the image's configuration cannot be read").because(error))?;
    Ok(document.config.unwrap_or_default())
}

/// An entry point of the user's hides the image's command too: it was written for another program.
pub fn merge(user: &mut ContainerConfig, image: ContainerConfig) {
    if user.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if user.cmd.as_ref().is_none_or(Vec::is_empty) {
            user.cmd = image.cmd;
            user.args_escaped = image.args_escaped;
        }
        if user.entrypoint.is_none() {
            user.entrypoint = image.entrypoint;
        }
    }
    // `--entrypoint ""` is how a user says: none.
    if user
        .entrypoint
        .as_ref()
        .is_some_and(|words| words.len() == 1 && words[0].is_empty())
    {
        user.entrypoint = None;
    }
    user.env = environment(&image.env, &user.env);
    user.labels = overlay(image.labels, std::mem::take(&mut user.labels));
    user.exposed_ports = overlay_option(image.exposed_ports, user.exposed_ports.take());
    user.volumes = overlay_option(image.volumes, user.volumes.take());
    for (own, default) in [(&mut user.user, image.user), (&mut user.working_dir, image.working_dir)] {
        if own.is_empty() {
            *own = default;
        }
    }
    if user.stop_signal.as_deref().unwrap_or_default().is_empty() {
        user.stop_signal = image.stop_signal;
    }
    if user.stop_timeout_seconds.is_none() {
        user.stop_timeout_seconds = image.stop_timeout_seconds;
    }
    user.healthcheck = health_check::merge(user.healthcheck.take(), image.healthcheck);
    user.shell = user.shell.take().or(image.shell);
}

/// The user's variables, then those of the image that the user did not name. A bare name stays: it takes away what would
/// come from elsewhere.
fn environment(image: &[String], user: &[String]) -> Vec<String> {
    fn name(variable: &str) -> &str {
        variable.split('=').next().unwrap_or_default()
    }
    let kept = image
        .iter()
        .filter(|variable| !user.iter().any(|own| name(own) == name(variable)));
    user.iter().chain(kept).cloned().collect()
}

fn overlay<V>(mut below: BTreeMap<String, V>, above: BTreeMap<String, V>) -> BTreeMap<String, V> {
    below.extend(above);
    below
}

fn overlay_option<V>(
    below: Option<BTreeMap<String, V>>,
    above: Option<BTreeMap<String, V>>,
) -> Option<BTreeMap<String, V>> {
    match (below, above) {
        (Some(below), Some(above)) => Some(overlay(below, above)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    fn commands(user: (Option<Vec<String>>, Option<Vec<String>>)) -> (Option<Vec<String>>, Option<Vec<String>>) {
        let image = ContainerConfig {
            entrypoint: words("entry"),
            cmd: words("default"),
            ..ContainerConfig::default()
        };
        let mut user = ContainerConfig {
            entrypoint: user.0,
            cmd: user.1,
            ..ContainerConfig::default()
        };
        merge(&mut user, image);
        (user.entrypoint, user.cmd)
    }

    #[test]
    fn entry_point_and_command_follow_dockers_rules() {
        assert_eq!(commands((None, None)), (words("entry"), words("default")));
        assert_eq!(commands((None, words("own"))), (words("entry"), words("own")));
        assert_eq!(commands((words("mine"), None)), (words("mine"), None));
        assert_eq!(
            commands((Some(vec![String::new()]), words("own"))),
            (None, words("own"))
        );
    }

    #[test]
    fn a_bare_name_takes_the_images_variable_away() {
        let list = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
        let merged = environment(&list(&["A=1", "B=2", "C=3"]), &list(&["B=4", "C"]));
        assert_eq!(merged, list(&["B=4", "C", "A=1"]));
    }

    #[test]
    fn fields_that_oci_does_not_know_are_kept() {
        let raw = br#"{"architecture":"amd64","config":{"Healthcheck":{"Test":["CMD","x"]},"Shell":["/bin/bash"],"Volumes":{"/data":{}}}}"#;
        let mut user = ContainerConfig::default();
        merge(&mut user, defaults(raw).expect("valid"));
        assert!(user.healthcheck.is_some() && user.shell.is_some());
        assert!(user.volumes.expect("kept").contains_key("/data"));
    }
}
