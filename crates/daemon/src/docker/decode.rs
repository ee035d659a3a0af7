//! Request documents, read as a Go program would read them.
//!
//! Clients rely on three habits of Go's decoder that no derive offers: field names match without regard to case, `null`
//! means "leave it at its default" for every type, and of two spellings of one field the last wins.
use std::{fmt, time::Duration};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use corten_api::types::container::{ContainerConfig, CreateRequest, HostConfig, NetworkingConfig};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use serde::{
    Deserialize,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value::SeqDeserializer},
    forward_to_deserialize_any,
};
use serde_json::Value;
use tokio::time::timeout;

use crate::error::ApiError;

/// Larger documents are refused: the largest honest ones carry a seccomp profile of some ten thousand bytes.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// How long a document may take to arrive. Archives are another matter, and are not read here.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// The JSON document of a request, `None` when the body is empty. Anything but JSON is refused.
pub async fn document(headers: &HeaderMap, body: Body) -> Result<Option<Value>, ApiError> {
    let bytes = timeout(BODY_PATIENCE, to_bytes(body, MAX_DOCUMENT_BYTES))
        .await
        .map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time"))?
        .map_err(|error| ApiError::invalid(format!("cannot read the request's body: {error}")))?;
    check_content_type(headers, &bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
}

/// As [`document`], read into a type; an empty body is refused.
pub async fn required<T: for<'de> Deserialize<'de>>(headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
    match document(headers, body).await? {
        Some(value) => read(&value),
        None => Err(ApiError::invalid("invalid JSON: got EOF while reading request body")),
    }
}

fn check_content_type(headers: &HeaderMap, body: &Bytes) -> Result<(), ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return match body.is_empty() {
            true => Ok(()),
            false => Err(ApiError::invalid(
                "malformed Content-Type header (): mime: no media type",
            )),
        };
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let media_type = text.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") || body.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "unsupported Content-Type header ({text}): must be 'application/json'"
    )))
}

/// The body of `POST /containers/create`: three documents in one object.
pub fn create_request(value: &Value) -> Result<CreateRequest, ApiError> {
    let inner = |name: &str| member(value, name).unwrap_or(&Value::Null);
    let mut host_config = read::<HostConfig>(inner("HostConfig"))?;
    // Where Docker's SDK for Python puts it.
    let outside = member(value, "Runtime").and_then(Value::as_str);
    host_config.runtime = host_config.runtime.or_else(|| outside.map(str::to_owned));
    Ok(CreateRequest {
        config: read::<ContainerConfig>(value)?,
        host_config,
        networking_config: read::<NetworkingConfig>(inner("NetworkingConfig"))?,
    })
}

/// A member of an object by name, in whatever case.
pub fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| {
        object
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, found)| found)
    })
}

/// A value as a type, with Go's habits.
pub fn read<'v, T: Deserialize<'v>>(value: &'v Value) -> Result<T, ApiError> {
    T::deserialize(GoValue(value)).map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
}

struct GoValue<'v>(&'v Value);

#[derive(Debug)]
struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> DecodeError {
        DecodeError(message.to_string())
    }
}

impl<'v> IntoDeserializer<'v, DecodeError> for GoValue<'v> {
    type Deserializer = GoValue<'v>;

    fn into_deserializer(self) -> GoValue<'v> {
        self
    }
}

/// `null` is the type's zero; anything else is what it is.
macro_rules! zero_for_null {
    ($($method:ident => $zero:expr,)*) => {$(
        fn $method<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.0 {
                Value::Null => $zero(visitor),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'v> de::Deserializer<'v> for GoValue<'v> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(de::Error::custom(format!("number out of range: {number}"))),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(GoValue))),
            Value::Object(members) => {
                let entries = members.iter().map(|(key, value)| (key.as_str(), value)).collect();
                visitor.visit_map(Members { entries, value: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'v>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_map(Members {
                entries: Vec::new(),
                value: None,
            }),
            Value::Object(members) => visitor.visit_map(Members {
                entries: canonical(members, fields),
                value: None,
            }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    zero_for_null! {
        deserialize_bool => |visitor: V| visitor.visit_bool(false),
        deserialize_i8 => |visitor: V| visitor.visit_u64(0),
        deserialize_i16 => |visitor: V| visitor.visit_u64(0),
        deserialize_i32 => |visitor: V| visitor.visit_u64(0),
        deserialize_i64 => |visitor: V| visitor.visit_u64(0),
        deserialize_u8 => |visitor: V| visitor.visit_u64(0),
        deserialize_u16 => |visitor: V| visitor.visit_u64(0),
        deserialize_u32 => |visitor: V| visitor.visit_u64(0),
        deserialize_u64 => |visitor: V| visitor.visit_u64(0),
        deserialize_f32 => |visitor: V| visitor.visit_f64(0.0),
        deserialize_f64 => |visitor: V| visitor.visit_f64(0.0),
        deserialize_str => |visitor: V| visitor.visit_borrowed_str(""),
        deserialize_string => |visitor: V| visitor.visit_borrowed_str(""),
        deserialize_seq => |visitor: V| visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<GoValue>())),
        deserialize_map => |visitor: V| visitor.visit_map(Members { entries: Vec::new(), value: None }),
    }

    forward_to_deserialize_any! {
        <W: Visitor<'v>>
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

/// The members that a struct knows, under the names by which it knows them.
fn canonical<'v>(
    members: &'v serde_json::Map<String, Value>,
    fields: &'static [&'static str],
) -> Vec<(&'v str, &'v Value)> {
    let mut entries: Vec<(&'v str, &'v Value)> = Vec::with_capacity(members.len());
    for (key, value) in members {
        let exact = fields.iter().find(|field| **field == key);
        let Some(field) = exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(key))) else {
            continue;
        };
        match entries.iter_mut().find(|(known, _)| known == field) {
            // The exact spelling sorts among others by chance; it is the one that counts.
            Some(entry) if exact.is_some() => entry.1 = value,
            Some(_) => {}
            None => entries.push((field, value)),
        }
    }
    entries
}

struct Members<'v> {
    /// Taken from the end.
    entries: Vec<(&'v str, &'v Value)>,
    value: Option<&'v Value>,
}

