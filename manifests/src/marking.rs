//! Classification markings: level and dissemination controls (DoDM 5200.01 V2, CAPCO order).
//!
//! The first cut of the grammar: `LEVEL[//CONTROL[/CONTROL…]]`. SCI, SAP, AEA and FGI blocks are
//! refused by name until the full grammar is here: a marking that is not understood is never shown
//! as if it were.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ErrorKind, Result};

/// Classification level, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// UNCLASSIFIED.
    Unclassified,
    /// CUI (controlled unclassified information, 32 CFR 2002).
    Cui,
    /// CONFIDENTIAL.
    Confidential,
    /// SECRET.
    Secret,
    /// TOP SECRET.
    TopSecret,
}

/// Dissemination control, in banner order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Control {
    /// ORCON: originator controlled.
    Orcon,
    /// NOFORN: not releasable to foreign nationals.
    Noforn,
    /// PROPIN: proprietary information.
    Propin,
    /// REL TO, with USA first and the other codes in alphabetical order.
    RelTo(Vec<String>),
    /// RELIDO: releasable by the information disclosure official.
    Relido,
}

/// A parsed marking; its [`fmt::Display`] form is the banner line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Marking {
    level: Level,
    controls: Vec<Control>,
}

impl Marking {
    /// The marking `UNCLASSIFIED`.
    pub const UNCLASSIFIED: Self = Self { level: Level::Unclassified, controls: Vec::new() };

    /// Parses a banner line.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| ErrorKind::Marking { found: text.chars().take(200).collect(), why: why.to_owned() };
        let (level, rest) = match text.split_once("//") {
            Some((level, rest)) => (level, Some(rest)),
            None => (text, None),
        };
        let level = Level::parse(level)
            .ok_or_else(|| refuse("expected UNCLASSIFIED, CUI, CONFIDENTIAL, SECRET or TOP SECRET first"))?;
        let controls = match rest {
            None => Vec::new(),
            Some(rest) if rest.contains("//") => {
                return Err(refuse("only level and dissemination controls are understood by this version").into());
            }
            Some(rest) => rest
                .split('/')
                .map(|word| Control::parse(word).ok_or_else(|| refuse("unknown or malformed dissemination control")))
                .collect::<std::result::Result<Vec<_>, _>>()?,
        };
        if !controls.iter().zip(controls.iter().skip(1)).all(|(a, b)| a.rank() < b.rank()) {
            return Err(refuse("dissemination controls are doubled or out of order").into());
        }
        let has = |rank| controls.iter().any(|control| control.rank() == rank);
        if level <= Level::Cui && !controls.is_empty() {
            return Err(refuse("dissemination controls need a classified level").into());
        }
        if has(1) && (has(3) || has(4)) {
            return Err(refuse("NOFORN excludes REL TO and RELIDO").into());
        }
        Ok(Self { level, controls })
    }

    /// The level.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The dissemination controls in banner order.
    pub fn controls(&self) -> &[Control] {
        &self.controls
    }

    /// Whether a system accredited for `site` may hold this. The level decides; a site accredited
    /// with REL TO holds only what may be released to all of its countries.
    pub fn is_within(&self, site: &Self) -> bool {
        let countries = |marking: &Self| {
            marking.controls.iter().find_map(|control| match control {
                Control::RelTo(codes) => Some(codes.clone()),
                _ => None,
            })
        };
        let releasable = match countries(site) {
            None => true,
            Some(_) if self.level <= Level::Cui => true,
            Some(needed) => countries(self).is_some_and(|codes| needed.iter().all(|code| codes.contains(code))),
        };
        self.level <= site.level && releasable
    }
}

impl Level {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Unclassified, "UNCLASSIFIED"),
        (Self::Cui, "CUI"),
        (Self::Confidential, "CONFIDENTIAL"),
        (Self::Secret, "SECRET"),
        (Self::TopSecret, "TOP SECRET"),
    ];

    /// Background colour of a banner or label after the SF 700 series: red, green, blue.
    pub const fn colour(self) -> [u8; 3] {
        match self {
            Self::Unclassified => [0, 122, 51],
            Self::Cui => [80, 43, 133],
            Self::Confidential => [0, 51, 160],
            Self::Secret => [200, 16, 46],
            Self::TopSecret => [255, 140, 0],
        }
    }

    /// Whether text on [`Self::colour`] is black; else it is white.
    pub const fn dark_text(self) -> bool {
        matches!(self, Self::TopSecret)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(level, _)| level)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.into_iter().find(|(level, _)| level == self).map_or("", |(_, name)| name))
    }
}

impl Control {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ORCON" => Some(Self::Orcon),
            "NOFORN" => Some(Self::Noforn),
            "PROPIN" => Some(Self::Propin),
            "RELIDO" => Some(Self::Relido),
            _ => {
                let codes: Vec<String> = text.strip_prefix("REL TO ")?.split(", ").map(str::to_owned).collect();
                let (first, others) = codes.split_first()?;
                let well_formed =
                    |code: &String| (3..=4).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase());
                let ordered = others.iter().zip(others.iter().skip(1)).all(|(a, b)| a < b);
                (first == "USA" && !others.is_empty() && ordered && others.iter().all(|c| well_formed(c) && c != "USA"))
                    .then_some(Self::RelTo(codes))
            }
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Orcon => 0,
            Self::Noforn => 1,
            Self::Propin => 2,
            Self::RelTo(_) => 3,
            Self::Relido => 4,
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orcon => f.write_str("ORCON"),
            Self::Noforn => f.write_str("NOFORN"),
            Self::Propin => f.write_str("PROPIN"),
            Self::RelTo(codes) => write!(f, "REL TO {}", codes.join(", ")),
            Self::Relido => f.write_str("RELIDO"),
        }
    }
}

impl fmt::Display for Marking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level.fmt(f)?;
        for (index, control) in self.controls.iter().enumerate() {
            f.write_str(if index == 0 { "//" } else { "/" })?;
            control.fmt(f)?;
        }
        Ok(())
    }
}

impl Serialize for Marking {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Marking {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for text in [
            "UNCLASSIFIED",
            "CUI",
            "CONFIDENTIAL",
            "SECRET//NOFORN",
            "TOP SECRET//ORCON/NOFORN",
            "SECRET//REL TO USA, AUS, GBR/RELIDO",
        ] {
            assert_eq!(Marking::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "secret",
            "SECRET ",
            "SECRET//",
            "SECRET//NOFORN/ORCON",
            "SECRET//NOFORN/NOFORN",
            "SECRET//SI//NOFORN",
            "SECRET//NOFORN/REL TO USA, GBR",
            "SECRET//REL TO GBR, USA",
            "SECRET//REL TO USA",
            "SECRET//REL TO USA, GBR, AUS",
            "UNCLASSIFIED//NOFORN",
            "SECRET//TK",
            "SECRET\n",
        ] {
            assert!(matches!(Marking::parse(text).unwrap_err().kind(), ErrorKind::Marking { .. }), "{text}");
        }
    }

    #[test]
    fn within_site() {
        let parse = |text| Marking::parse(text).unwrap();
        assert!(parse("UNCLASSIFIED").is_within(&parse("SECRET")));
        assert!(!parse("SECRET").is_within(&parse("CUI")));
        assert!(parse("SECRET//NOFORN").is_within(&parse("SECRET")));
        assert!(!parse("SECRET//NOFORN").is_within(&parse("SECRET//REL TO USA, GBR")));
        assert!(parse("SECRET//REL TO USA, AUS, GBR").is_within(&parse("SECRET//REL TO USA, GBR")));
    }
}
