//! `keygen`, and opening a signer for the commands that sign: passphrase and PIN come from a
//! terminal or a file descriptor, never from the command line or the environment.

use std::path::{Path, PathBuf};

use clap::Args;
use signing_keys::file::{KeyFiles, check_passphrase};
use signing_keys::token::{Address, Kept, Module, OpenToken, Slot};
use signing_keys::{PublicSigner, Signer};
use zeroize::Zeroizing;

use crate::cli::print;
use crate::error::{ErrorKind, Result};
use crate::output::passphrase;

const PASSPHRASE_FILE: &str = "--passphrase-file";

/// How the secrets of a signer reach the program.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// File whose first line is the passphrase (/dev/fd/N for a descriptor); default: ask.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Open file descriptor whose first line is the token's PIN; default: ask.
    #[arg(long, value_name = "N")]
    pin_fd: Option<u32>,
}

impl SecretArgs {
    pub(crate) fn passphrase(&self, prompt: &str) -> Result<Zeroizing<Vec<u8>>> {
        passphrase(self.passphrase_file.as_deref(), prompt, PASSPHRASE_FILE)
    }

    /// A new passphrase, typed twice where it is typed.
    fn new_passphrase(&self, name: &str) -> Result<Zeroizing<Vec<u8>>> {
        let secret = self.passphrase(&format!("New passphrase for {name}: "))?;
        if self.passphrase_file.is_none() && passphrase(None, "Again: ", PASSPHRASE_FILE)? != secret {
            return Err(ErrorKind::Usage("the two passphrases differ".into()).into());
        }
        Ok(check_passphrase(&secret).map(|()| secret)?)
    }

    /// Opens a token; the prompt says how it stands with attempts.
    fn open(&self, slot: Slot) -> Result<OpenToken> {
        if slot.has_pin_pad() && self.pin_fd.is_none() {
            return Ok(slot.open(None)?);
        }
        slot.check_pin()?;
        let file = self.pin_fd.map(|number| PathBuf::from(format!("/dev/fd/{number}")));
        let label = bundle_format::text::escaped(slot.label());
        let prompt = format!("PIN of token {label} ({}): ", slot.attempts().words());
        let pin = passphrase(file.as_deref(), &prompt, "--pin-fd")?;
        Ok(slot.open(Some(&pin))?)
    }
}

/// Which signer signs.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The signer: FOLDER/NAME as given to keygen.
    #[arg(long, value_name = "FOLDER/NAME")]
    key: PathBuf,
    #[command(flatten)]
    secrets: SecretArgs,
}

impl KeyArgs {
    /// Opens the signer.
    pub fn open(&self) -> Result<Signer> {
        open_key(&self.key, &self.secrets)
    }
}

/// Opens the signer `key`, FOLDER/NAME.
pub(crate) fn open_key(key: &Path, secrets: &SecretArgs) -> Result<Signer> {
    let usage = || ErrorKind::Usage("--key takes FOLDER/NAME, the folder and the name given to keygen".into());
    let name = key.file_name().and_then(|name| name.to_str()).ok_or_else(usage)?;
    let folder = key.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = KeyFiles::of(folder, name);
    if files.is_split() {
        let token = secrets.open(Slot::of(&files.token_address()?)?)?;
        let secret = secrets.passphrase(&format!("Passphrase of {name}'s ML-DSA-87 key: "))?;
        return Ok(files.open_split(name, token, &secret)?);
    }
    let secret = secrets.passphrase(&format!("Passphrase of {name}: "))?;
    Ok(files.open(name, &secret)?)
}

/// Arguments of `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Holder's name (a-z, 0-9, hyphens).
    #[arg(long)]
    name: String,
    /// Folder for the files.
    #[arg(long)]
    out: PathBuf,
    /// A PKCS#11 library: the Ed25519 key is made in its token, the ML-DSA-87 key stays a sealed file.
    #[arg(long, value_name = "MODULE", requires = "token")]
    pkcs11: Option<PathBuf>,
    /// The token's label.
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    token: Option<String>,
    /// The token's serial number, where several have the label.
    #[arg(long, value_name = "SERIAL", requires = "pkcs11")]
    token_serial: Option<String>,
    /// Takes a key that the token has, by its label, instead of making one.
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    adopt: Option<String>,
    #[command(flatten)]
    secrets: SecretArgs,
}

impl KeygenArgs {
    /// Makes the signer and its files.
    pub fn run(&self) -> Result<()> {
        let files = KeyFiles::of(&self.out, &self.name);
        // Before anything is made: a key in a token is not taken back by a later error.
        files.refuse_existing()?;
        bundle_format::name::check_label("key holder", &self.name)?;
        let secret = self.secrets.new_passphrase(&self.name)?;
        let signer = match (&self.pkcs11, &self.token) {
            (Some(module), Some(token)) => self.split(module, token)?,
            _ => Signer::generate(&self.name)?,
        };
        // One signature shows that the token really signs with the key whose public half it names.
        signer.sign(b"lockgate keygen self-test", "self-test")?;
        files.write(&signer, &secret)?;
        let first = match signer.token_key() {
            Some(key) => format!("token   {} names {}", files.token.display(), key.address().to_uri()),
            None => format!("sealed  {}", files.ed25519.display()),
        };
        let mut lines = vec![
            first,
            format!("sealed  {}", files.ml_dsa_87.display()),
            format!("public  {}", files.public.display()),
            format!("public  {} (for stock minisign)", files.minisign_public.display()),
        ];
        lines.extend(key_lines(&signer.public()));
        if let Some(key) = signer.token_key() {
            lines.push(match key.kept() {
                Kept::AlwaysInside => "the token says: made inside, never outside, cannot be taken out".into(),
                Kept::MayHaveBeenOutside => {
                    "WARNING: the token does not say that this key never was and never comes outside".into()
                }
            });
            lines.push("split signer: its ML-DSA-87 key is a sealed file, not in hardware".into());
        }
        print(&lines)
    }

    fn split(&self, module: &Path, token: &str) -> Result<Signer> {
        let slot = Module::load(module)?.find(token, self.token_serial.as_deref())?;
        let open = self.secrets.open(slot)?;
        let key = match &self.adopt {
            Some(label) => open.key(&Address {
                module: module.into(),
                token: token.into(),
                serial: None,
                object: Some(label.clone()),
                id: None,
            })?,
            None => open.generate(&self.name)?,
        };
        Ok(Signer::generate_split(&self.name, key)?)
    }
}

fn key_lines(public: &PublicSigner) -> Vec<String> {
    public.holder().keys.iter().map(|key| format!("key id  {}  {}", key.id(), key.scheme())).collect()
}