impl<'v> MapAccess<'v> for Members<'v> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'v>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.pop() else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let value = self.value.take().expect("a value is asked for after its key");
        seed.deserialize(GoValue(value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn create(value: Value) -> CreateRequest {
        create_request(&value).expect("a good document")
    }

    #[test]
    fn field_names_match_in_any_case_and_the_exact_one_wins() {
        let request = create(json!({"image": "a", "HOSTCONFIG": {"memory": 5, "BINDS": ["/a:/b"]}, "tty": true}));
        assert_eq!(request.config.image, "a");
        assert!(request.config.tty);
        assert_eq!(request.host_config.memory, 5);
        assert_eq!(request.host_config.binds, Some(vec!["/a:/b".to_owned()]));
        assert_eq!(
            create(json!({"IMAGE": "loud", "Image": "exact", "image": "quiet"}))
                .config
                .image,
            "exact"
        );
    }

    #[test]
    fn keys_of_maps_keep_their_case() {
        let request = create(json!({"Labels": {"Env": "a", "env": "b"}, "labels": null}));
        assert_eq!(request.config.labels.len(), 2);
        assert_eq!(request.config.labels["Env"], "a");
    }

    #[test]
    fn null_means_default_at_every_depth() {
        let request = create(json!({
            "Image": "a", "Env": null, "Cmd": null, "Tty": null, "StopTimeout": null, "ExposedPorts": null,
            "Labels": {"a": null},
            "HostConfig": {"Memory": null, "LogConfig": null, "RestartPolicy": {"Name": null}, "Mounts": [
                {"Type": "bind", "Source": null, "BindOptions": null}]},
            "NetworkingConfig": null
        }));
        let mut expected = CreateRequest::default();
        expected.config.image = "a".to_owned();
        expected.config.labels.insert("a".to_owned(), String::new());
        let mount = corten_api::types::container::Mount {
            kind: "bind".to_owned(),
            ..Default::default()
        };
        expected.host_config.mounts = Some(vec![mount]);
        assert_eq!(request, expected);
        assert_eq!(create(json!({"HostConfig": null})), CreateRequest::default());
    }

    #[test]
    fn a_command_may_be_one_string() {
        assert_eq!(create(json!({"Cmd": "date"})).config.cmd, Some(vec!["date".to_owned()]));
        assert_eq!(
            create(json!({"Entrypoint": ["a", "b"]}))
                .config
                .entrypoint
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn wrong_types_are_refused_and_unknown_members_are_not() {
        assert!(create_request(&json!({"Image": 5})).is_err());
        assert!(create_request(&json!({"HostConfig": "none"})).is_err());
        assert!(create_request(&json!({"HostConfig": {"Memory": 1.5}})).is_err());
        assert!(create_request(&json!({"NoSuchMember": {"a": [1, 2]}})).is_ok());
    }

    #[tokio::test]
    async fn only_json_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(document(&headers, Body::empty()).await.unwrap(), None);
        let error = document(&headers, Body::from("{}")).await.unwrap_err();
        assert_eq!(error.message(), "malformed Content-Type header (): mime: no media type");
        headers.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
        let error = document(&headers, Body::from("{}")).await.unwrap_err();
        assert_eq!(
            error.message(),
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        headers.insert(CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        assert_eq!(document(&headers, Body::from("{}")).await.unwrap(), Some(json!({})));
        assert!(document(&headers, Body::from("{} x")).await.is_err());
    }
}
