//! `receipt`: the short code that a person carries back by hand (`docs/spec/custody.md`, 6).
//!
//! It is the only thing that leaves the high side, so it is small enough to be read and understood
//! before it does: two digests' beginnings, a sequence, two flags. The code that was given out is
//! kept in the audit log.

use bundle_format::digest::Sha384;
use bundle_format::receipt::{Health, Installed, Prefix, Receipt};
use qrcode::{Color, EcLevel, QrCode};

use crate::audit::anchor::card;
use crate::audit::head::Head;
use crate::engine::Podman;
use crate::error::{ErrorKind, Result};
use crate::health;
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::release::Release;
use crate::state::{Generation, State};
use crate::store::Store;

/// Light modules around a QR code (ISO/IEC 18004, 9.1).
const QUIET: i32 = 4;

/// What is on record and how it is now: the newest bundle received, and the active one. With
/// several products installed, `product` says which.
pub fn read(state: &State, paths: &Paths, host: &HostFacts, product: Option<&str>) -> Result<Receipt> {
    let received = state.newest_ok("receive", product)?;
    let arrived = received.map(|detail| arrived(&detail)).transpose()?;
    let installed = active(state, product)?.map(|generation| installed(&generation, paths, host)).transpose()?;
    Ok(Receipt { arrived, installed })
}

/// The active generation that a receipt is about.
pub fn active(state: &State, product: Option<&str>) -> Result<Option<Generation>> {
    let mut active = state.active_generations()?;
    active.retain(|generation| product.is_none_or(|product| generation.product == product));
    if active.len() > 1 {
        let names: Vec<&str> = active.iter().map(|generation| generation.product.as_str()).collect();
        let why = format!("several products are installed ({}); name one with --product", names.join(", "));
        return Err(ErrorKind::Usage { why }.into());
    }
    Ok(active.pop())
}

/// The row's detail begins with the manifest's SHA-384.
fn arrived(detail: &str) -> Result<Prefix> {
    let digits: String = detail.chars().take(96).collect();
    let parsed = Sha384::parse(&digits).map_err(|_| ErrorKind::Unexpected {
        what: "history: detail of the newest receive".into(),
        expected: "the manifest's SHA-384 first".into(),
        found: bundle_format::text::escaped(&digits),
    })?;
    Ok(Prefix::of(&parsed))
}

fn installed(generation: &Generation, paths: &Paths, host: &HostFacts) -> Result<Installed> {
    let release = Release::load(&generation.parse()?, &Store::peek(&paths.store()))?;
    let healthy = match Podman::detect(paths, host)? {
        Some(podman) => health::problems(&podman, &release)?.is_empty(),
        None => false,
    };
    Ok(Installed {
        prefix: Prefix::of(&Sha384::parse(&generation.manifest_sha384)?),
        sequence: u32::try_from(generation.sequence).unwrap_or(u32::MAX),
        health: if healthy { Health::Healthy } else { Health::Unhealthy },
    })
}

/// Lines of the receipt for a person, and where the audit log ends.
pub fn lines(receipt: &Receipt, head: &Head) -> Vec<String> {
    let prefix = |prefix: &Prefix| format!("manifest SHA-384 {}…", prefix.hex());
    let installed = receipt.installed.as_ref().map_or("nothing".into(), |installed| {
        let health = if installed.health == Health::Healthy { "healthy" } else { "NOT healthy" };
        format!("{}, sequence {}, {health}", prefix(&installed.prefix), installed.sequence)
    });
    vec![
        format!("arrived    {}", receipt.arrived.as_ref().map_or("nothing".into(), prefix)),
        format!("installed  {installed}"),
        format!("code       {}", receipt.to_code()),
        format!("audit log  {}", card(head)),
    ]
}

/// How a QR code is set on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Black on white by colour codes.
    Colour,
    /// Blocks for the light modules, for the dark ground that terminals have.
    Plain,
}

