//! Images on this machine: images, history, tag, rmi, prune.
use corten_api::client::Client;
use corten_api::filters::Filters;
use corten_api::types::image::{DeleteItem, ImageSummary};
use corten_api::types::platform::Platform;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::{archive, confirm, filter, ps};
use crate::failure::Failure;
use crate::session::Session;
use crate::table::{self, Listing};
use crate::template::value::Value;
use crate::units;

const NONE: &str = "<none>";

pub static IMAGES: Command = Command {
    name: "images",
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    aliases: &["image ls", "image list", "images"],
    flags: &[&[
        Flag::switch("all", "Show intermediate images too").short('a'),
        Flag::switch("digests", "Show digests"),
        Flag::list("filter", "filter", "Show only what meets the condition")
            .short('f')
            .check(filter::check),
        Flag::single("format", "string", ps::FORMAT_HELP),
        Flag::switch("no-trunc", "Do not shorten texts"),
        Flag::switch("quiet", "Show ids only").short('q'),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
    run: |session, matches| Box::pin(images(session, matches)),
};
use crate::{errln, out, outln};

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

async fn images(session: Session, matches: Matches) -> Outcome {
    let mut filters = filter::collect(matches.list("filter"));
    if let Some(reference) = matches.arguments.first() {
        filters
            .entry("reference".to_string())
            .or_default()
            .push(reference.clone());
    }
    let images = session.client().await?.images(matches.on("all"), &filters).await?;
    let format = matches.some("format");
    let digests = matches.on("digests") || format.is_some_and(|format| format.contains(".Digest"));
    let full = matches.on("no-trunc");
    let dangling_only = filters
        .get("dangling")
        .is_some_and(|values| values.iter().any(|value| value == "true"));
    let rows: Vec<Value> = images
        .iter()
        .flat_map(|image| {
            names(image, digests, dangling_only)
                .into_iter()
                .map(|name| row(image, name, full))
        })
        .collect();
    let columns = if matches.on("digests") {
        "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    } else {
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    };
    let listing = Listing {
        columns,
        headings: HEADINGS,
        quiet: "{{.ID}}",
    };
    out!("{}", listing.show(format, matches.on("quiet"), &rows)?);
    Ok(0)
}

/// One line of the table: repository, tag, digest.
#[derive(Debug, Clone, PartialEq)]
struct Name {
    repository: String,
    tag: String,
    digest: String,
}

/// An image has a line for each tag; with digests shown, for each pair of tag and digest of one repository.
fn names(image: &ImageSummary, digests: bool, dangling_only: bool) -> Vec<Name> {
    let none = || NONE.to_string();
    let tags: Vec<(String, String)> = image
        .repo_tags
        .iter()
        .filter(|tag| *tag != "<none>:<none>")
        .filter_map(|tag| tag.rsplit_once(':'))
        .map(|(repository, tag)| (repository.to_string(), tag.to_string()))
        .collect();
    let known: Vec<(String, String)> = image
        .repo_digests
        .iter()
        .filter(|digest| *digest != "<none>@<none>")
        .filter_map(|digest| digest.split_once('@'))
        .map(|(repository, digest)| (repository.to_string(), digest.to_string()))
        .collect();
    let mut found = Vec::new();
    for (repository, tag) in &tags {
        let own = known
            .iter()
            .filter(|(name, _)| digests && name == repository)
            .map(|(_, digest)| digest.clone());
        let mut own: Vec<String> = own.collect();
        if own.is_empty() {
            own.push(none());
        }
        let lines = own.into_iter().map(|digest| Name {
            repository: repository.clone(),
            tag: tag.clone(),
            digest,
        });
        found.extend(lines);
    }
    let untagged = known
        .iter()
        .filter(|(name, _)| !tags.iter().any(|(repository, _)| repository == name));
    if digests || tags.is_empty() {
        let lines = untagged.map(|(repository, digest)| Name {
            repository: repository.clone(),
            tag: none(),
            digest: digest.clone(),
        });
        found.extend(lines);
    }
    if found.is_empty() || (dangling_only && tags.is_empty() && known.is_empty()) {
        found = vec![Name {
            repository: none(),
            tag: none(),
            digest: none(),
        }];
    }
    found
}

/// An image where disks are spoken of: by its first name.
pub fn usage_row(image: &ImageSummary) -> Value {
    let name = image.repo_tags.first().map_or("<none>:<none>", String::as_str);
    let (repository, tag) = split_tag(name);
    let name = Name {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: String::new(),
    };
    row(image, name, true)
}

fn row(image: &ImageSummary, name: Name, full: bool) -> Value {
    let size = |bytes: i64, digits| match bytes {
        -1 => "N/A".to_string(),
        bytes => units::decimal_size(bytes as f64, digits),
    };
    let unique = if image.shared_size == -1 {
        -1
    } else {
        image.size - image.shared_size
    };
    let containers = if image.containers == -1 {
        "N/A".to_string()
    } else {
        image.containers.to_string()
    };
    Value::map([
        ("Containers", containers),
        ("CreatedAt", units::date(image.created)),
        (
            "CreatedSince",
            if image.created == 0 {
                "N/A".to_string()
            } else {
                units::ago(image.created)
            },
        ),
        ("Digest", name.digest),
        (
            "ID",
            if full {
                image.id.clone()
            } else {
                table::short_id(&image.id)
            },
        ),
        ("Repository", name.repository),
        ("SharedSize", size(image.shared_size, 4)),
        ("Size", size(image.size, 3)),
        ("Tag", name.tag),
        ("UniqueSize", size(unique, 4)),
        ("VirtualSize", size(image.size, 4)),
    ])
}

pub static HISTORY: Command = Command {
    name: "history",
    usage: "[OPTIONS] IMAGE",
    about: "Show how an image came to be",
    aliases: &["image history", "history"],
    flags: &[&[
        Flag::single("format", "string", ps::FORMAT_HELP),
        Flag::switch_on("human", "Show sizes and dates for people").short('H'),
        Flag::switch("no-trunc", "Do not shorten texts"),
        Flag::single("platform", "string", "Platform of the image (os[/arch[/variant]])"),
        Flag::switch("quiet", "Show ids only").short('q'),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(history(session, matches)),
};

const HISTORY_HEADINGS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

async fn history(session: Session, matches: Matches) -> Outcome {
    let lines = session
        .client()
        .await?
        .history(matches.argument(0), archive::platform(&matches)?.as_ref())
        .await?;
    let (full, human) = (matches.on("no-trunc"), matches.on_by_default("human"));
    let rows: Vec<Value> = lines
        .iter()
        .map(|line| {
            let by = line.created_by.replace('\t', " ");
            let id = if full {
                line.id.clone()
            } else {
                table::short_id(&line.id)
            };
            let known = line.created > 0;
            let date = if known {
                units::date_rfc3339(line.created)
            } else {
                String::new()
            };
            let since = match (known, human) {
                (false, _) => "N/A".to_string(),
                (true, true) => units::ago(line.created),
                (true, false) => date.clone(),
            };
            let size = if human {
                units::decimal_size(line.size as f64, 3)
            } else {
                line.size.to_string()
            };
            Value::map([
                ("Comment", line.comment.clone()),
                ("CreatedAt", date),
                ("CreatedBy", if full { by } else { table::ellipsis(&by, 45) }),
                ("CreatedSince", since),
                ("ID", id),
                ("Size", size),
            ])
        })
        .collect();
    let columns = match human {
        true => "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        false => "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    };
    let listing = Listing {
        columns,
        headings: HISTORY_HEADINGS,
        quiet: "{{.ID}}",
    };
    out!("{}", listing.show(matches.some("format"), matches.on("quiet"), &rows)?);
    Ok(0)
}

pub static TAG: Command = Command {
    name: "tag",
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Give an image one more name",
    aliases: &["image tag", "tag"],
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |session, matches| Box::pin(tag(session, matches)),
};

async fn tag(session: Session, matches: Matches) -> Outcome {
    let target = matches.argument(1);
    if target.contains('@') {
        return Err(Failure::new("refusing to create a tag with a digest reference"));
    }
    let (repository, tag) = split_tag(target);
    session
        .client()
        .await?
        .tag(matches.argument(0), repository, tag)
        .await?;
    Ok(0)
}

/// `repository[:tag]`, where a port of the registry is no tag.
pub fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    }
}

pub static RMI: Command = Command {
    name: "rmi",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove one or more images",
    aliases: &["image rm", "image remove", "rmi"],
    flags: &[&[
        Flag::switch("force", "Remove it whatever refers to it").short('f'),
        Flag::switch("no-prune", "Keep parents that have no name"),
        Flag::list(
            "platform",
            "strings",
            "Remove only what is for this platform (os[/arch[/variant]])",
        ),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(rmi(session, matches)),
};

async fn rmi(session: Session, matches: Matches) -> Outcome {
    let client = session.client().await?;
    let (force, keep) = (matches.on("force"), matches.on("no-prune"));
    let platforms = matches.texts("platform");
    let platforms = platforms.iter().flat_map(|text| text.split(',')).map(Platform::parse);
    let platforms: Vec<Platform> = platforms
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(format!("invalid platform: {error}")))?;
    let mut fatal = false;
    let mut errors = Vec::new();
    for name in &matches.arguments {
        match client.remove_image(name, force, keep, &platforms).await {
            Ok(items) => items
                .iter()
                .for_each(|item| outln!("{}", removed(item, "Untagged", "Deleted"))),
            Err(error) => {
                fatal |= !error.is_not_found();
                errors.push(error.to_string());
            }
        }
    }
    if errors.is_empty() {
        return Ok(0);
    }
    let failure = Failure::new(errors.join("\n"));
    if force && !fatal {
        errln!("{}", failure.text);
        return Ok(0);
    }
    Err(failure)
}

fn removed(item: &DeleteItem, untagged: &str, deleted: &str) -> String {
    match (&item.deleted, &item.untagged) {
        (Some(id), _) => format!("{deleted}: {id}"),
        (None, name) => format!("{untagged}: {}", name.as_deref().unwrap_or_default()),
    }
}

pub static PRUNE: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove unused images",
    aliases: &["image prune"],
    flags: &[&[
        Flag::switch(
            "all",
            "Remove every image that no container uses, not only those without a name",
        )
        .short('a'),
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
    let warning = match matches.on("all") {
        true => "WARNING! This will remove all images without at least one container associated to them.",
        false => "WARNING! This will remove all dangling images.",
    };
    if !matches.on("force") && !confirm::ask(warning) {
        return Ok(0);
    }
    let client = session.client().await?;
    let reclaimed = prune_now(&client, matches.on("all"), filter::collect(matches.list("filter"))).await?;
    outln!("Total reclaimed space: {}", units::decimal_size(reclaimed as f64, 4));
    Ok(0)
}

/// Removes unused images, names them, and returns the bytes that came free.
pub async fn prune_now(client: &Client, all: bool, mut filters: Filters) -> Result<u64, Failure> {
    filters.insert("dangling".to_string(), vec![(!all).to_string()]);
    let pruned = client.prune_images(&filters).await?;
    let deleted = pruned.images_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        outln!("Deleted Images:");
        deleted
            .iter()
            .for_each(|item| outln!("{}", removed(item, "untagged", "deleted")));
        outln!();
    }
    Ok(pruned.space_reclaimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(tags: &[&str], digests: &[&str], shown: bool) -> Vec<String> {
        let image = ImageSummary {
            repo_tags: tags.iter().map(|tag| tag.to_string()).collect(),
            repo_digests: digests.iter().map(|digest| digest.to_string()).collect(),
            ..ImageSummary::default()
        };
        let names = names(&image, shown, false);
        names
            .iter()
            .map(|name| format!("{} {} {}", name.repository, name.tag, name.digest))
            .collect()
    }

    #[test]
    fn an_image_has_a_line_for_each_name() {
        assert_eq!(
            lines(&["a:1", "h:5000/b:2"], &[], false),
            ["a 1 <none>", "h:5000/b 2 <none>"]
        );
        assert_eq!(lines(&[], &[], false), ["<none> <none> <none>"]);
        assert_eq!(
            lines(&["<none>:<none>"], &["<none>@<none>"], false),
            ["<none> <none> <none>"]
        );
        assert_eq!(
            lines(&["a:1"], &["a@sha256:1", "b@sha256:2"], true),
            ["a 1 sha256:1", "b <none> sha256:2"]
        );
        assert_eq!(lines(&[], &["a@sha256:1"], false), ["a <none> sha256:1"]);
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_tag("host:5000/a"), ("host:5000/a", "latest"));
        assert_eq!(split_tag("host:5000/a:1"), ("host:5000/a", "1"));
        assert_eq!(split_tag("a"), ("a", "latest"));
    }
}
