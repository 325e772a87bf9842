//! Why a blob that others built is carried raw.

use super::trial::{Rooms, Trial};
use super::{Sketches, already, do_not_pay};
use crate::error::Result;
use crate::recognise::{Kind, Recogniser};

/// Why a blob is carried as its own bytes, found out from these as a build finds it out.
pub(crate) struct WhyRaw {
    size: u64,
    recogniser: Recogniser,
    found: Found,
}

enum Found {
    Nothing,
    Trial(Box<Trial>),
    Why(String),
}

impl WhyRaw {
    /// Of a blob of so many bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self { size, recogniser: Recogniser::default(), found: Found::Nothing }
    }

    /// Takes the blob's next bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.found {
            Found::Why(_) => Ok(()),
            Found::Trial(trial) => {
                if let Err(why) = trial.take(bytes, &mut |_| Ok(()))? {
                    self.found = Found::Why(why);
                }
                Ok(())
            }
            Found::Nothing => {
                let Some((kind, rest)) = self.recogniser.take(bytes) else { return Ok(()) };
                self.begin(kind)?;
                self.take(rest)
            }
        }
    }

    fn begin(&mut self, kind: Kind) -> Result<()> {
        self.found = match kind {
            Kind::Compressed(name) => Found::Why(already(name)),
            Kind::Other => Found::Why("it is carried as it is, though nothing had compressed it".into()),
            Kind::Gzip => Found::Trial(Box::new(Trial::new(self.size, Sketches::NotWanted, None, &Rooms::default()))),
        };
        let head = self.recogniser.head().to_vec();
        if kind == Kind::Gzip { self.take(&head) } else { Ok(()) }
    }

    /// Says it.
    pub(crate) fn finish(mut self) -> Result<String> {
        if matches!(self.found, Found::Nothing) {
            self.begin(self.recogniser.judge())?;
        }
        Ok(match self.found {
            Found::Why(why) => why,
            Found::Trial(mut trial) => match trial.finish(&mut |_| Ok(()))? {
                Err(why) => why,
                Ok((estimate, _)) => do_not_pay(estimate, self.size).unwrap_or_else(|| {
                    format!("it is carried as it is, though its tokens would be about {estimate} bytes")
                }),
            },
            Found::Nothing => String::new(),
        })
    }
}
