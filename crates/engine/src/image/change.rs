//! Dockerfile instructions that only change an image's configuration: the `--change` of `import` and `commit`.
//!
//! The configuration is a JSON object in Docker's words, so that fields which the OCI type lacks are kept.
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    image::{
        duration::nanoseconds,
        words::{Variables, one_word, words},
    },
    signal,
};

/// Applies one instruction, such as `CMD ["sh"]`.
pub fn apply(config: &mut Map<String, Value>, line: &str) -> Result<()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    let wanted = match word.as_str() {
        "CMD" | "ENTRYPOINT" => None,
        "STOPSIGNAL" | "USER" | "WORKDIR" => Some("exactly one argument"),
        "ENV" | "EXPOSE" | "HEALTHCHECK" | "LABEL" | "ONBUILD" | "SHELL" | "VOLUME" => Some("at least one argument"),
        _ => return Err(Error::invalid(format!("{word} is not a valid change command"))),
    };
    if let (Some(wanted), "") = (wanted, rest) {
        return Err(Error::invalid(format!("{word} requires {wanted}")));
    }
    let before = environment(config);
    let variables = |name: &str| before.get(name).cloned();
    let variables: Variables = &variables;
    match word.as_str() {
        "CMD" => set(config, "Cmd", command(config, rest)?),
        "ENTRYPOINT" => set(config, "Entrypoint", command(config, rest)?),
        "SHELL" => {
            let shell =
                exec_form(rest).ok_or_else(|| Error::invalid("SHELL requires the arguments to be in JSON form"))?;
            set(config, "Shell", shell);
        }
        "ENV" => {
            for (key, value) in pairs("ENV", rest, variables)? {
                set_environment(config, &key, &value);
            }
        }
        "LABEL" => {
            for (key, value) in pairs("LABEL", rest, variables)? {
                object(config, "Labels").insert(key, value.into());
            }
        }
        "EXPOSE" => {
            for port in words(rest, variables)? {
                for port in ports(&port)? {
                    object(config, "ExposedPorts").insert(port, json!({}));
                }
            }
        }
        "VOLUME" => {
            let volumes = match exec_form(rest) {
                Some(Value::Array(volumes)) => volumes.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => words(rest, variables)?,
            };
            for volume in volumes {
                object(config, "Volumes").insert(volume, json!({}));
            }
        }
        "USER" => set(config, "User", one("USER", rest, variables)?.into()),
        "WORKDIR" => {
            let before = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
            let directory = join(before, &one("WORKDIR", rest, variables)?);
            set(config, "WorkingDir", directory.into());
        }
        "STOPSIGNAL" => {
            let signal = one("STOPSIGNAL", rest, variables)?;
            signal::parse(&signal)?;
            set(config, "StopSignal", signal.into());
        }
        "ONBUILD" => {
            let triggers = config.entry("OnBuild").or_insert_with(|| json!([]));
            if let Some(triggers) = triggers.as_array_mut() {
                triggers.push(rest.into());
            }
        }
        "HEALTHCHECK" => {
            let check = health_check(rest)?;
            set(config, "Healthcheck", check);
        }
        _ => unreachable!("other instructions were refused above"),
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let entry = config.entry(key).or_insert_with(|| json!({}));
    if !entry.is_object() {
        *entry = json!({});
    }
    entry.as_object_mut().expect("made one above")
}

