//! YAML that people write: bounded, unknown fields refused by the types.

use serde::de::DeserializeOwned;

use crate::{ErrorKind, Result, limits};

/// Parses the text of `file` as one YAML document. The parser refuses doubled keys and alias bombs. A tag
/// makes nothing of what it stands before: what is read is what would be read without it (R-REL-2).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Read {
        text: String,
        number: u8,
        list: Vec<String>,
    }

    #[test]
    fn a_tag_makes_nothing_of_a_value() {
        let plain: Read = parse("t", "text: aGk=\nnumber: 1\nlist: [reboot]\n").unwrap();
        for tagged in [
            "text: !!binary aGk=\nnumber: 1\nlist: [reboot]\n",
            "text: !local aGk=\nnumber: 1\nlist: !!python/object/apply:os.system [reboot]\n",
            "text: !<tag:yaml.org,2002:python/name:os.system> aGk=\nnumber: 1\nlist: !local [!other reboot]\n",
            "--- !!python/object:os.system\ntext: aGk=\nnumber: 1\nlist: [reboot]\n",
        ] {
            assert_eq!(parse::<Read>("t", tagged).unwrap(), plain, "{tagged}");
        }
        for bad in [
            "text: !!binary [a]\nnumber: 1\nlist: []\n",
            "text: a\nnumber: !!binary AQ==\nlist: []\n",
            "text: a\nnumber: 1\nlist: !!set reboot\n",
        ] {
            assert!(matches!(parse::<Read>("t", bad).unwrap_err().kind(), ErrorKind::Yaml { .. }), "{bad}");
        }
    }
}
