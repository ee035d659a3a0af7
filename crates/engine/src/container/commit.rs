//! `commit`: a container's files and settings become an image.
//!
//! Its processes are frozen while its layer is read, unless that is not wanted. A daemon that is killed in the middle lets
//! them go on as soon as it is back: the record says why they were frozen.
use std::sync::Arc;

use corten_api::types::container::ContainerConfig;
use serde_json::{Map, Value};

use crate::{
    container::{
        diff::{Difference, check_there},
        handle::{Command, Handle},
        merge, supervised,
        view::CommitOptions,
    },
    context::Context,
    error::{Error, Result},
    image::{
        change,
        commit::{Child, Parent},
        reference::Reference,
        service::ImageService,
    },
};

/// Members of a container's configuration that are an image's too.
const OF_IMAGES: [&str; 12] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
];

/// Returns the image's id. Goes on to its end when nobody waits for it any more.
pub async fn commit(
    context: Arc<Context>,
    images: Arc<ImageService>,
    handle: Handle,
    options: CommitOptions,
) -> Result<String> {
    check_there(&handle, "commit")?;
    let record = handle.record();
    let name = match options.repository.as_str() {
        "" => None,
        repository => Some(Reference::parse_tagged(repository, &options.tag)?),
    };
    let config = image_config(&options, &record.config)?;
    let work = async move {
        let held = options.pause && handle.ask(|reply| Command::Hold { reply }).await?;
        let made = {
            let parent = Parent {
                image: record.image_id.clone(),
                layers: record.layers.clone(),
                created: record.created,
            };
            let child = Child {
                container: record.id.clone(),
                created_by: record
                    .config
                    .cmd
                    .iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" "),
                author: options.author,
                comment: options.comment.clone(),
                config,
                name: name.clone(),
            };
            let (context, record, watch) = (Arc::clone(&context), Arc::clone(&record), handle.watch.clone());
            images
                .commit(parent, child, move |sink| {
                    let difference = Difference::open(&context, &record)?;
                    let written = difference.write(sink);
                    let removed = watch.borrow().removed;
                    match removed {
                        // By then some of it may have been deleted.
                        true => Err(Error::conflict(format!("container {} was removed", record.id))),
                        false => Ok(written),
                    }
                })
                .await
        };
        if held {
            // A container that has ended meanwhile has nothing to be released from.
            let _ = handle.ask(|reply| Command::LetGo { reply }).await;
        }
        let id = made?;
        let more = [
            ("comment", options.comment),
            ("imageID", id.clone()),
            ("imageRef", name.map(|name| name.familiar()).unwrap_or_default()),
        ];
        supervised::tell(&context, &record, "commit", &more);
        Ok(id)
    };
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::system("a commit broke off").because(error)),
    }
}

/// What was asked for, then what the container has beyond that.
fn image_config(options: &CommitOptions, container: &ContainerConfig) -> Result<Map<String, Value>> {
    let unreadable = |error| Error::invalid("the configuration cannot be read").because(error);
    // Instructions go on from what the client sends: from what the container has where it sends nothing.
    let asked = options.config.as_ref().unwrap_or(container);
    let Value::Object(mut asked) = serde_json::to_value(asked).map_err(unreadable)? else {
        return Err(Error::invalid("the configuration is no object"));
    };
    // What nobody said is not there, so that instructions find what the user has said and nothing else.
    asked.retain(|_, value| !value.is_null());
    for line in &options.changes {
        change::apply(&mut asked, line)?;
    }
    let mut config: ContainerConfig = serde_json::from_value(asked.into()).map_err(unreadable)?;
    merge::merge(&mut config, container.clone());
    let Value::Object(all) = serde_json::to_value(config).map_err(unreadable)? else {
        return Err(Error::invalid("the configuration is no object"));
    };
    let of_images = all
        .into_iter()
        .filter(|(key, value)| (OF_IMAGES.contains(&key.as_str()) || key == "WorkingDir") && !is_empty(value));
    Ok(of_images.collect())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(set) => !set,
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_for_goes_before_what_the_container_has() {
        let container: ContainerConfig = serde_json::from_value(json!({
            "Hostname": "box", "Tty": true, "Image": "busybox", "Cmd": ["sleep", "9"], "Env": ["A=1", "B=2"],
            "Labels": {"a": "1"}, "WorkingDir": "/srv", "User": "app",
        }))
        .unwrap();
        let options = CommitOptions {
            changes: vec![
                "ENV B=3".to_owned(),
                "CMD [\"true\"]".to_owned(),
                "LABEL b=2".to_owned(),
            ],
            config: Some(ContainerConfig {
                user: "www".to_owned(),
                ..ContainerConfig::default()
            }),
            ..CommitOptions::default()
        };
        let expected = json!({
            "Cmd": ["true"], "Env": ["B=3", "A=1"], "Labels": {"a": "1", "b": "2"}, "WorkingDir": "/srv", "User": "www",
        });
        assert_eq!(Value::from(image_config(&options, &container).unwrap()), expected);
        let options = CommitOptions {
            changes: vec!["RUN x".to_owned()],
            ..CommitOptions::default()
        };
        assert!(image_config(&options, &container).is_err());
    }
}
