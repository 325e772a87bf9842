//! Finding a token and opening it with its PIN.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as P11Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::TokenInfo;
use cryptoki::types::AuthPin;

use crate::error::{ErrorKind, Result};
use crate::token::{Address, TokenScheme};

/// A loaded PKCS#11 library.
#[derive(Debug)]
pub struct Module {
    path: PathBuf,
    context: Pkcs11,
}

/// What a token says of the PIN attempts that are left; PKCS#11 has no number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// It says nothing.
    Unsaid,
    /// At least one wrong PIN since the last right one.
    Low,
    /// One attempt is left.
    Last,
}

impl Attempts {
    /// For a person.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unsaid => "the token does not say how many attempts are left",
            Self::Low => "the token warns that attempts are running low",
            Self::Last => "ONE attempt is left before the token locks",
        }
    }

    fn of(info: &TokenInfo) -> Self {
        match (info.user_pin_final_try(), info.user_pin_count_low()) {
            (true, _) => Self::Last,
            (false, true) => Self::Low,
            (false, false) => Self::Unsaid,
        }
    }
}

/// A token that is there, not opened yet.
#[derive(Debug)]
pub struct Slot {
    module: Module,
    number: cryptoki::slot::Slot,
    info: TokenInfo,
}

/// A token that took its PIN. Closed on drop.
#[derive(Debug)]
pub struct OpenToken {
    pub(super) session: Session,
    pub(super) label: String,
    pub(super) serial: String,
    pub(super) module: PathBuf,
    pub(super) mechanisms: Vec<cryptoki::mechanism::MechanismType>,
}

impl Module {
    /// Loads a library. It runs in this process with this user's rights, so one that somebody else
    /// may have written is refused.
    pub fn load(path: &Path) -> Result<Self> {
        let bad = |why: String| ErrorKind::TokenModule { module: path.into(), why };
        if !path.is_absolute() {
            return Err(bad("its path is not absolute".into()).into());
        }
        let found = path.metadata().map_err(|e| bad(e.to_string()))?;
        let own = [0, std::fs::metadata("/proc/self").map_err(|e| bad(e.to_string()))?.uid()];
        if !own.contains(&found.uid()) || found.permissions().mode() & 0o022 != 0 {
            let mode = found.permissions().mode() & 0o7777;
            return Err(bad(format!("others may write it (owner {}, mode {mode:04o})", found.uid())).into());
        }
        let context = Pkcs11::new(path).map_err(|e| bad(e.to_string()))?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(P11Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(e) => return Err(bad(e.to_string()).into()),
        }
        Ok(Self { path: path.into(), context })
    }

    /// Finds a token by label and, where it is given, serial number.
    pub fn find(self, label: &str, serial: Option<&str>) -> Result<Slot> {
        let broken = |e: P11Error| token_error(label, &e);
        let mut all = Vec::new();
        for slot in self.context.get_slots_with_initialized_token().map_err(broken)? {
            all.push((slot, self.context.get_token_info(slot).map_err(broken)?));
        }
        let shown = |(_, info): &(_, TokenInfo)| {
            bundle_format::text::escaped(&format!("{} (serial {})", info.label(), info.serial_number()))
        };
        let tokens: Vec<String> = all.iter().map(shown).collect();
        let mut same: Vec<_> = all.into_iter().filter(|(_, info)| info.label() == label).collect();
        if same.is_empty() {
            return Err(ErrorKind::TokenMissing { label: label.into(), module: self.path, found: tokens }.into());
        }
        let labelled: Vec<String> = same.iter().map(shown).collect();
        if let Some(serial) = serial {
            same.retain(|(_, info)| info.serial_number() == serial);
        }
        match (same.pop(), same.is_empty()) {
            (Some((slot, info)), true) => Ok(Slot { module: self, number: slot, info }),
            (Some(_), false) => Err(ErrorKind::TokenAmbiguous { label: label.into(), found: labelled }.into()),
            (None, _) => Err(ErrorKind::OtherToken {
                label: label.into(),
                expected: serial.unwrap_or_default().into(),
                found: labelled,
            }
            .into()),
        }
    }
}

impl Slot {
    /// The token that `address` names.
    pub fn of(address: &Address) -> Result<Self> {
        Module::load(&address.module)?.find(&address.token, address.serial.as_deref())
    }

    /// The token's label.
    pub fn label(&self) -> &str {
        self.info.label()
    }

    /// Whether the other is the same token, of which one PIN is enough.
    pub fn is_same(&self, other: &Self) -> bool {
        let name = |slot: &Self| (slot.info.label().to_owned(), slot.info.serial_number().to_owned());
        self.module.path == other.module.path && name(self) == name(other)
    }

    /// Whether the token signs with `S`; it says so without its PIN.
    pub fn signs<S: TokenScheme>(&self) -> Result<bool> {
        let mechanisms = self.module.context.get_mechanism_list(self.number);
        let mechanisms = mechanisms.map_err(|e| token_error(self.info.label(), &e))?;
        Ok(mechanisms.contains(&S::sign().mechanism_type()))
    }

    /// What it says of PIN attempts.
    pub fn attempts(&self) -> Attempts {
        Attempts::of(&self.info)
    }

    /// Whether the PIN is typed on the token's own pad.
    pub fn has_pin_pad(&self) -> bool {
        self.info.protected_authentication_path()
    }

    /// Refuses a token that takes no PIN, before anybody is asked for it.
    pub fn check_pin(&self) -> Result<()> {
        let label = self.info.label().to_owned();
        if self.info.user_pin_locked() {
            return Err(ErrorKind::PinLocked { label }.into());
        }
        if !self.info.user_pin_initialized() {
            return Err(ErrorKind::PinNotSet { label }.into());
        }
        Ok(())
    }

    /// Opens the token. `pin` is `None` for a token with a pad of its own. One attempt is made: a
    /// program that tries again by itself locks tokens.
    pub fn open(self, pin: Option<&[u8]>) -> Result<Rc<OpenToken>> {
        self.check_pin()?;
        let label = self.info.label().to_owned();
        let broken = |e: P11Error| token_error(&label, &e);
        let context = &self.module.context;
        let session = context.open_rw_session(self.number).map_err(broken)?;
        let pin = pin.map(|pin| String::from_utf8(pin.to_vec()).map(|pin| AuthPin::new(pin.into_boxed_str())));
        let pin = pin.transpose().map_err(|_| ErrorKind::Pin { label: label.clone(), attempts: self.attempts() })?;
        match session.login(UserType::User, pin.as_ref()) {
            Ok(()) | Err(P11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(P11Error::Pkcs11(RvError::PinLocked, _)) => return Err(ErrorKind::PinLocked { label }.into()),
            Err(P11Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinExpired,
                _,
            )) => {
                // Asked anew: this attempt may have been the last.
                let now = context.get_token_info(self.number).map_err(broken)?;
                if now.user_pin_locked() {
                    return Err(ErrorKind::PinLocked { label }.into());
                }
                return Err(ErrorKind::Pin { label, attempts: Attempts::of(&now) }.into());
            }
            Err(e) => return Err(broken(e)),
        }
        let mechanisms = context.get_mechanism_list(self.number).map_err(broken)?;
        let serial = self.info.serial_number().to_owned();
        Ok(Rc::new(OpenToken { session, label, serial, module: self.module.path, mechanisms }))
    }
}

/// An error that has no kind of its own.
pub(super) fn token_error(label: &str, error: &P11Error) -> crate::Error {
    ErrorKind::Token { label: label.into(), why: error.to_string() }.into()
}
