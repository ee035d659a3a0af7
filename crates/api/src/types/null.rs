//! How clients say "nothing": by leaving a field out, or by null.
use serde::{Deserialize, Deserializer};

/// `null` means the type's default, as it does for every Go decoder.
pub fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