/// The variables that an instruction sees: those that were there before it.
fn environment(config: &Map<String, Value>) -> BTreeMap<String, String> {
    let variables = config.get("Env").and_then(Value::as_array).into_iter().flatten();
    let pairs = variables.filter_map(|variable| variable.as_str()?.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn set_environment(config: &mut Map<String, Value>, key: &str, value: &str) {
    let variables = config.entry("Env").or_insert_with(|| json!([]));
    let Some(variables) = variables.as_array_mut() else {
        return;
    };
    let prefix = format!("{key}=");
    let variable = Value::from(format!("{prefix}{value}"));
    let same = |known: &&mut Value| known.as_str().is_some_and(|known| known.starts_with(&prefix));
    match variables.iter_mut().find(same) {
        Some(known) => *known = variable,
        None => variables.push(variable),
    }
}

/// `["a", "b"]` runs as it is, anything else through the shell.
fn command(config: &Map<String, Value>, rest: &str) -> Result<Value> {
    if let Some(list) = exec_form(rest) {
        return Ok(list);
    }
    if rest.is_empty() {
        return Ok(json!([]));
    }
    let mut words = match config.get("Shell") {
        Some(Value::Array(shell)) => shell.clone(),
        _ => vec!["/bin/sh".into(), "-c".into()],
    };
    words.push(rest.into());
    Ok(words.into())
}

/// A JSON list of strings.
fn exec_form(rest: &str) -> Option<Value> {
    let words: Vec<String> = serde_json::from_str(rest).ok()?;
    Some(words.into())
}

/// `a=b "c d"=e`, or `a the rest`.
fn pairs(instruction: &str, rest: &str, variables: Variables) -> Result<Vec<(String, String)>> {
    let words = words(rest, variables)?;
    let first_has_value = words.first().is_some_and(|word| word.contains('='));
    if !first_has_value {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{instruction} must have two arguments")))?;
        return Ok(vec![(key.to_owned(), one_word(value.trim(), variables)?)]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(Error::invalid(format!("{instruction} names can not be blank"))),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Error::invalid(format!(
            "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
        ))),
    };
    words.into_iter().map(pair).collect()
}

fn one(instruction: &str, rest: &str, variables: Variables) -> Result<String> {
    match <[String; 1]>::try_from(words(rest, variables)?) {
        Ok([word]) => Ok(word),
        Err(_) => Err(Error::invalid(format!("{instruction} requires exactly one argument"))),
    }
}

/// `80`, `80/udp`, `8000-8002/tcp`.
fn ports(text: &str) -> Result<Vec<String>> {
    let invalid = || Error::invalid(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let first: u16 = first.parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn join(before: &str, directory: &str) -> String {
    let path = match directory.starts_with('/') {
        true => directory.to_owned(),
        false => format!("/{before}/{directory}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn health_check(rest: &str) -> Result<Value> {
    let mut check = Map::new();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let invalid = || Error::invalid(format!("HEALTHCHECK: invalid --{name}: {value:?}"));
        let value = match name {
            "retries" => value.parse::<u32>().map_err(|_| invalid())?.into(),
            _ => nanoseconds(value).ok_or_else(invalid)?.into(),
        };
        let key = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => "Retries",
            _ => return Err(Error::invalid(format!("unknown flag: {name}"))),
        };
        check.insert(key.to_owned(), value);
        rest = after.trim_start();
    }
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let test = match word.to_ascii_uppercase().as_str() {
        "NONE" if command.trim().is_empty() => json!(["NONE"]),
        "CMD" if command.trim().is_empty() => return Err(Error::invalid("Missing command after HEALTHCHECK CMD")),
        "CMD" => match exec_form(command.trim()) {
            Some(Value::Array(mut words)) => {
                words.insert(0, "CMD".into());
                words.into()
            }
            _ => json!(["CMD-SHELL", command.trim()]),
        },
        _ => {
            return Err(Error::invalid(format!(
                "Unknown type {word:?} in HEALTHCHECK (try CMD)"
            )));
        }
    };
    check.insert("Test".to_owned(), test);
    Ok(check.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(lines: &[&str]) -> Value {
        let mut config = Map::new();
        for line in lines {
            apply(&mut config, line).unwrap();
        }
        config.into()
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = changed(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint run this",
            "ENV A=1 B=\"two words\" C='x'",
            "ENV A two",
            "EXPOSE 80 53/udp 8000-8001",
            "USER www:www",
            "WORKDIR /srv",
            "WORKDIR app/../web",
            "VOLUME [\"/data\"]",
            "VOLUME /a /b",
            "LABEL one=1 \"two words\"=\"2 3\"",
            "ONBUILD RUN make",
            "STOPSIGNAL SIGQUIT",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl localhost",
        ]);
        let expected = json!({
            "Cmd": ["a", "b c"],
            "Entrypoint": ["/bin/sh", "-c", "run this"],
            "Env": ["A=two", "B=two words", "C=x"],
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}},
            "User": "www:www",
            "WorkingDir": "/srv/web",
            "Volumes": {"/data": {}, "/a": {}, "/b": {}},
            "Labels": {"one": "1", "two words": "2 3"},
            "OnBuild": ["RUN make"],
            "StopSignal": "SIGQUIT",
            "Healthcheck": {
                "Interval": 90_000_000_000_i64, "Retries": 3, "Test": ["CMD-SHELL", "curl localhost"],
            },
        });
        assert_eq!(config, expected);
        let shell = changed(&["SHELL [\"/bin/bash\", \"-c\"]", "CMD echo hi"]);
        assert_eq!(shell["Cmd"], json!(["/bin/bash", "-c", "echo hi"]));
        assert_eq!(changed(&["HEALTHCHECK NONE"])["Healthcheck"], json!({"Test": ["NONE"]}));
    }

    #[test]
    fn variables_are_those_from_before_the_instruction() {
        let config = changed(&[
            "ENV A=1 B=$A",
            "ENV A=2 C=${A}x D='$A'",
            "# a comment",
            "WORKDIR /srv/$A",
            "LABEL of=$A",
            "EXPOSE 808$A",
            "CMD echo $A",
        ]);
        assert_eq!(config["Env"], json!(["A=2", "B=", "C=1x", "D=$A"]));
        assert_eq!(config["WorkingDir"], "/srv/2");
        assert_eq!(config["Labels"], json!({"of": "2"}));
        assert_eq!(config["ExposedPorts"], json!({"8082/tcp": {}}));
        assert_eq!(config["Cmd"][2], "echo $A");
    }

    #[test]
    fn other_instructions_are_refused() {
        for (line, message) in [
            ("FROM scratch", "FROM is not a valid change command"),
            ("RUN", "RUN is not a valid change command"),
            ("RUN make", "RUN is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("USER", "USER requires exactly one argument"),
            ("STOPSIGNAL SIGNAL", "invalid signal: SIGNAL"),
            (
                "ENV A=1 B",
                "Syntax error - can't find = in \"B\". Must be of the form: name=value",
            ),
            ("EXPOSE http", "invalid containerPort: http"),
            ("SHELL bash", "SHELL requires the arguments to be in JSON form"),
        ] {
            let error = apply(&mut Map::new(), line).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
