//! The list of a set's files (spec 16.5): what a guard, a label and a custody record name.
//!
//! The list proves nothing by itself: it is for tools that compare file hashes before any of our
//! programs reads a byte. What is installed is proved by the signed manifest alone.

use serde::{Deserialize, Serialize};

use crate::digest::Sha384;
use crate::marking::Marking;
use crate::name::{check_file_name, check_label};
use crate::{ErrorKind, Result, limits};

/// The `format` value of this version.
pub const FORMAT: &str = "lockgate-set/1";
/// File name of the list beside the volumes.
pub const FILE_NAME: &str = "set.json";

/// Names every file of one set with its size and SHA-384.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetList {
    /// Always [`FORMAT`].
    pub format: String,
    /// Set id, 32 lower-case hexadecimal digits.
    pub set: String,
    /// Product of the bundle.
    pub product: String,
    /// Version of the bundle, for people.
    pub release: String,
    /// Anti-rollback counter of the bundle.
    pub sequence: u64,
    /// Marking of the bundle.
    pub marking: Marking,
    /// SHA-384 of the bundle's signed manifest: the bundle's identity.
    pub manifest_sha384: Sha384,
    /// Bytes of the whole bundle.
    pub archive_size: u64,
    /// Volumes that hold the bundle's bytes.
    pub data_volumes: u16,
    /// Volumes that restore lost ones.
    pub parity_volumes: u16,
    /// The files, number 1 first.
    pub files: Vec<SetFile>,
}

/// One volume as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFile {
    /// File name.
    pub name: String,
    /// Number of the volume, from 1; data volumes come first.
    pub number: u16,
    /// Bytes.
    pub size: u64,
    /// SHA-384 of the whole file, as `sha384sum` prints it.
    pub sha384: Sha384,
}

impl SetList {
    /// Parses a list and checks it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let list: Self = crate::json::parse_canonical("set list", bytes, limits::SET_LIST_BYTES)?;
        list.check()?;
        Ok(list)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        crate::json::to_bytes("set list", self)
    }

    fn check(&self) -> Result<()> {
        let inconsistent = |why: String| ErrorKind::Inconsistent { what: "set list".into(), why };
        if self.format != FORMAT {
            let (what, expected) = ("set list".into(), FORMAT.into());
            return Err(ErrorKind::UnknownFormat { what, expected, found: self.format.clone() }.into());
        }
        check_label("product", &self.product)?;
        check_file_name("release", &self.release)?;
        if self.set.len() != 32 || crate::text::unhex(&self.set).is_none() {
            return Err(inconsistent("the set id is not 32 lower-case hexadecimal digits".into()).into());
        }
        let total = usize::from(self.data_volumes) + usize::from(self.parity_volumes);
        if self.data_volumes == 0 || self.files.len() != total {
            return Err(inconsistent(format!("{} files are listed, expected {total}", self.files.len())).into());
        }
        for (index, file) in self.files.iter().enumerate() {
            check_file_name("volume file", &file.name)?;
            if usize::from(file.number) != index + 1 {
                return Err(inconsistent(format!("volume {} stands at place {}", file.number, index + 1)).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> SetList {
        let file = |number: u16| SetFile {
            name: format!("v{number}.lgv"),
            number,
            size: 5,
            sha384: Sha384::of(&number.to_be_bytes()),
        };
        SetList {
            format: FORMAT.into(),
            set: "00112233445566778899aabbccddeeff".into(),
            product: "test".into(),
            release: "1".into(),
            sequence: 1,
            marking: Marking::UNCLASSIFIED,
            manifest_sha384: Sha384::of(b"m"),
            archive_size: 9,
            data_volumes: 2,
            parity_volumes: 1,
            files: vec![file(1), file(2), file(3)],
        }
    }

    #[test]
    fn round_trip_and_refusals() {
        let good = list();
        assert_eq!(SetList::parse(&good.to_bytes().unwrap()).unwrap(), good);
        let swapped = SetList { files: good.files.iter().rev().cloned().collect(), ..list() };
        let short = SetList { files: good.files[..2].to_vec(), ..list() };
        let set = SetList { set: "xyz".into(), ..list() };
        for bad in [swapped, short, set] {
            assert!(matches!(bad.to_bytes().unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
        }
        let other = SetList { format: "lockgate-set/2".into(), ..list() };
        assert!(matches!(other.to_bytes().unwrap_err().kind(), ErrorKind::UnknownFormat { .. }));
    }
}
