//! `key=value,key=value` arguments: media and people of a hand-over.

use bundle_format::custody::{Medium, Person};

use crate::error::{ErrorKind, Result};

/// Volumes that one medium may name: far more than a medium holds.
const VOLUMES: usize = 4096;

/// `type=dvd,label=ABC,volumes=1-2,finalised=yes`; volumes are numbers and ranges, joined by commas.
pub fn medium(text: &str) -> Result<Medium> {
    let fields = Fields::parse("--media", text, &["type", "label", "volumes", "finalised"])?;
    let finalised = match fields.required("finalised")? {
        "yes" => true,
        "no" => false,
        other => return Err(fields.wrong(&format!("finalised is yes or no, found {other:?}"))),
    };
    Ok(Medium {
        kind: fields.required("type")?.to_owned(),
        label: fields.required("label")?.to_owned(),
        volumes: volumes(fields.required("volumes")?)
            .ok_or_else(|| fields.wrong("volumes are rising numbers from 1 and ranges, as in 1-3,5"))?,
        finalised,
    })
}

/// `name=…,id=…,role=…` and, for a holder of keys, `holder=…`.
pub fn person(flag: &'static str, text: &str) -> Result<Person> {
    let fields = Fields::parse(flag, text, &["name", "id", "role", "holder"])?;
    Ok(Person {
        name: fields.required("name")?.to_owned(),
        id: fields.required("id")?.to_owned(),
        role: fields.required("role")?.to_owned(),
        holder: fields.get("holder").map(str::to_owned),
    })
}

fn volumes(text: &str) -> Option<Vec<u16>> {
    let mut all: Vec<u16> = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let rising = first > 0 && first <= last && all.last().is_none_or(|former| *former < first);
        if !rising || all.len() + usize::from(last - first) >= VOLUMES {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

struct Fields<'a> {
    flag: &'static str,
    values: Vec<(&'static str, &'a str)>,
}

impl<'a> Fields<'a> {
    /// A value ends where the next known key begins, so that commas may stand in names.
    fn parse(flag: &'static str, text: &'a str, keys: &[&'static str]) -> Result<Self> {
        let mut fields = Self { flag, values: Vec::new() };
        let starts = std::iter::once(0).chain(text.match_indices(',').map(|(at, _)| at + 1));
        let mut open: Option<(&'static str, usize)> = None;
        for start in starts {
            let rest = text.get(start..).unwrap_or("");
            let key = keys.iter().find(|key| rest.strip_prefix(**key).is_some_and(|tail| tail.starts_with('=')));
            let Some(key) = key else {
                if open.is_none() {
                    return Err(fields.wrong(&format!("expected {}=", keys.join("=…, "))));
                }
                continue;
            };
            if let Some((former, from)) = open {
                fields.values.push((former, text.get(from..start - 1).unwrap_or("")));
            }
            if fields.get(key).is_some() {
                return Err(fields.wrong(&format!("{key} is given twice")));
            }
            open = Some((key, start + key.len() + 1));
        }
        if let Some((last, from)) = open {
            fields.values.push((last, text.get(from..).unwrap_or("")));
        }
        Ok(fields)
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value.trim())
    }

    fn required(&self, key: &str) -> Result<&'a str> {
        self.get(key).ok_or_else(|| self.wrong(&format!("{key}= is missing")))
    }

    fn wrong(&self, why: &str) -> crate::Error {
        ErrorKind::Usage(format!("{}: {}", self.flag, bundle_format::text::escaped(why))).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media() {
        let medium = |text: &str| super::medium(text);
        let good = medium("type=dvd,label=A,1,volumes=1-3,5, 7-8,finalised=yes").unwrap();
        assert_eq!((good.kind.as_str(), good.label.as_str(), good.finalised), ("dvd", "A,1", true));
        assert_eq!(good.volumes, [1, 2, 3, 5, 7, 8]);
        for bad in [
            "",
            "dvd",
            "type=dvd",
            "type=dvd,label=A,volumes=1,finalised=maybe",
            "type=dvd,label=A,volumes=0,finalised=yes",
            "type=dvd,label=A,volumes=3-1,finalised=yes",
            "type=dvd,label=A,volumes=1,1,finalised=yes",
            "type=dvd,label=A,volumes=1-65535,finalised=yes",
            "type=dvd,type=cd,label=A,volumes=1,finalised=yes",
        ] {
            let error = medium(bad).expect_err(bad);
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{bad}: {error}");
        }
    }

    #[test]
    fn people() {
        let good = person("--giver", "name=Doe, Jane,id=1234567890,role=DTA,holder=tina").unwrap();
        assert_eq!(good.name, "Doe, Jane");
        assert_eq!(good.holder.as_deref(), Some("tina"));
        assert_eq!(person("--giver", "id=1,role=courier,name=Roe").unwrap().holder, None);
        let error = person("--receiver", "name=x,role=y").unwrap_err();
        assert_eq!(error.to_string(), "--receiver: id= is missing");
    }
}
