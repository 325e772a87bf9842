//! YAML that people write: bounded, unknown fields refused by the types.

use serde::de::DeserializeOwned;

use crate::{ErrorKind, Result, limits};

/// Parses the text of `file` as one YAML document. The parser refuses doubled keys and alias bombs.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    let found = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if found > limits::YAML_BYTES {
        return Err(ErrorKind::TooLarge { what: file.into(), limit: limits::YAML_BYTES, found }.into());
    }
    serde_yaml::from_str(text)
        .map_err(|error| ErrorKind::Yaml { file: file.into(), why: crate::text::escaped(&error.to_string()) }.into())
}

/// Writes a value as YAML.
pub fn to_string<T: serde::Serialize>(what: &str, value: &T) -> Result<String> {
    serde_yaml::to_string(value).map_err(|error| ErrorKind::Yaml { file: what.into(), why: error.to_string() }.into())
}