/// The code as a QR code of half blocks, two modules a letter.
pub fn qr(code: &str, paint: Paint) -> Result<Vec<String>> {
    let plain = code.replace(' ', "");
    let code =
        QrCode::with_error_correction_level(plain.as_bytes(), EcLevel::M).map_err(|e| ErrorKind::Unexpected {
            what: "QR code".into(),
            expected: "a code of a receipt's length".into(),
            found: e.to_string(),
        })?;
    let (width, colours) = (i32::try_from(code.width()).unwrap_or(0), code.to_colors());
    let dark = |x: i32, y: i32| {
        let inside = (0..width).contains(&x) && (0..width).contains(&y);
        let at = usize::try_from(y * width + x).ok().filter(|_| inside);
        at.and_then(|at| colours.get(at)).is_some_and(|colour| *colour == Color::Dark)
    };
    let block =
        |x: i32, y: i32| match (dark(x, y) == (paint == Paint::Colour), dark(x, y + 1) == (paint == Paint::Colour)) {
            (true, true) => '\u{2588}',
            (true, false) => '\u{2580}',
            (false, true) => '\u{2584}',
            (false, false) => ' ',
        };
    let row = |y: i32| (-QUIET..width + QUIET).map(|x| block(x, y)).collect::<String>();
    let rows = (-QUIET..width + QUIET).step_by(2).map(row);
    Ok(match paint {
        Paint::Plain => rows.collect(),
        Paint::Colour => rows.map(|row| format!("\u{1b}[30;107m{row}\u{1b}[0m")).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Outcome, Record};

    fn receipt() -> Receipt {
        Receipt { arrived: Some(Prefix::of(&Sha384::of(b"a"))), installed: None }
    }

    #[test]
    fn the_newest_receive_counts() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let now = bundle_format::timestamp::Timestamp::from_unix(0);
        let digest = |text: &str| Sha384::of(text.as_bytes()).to_string();
        let paths = Paths::new(folder.path().to_owned());
        let host = HostFacts::read(std::path::Path::new("/")).unwrap();
        let none = Receipt { arrived: None, installed: None };
        assert_eq!(read(&state, &paths, &host, None).unwrap(), none);
        let append = |act: &str, result: Outcome, detail: &str| {
            let record = Record::new(&now, act, result).of("p", "1").detail(detail);
            state.audit().unwrap().append(&record).unwrap();
        };
        append("receive", Outcome::Ok, &digest("older"));
        append("receive", Outcome::Ok, &format!("{} more", digest("newest")));
        append("receive", Outcome::Failed, &digest("failed"));
        append("install", Outcome::Ok, &digest("other act"));
        let arrived = |product| read(&state, &paths, &host, product).unwrap().arrived;
        assert_eq!(arrived(None), Some(Prefix::of(&Sha384::of(b"newest"))));
        assert_eq!((arrived(Some("p")), arrived(Some("q"))), (arrived(None), None));
        append("receive", Outcome::Ok, "no digest");
        let error = read(&state, &paths, &host, None).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unexpected { .. }), "{error}");
    }

    #[test]
    fn the_qr_code_has_the_modules_of_the_code() {
        let code = receipt().to_code();
        let modules = QrCode::with_error_correction_level(code.replace(' ', ""), EcLevel::M).unwrap();
        let rows = qr(&code, Paint::Plain).unwrap();
        let quiet = usize::try_from(QUIET).unwrap();
        let light = |x: usize, y: usize| {
            let (x, y) = (x + quiet, y + quiet);
            let c = rows[y / 2].chars().nth(x).unwrap();
            matches!((c, y % 2), ('\u{2588}', _) | ('\u{2580}', 0) | ('\u{2584}', 1))
        };
        for (at, colour) in modules.to_colors().iter().enumerate() {
            assert_eq!(light(at % modules.width(), at / modules.width()), *colour == Color::Light, "module {at}");
        }
        assert!(rows[0].chars().all(|c| c == '\u{2588}'), "the quiet zone is light");
        let coloured = qr(&code, Paint::Colour).unwrap();
        assert!(coloured.iter().all(|row| row.starts_with("\u{1b}[30;107m") && row.ends_with("\u{1b}[0m")));
    }
}
